# The root commands; every one does its work in Python. GNU make 3.81 (macOS) is enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STARTED := $(shell date +%s)
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; exit; fi; done)
CONTEXT ?=
SECONDS ?=
REPORT ?=
# By `&&`: a CONTEXT that cannot be read must stop the command, not send it to the default deployment.
WITH_CONTEXT = CDK_CONTEXT_JSON="$$($(PY) -m deploy.context "$(CONTEXT)")" && export CDK_CONTEXT_JSON &&
WHERE = --target "$(or $(TARGET),aws)" --certs "$(CERTS)" --cloud "$(CLOUD)"
PLACE = $(WHERE) --thing "$(THING)"

.PHONY: help python setup setup-dev demo camera doctor test scorecard bench cost exact check fix snapshot synth bootstrap diff deploy destroy redrive rebuild cloud drill provision verify user web token pi lock compose-env images image-test k3d minikube certs-secret sbom shadow carbon-report

help: ## this list
	@grep -hE '^##@ |^[a-z0-9-]+:.*## ' Makefile | sed -e 's/:[^#]*## /|/' | while IFS='|' read -r name text; do \
		case "$$name" in "##@ "*) printf '\n%s\n' "$${name#* }";; *) printf '  make %-16s %s\n' "$$name" "$$text";; esac; done

python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one from python.org (macOS: brew install python@3.13), or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }

##@ See it

demo: setup ## the whole system on this machine [SECONDS=30] [REPORT=report.json] [LAN=1] [CONTEXT="k=v ..."]
	@EDGECLOUD_STARTED=$(STARTED) $(PY) -m deploy.demo --seconds "$(SECONDS)" --report "$(REPORT)" --context "$(CONTEXT)" $(if $(LAN),--lan,)

drill: setup ## break a running demo in seven ways, see the ledger, lose nothing [ONLY=cut,kill,broker,disk,certificate,throttle,rule]
	@$(PY) -m deploy.drill --only "$(ONLY)"

doctor: setup ## is everything there that a bridge needs? [ENV_FILE=certs/bridge.env] [JSON=1] [PASSIVE=1]
	@$(PY) -m deploy.doctor --env-file "$(ENV_FILE)" $(if $(JSON),--json,) $(if $(PASSIVE),--passive,)

carbon-report: setup ## what the carbon policy saves over a day, against always normal [CURVE=day.csv] [POLICY="high=400"] [ARGS="--cameras 2"]
	@$(PY) -m edge_bridge.carbon_report --curve "$(CURVE)" --policy "$(POLICY)" $(ARGS)

cost: setup ## docs/cost.md anew: what it costs, by the templates and local_cloud/cost/prices.json [PRICES=file]
	@$(PY) -m deploy.cost $(if $(PRICES),--prices "$(PRICES)",)

CAMERA_VENV ?= .venv-camera
camera: python ## count persons, the counts go to Kafka [SOURCE=0|file|directory|rtsp://...] [PREVIEW=out.jpg] [MODEL=m.onnx]
	@$(PYTHON) deploy/setup.py --lock camera --venv $(CAMERA_VENV)
	@$(CAMERA_VENV)/bin/python -m device.camera --source "$(or $(SOURCE),0)" $(if $(PREVIEW),--preview "$(PREVIEW)",) \
		$(if $(MODEL),--model "$(MODEL)",) $(ARGS)

##@ Develop

setup: python ## install everything the demo needs into .venv (idempotent)
	@$(PYTHON) deploy/setup.py --lock base

setup-dev: python
	@$(PYTHON) deploy/setup.py --lock dev

test: setup-dev ## everything that `check` does, and every test; needs no network account
	@$(PY) -m deploy.check --tests

check: setup-dev ## style, types, imports, template lint (never writes)
	@$(PY) -m deploy.check

fix: setup-dev ## let ruff put style right
	@$(VENV)/bin/ruff check --fix .

bench: setup-dev ## how fast, how small: ratios, limits and costs, to bench.json [QUICK=1] [ONLY=row] [MINUTES=n]
	@$(PY) -m tests.bench $(if $(QUICK),--quick,) $(if $(ONLY),--only $(ONLY),) $(if $(MINUTES),--minutes $(MINUTES),)

scorecard: setup-dev ## what is lost, doubled or misordered under faults, to docs/scorecard.md [FULL=1] [SEED=n] [ONLY=row]
	@$(PY) -m tests.scorecard $(if $(FULL),--full,) $(if $(SEED),--seed $(SEED),) $(if $(ONLY),--only $(ONLY),)

exact: setup-dev ## the detector's forest against scikit-learn's, label for label; 20 minutes [READINGS=n] [SEED=n]
	@$(PY) -m tests.exact $(if $(READINGS),--readings $(READINGS),) $(if $(SEED),--seed $(SEED),)

snapshot: setup-dev ## rewrite the template snapshots after an intended change
	@$(PY) -m tests.template_snapshots

synth: setup ## CloudFormation templates into cdk.out
	@$(WITH_CONTEXT) $(PY) app.py

lock: setup-dev ## resolve the dependencies anew (deploy/locks)
	@$(PY) -m deploy.lock

sbom: setup ## dist/*.cdx.json: what is in the images, as CycloneDX
	@$(PY) -m deploy.sbom

##@ AWS, and the local cloud

cloud: setup ## the local cloud by itself, until Ctrl-C [CONTEXT="k=v ..."]
	@$(PY) -m deploy.cloud --context "$(CONTEXT)" --ready-file "$(CLOUD)"

bootstrap: ## prepare your AWS account for the CDK, once
diff: ## what a deploy would change in your AWS account
deploy: ## the stacks to your AWS account [CSR=certs/EdgeCloudAWS.csr] [CONTEXT="k=v ..."] [YES=1]
destroy: ## the stacks out of your AWS account (tables and archive are kept)
bootstrap diff deploy destroy: setup
	@$(WITH_CONTEXT) $(PY) -m deploy.aws_cli $@ $(if $(YES),--yes,) $(if $(CSR),--csr $(CSR),)

provision: setup ## key, certificate and bridge.env, proven [TARGET=local] [ROTATE=1] [RETIRE=1] [ADOPT=1] [THING=name] [YES=1]
	@$(WITH_CONTEXT) $(PY) -m deploy.provision $(PLACE) --retire "$(RETIRE)" \
		$(if $(ROTATE),--rotate,) $(if $(ADOPT),--adopt,) $(if $(YES),--yes,)

verify: setup ## 220 messages through the real endpoint, every hop compared [TARGET=local] [RULES=1] [FORCE=1]
	@$(WITH_CONTEXT) $(PY) -m deploy.verify $(PLACE) $(if $(RULES),--rules,) $(if $(FORCE),--force,)

user: setup ## a person who may use the API: EMAIL=... [TARGET=local] [ASK=1] [RESET=1]
	@$(WITH_CONTEXT) $(PY) -m deploy.user create $(WHERE) --email "$(EMAIL)" $(if $(ASK),--ask,) $(if $(RESET),--reset,)

token: ## an access token for the API, for curl: EMAIL=... [TARGET=local]
	@$(WITH_CONTEXT) $(PY) -m deploy.user token $(WHERE) --email "$(EMAIL)"

web: setup ## the dashboard's page into a deployment [TARGET=local]; make deploy does it too
	@$(WITH_CONTEXT) $(PY) -m deploy.web $(WHERE)

shadow: setup ## how the bridge is set, and how it goes [SET="batch_age_s=2 log_level=DEBUG live=10m"] [CLEAR=1] [THING=name] [TARGET=local]
	@$(WITH_CONTEXT) $(PY) -m deploy.shadow $(PLACE) --set "$(SET)" $(if $(CLEAR),--clear,)

redrive: setup ## apply again what landed in dead-letter queues and error objects [NAME=edgecloud] [REGION=eu-north-1]
	@$(PY) -m deploy.redrive --name "$(or $(NAME),edgecloud)" --region "$(or $(REGION),eu-north-1)" --endpoint "$(ENDPOINT)"

rebuild: setup ## the tables again from the archive, by arrival: FROM=2026-11-01 [TO=...] [SITE=name] [DRY_RUN=1] [RATE=500] [TARGET=local]
	@$(WITH_CONTEXT) $(PY) -m deploy.rebuild --from "$(FROM)" --to "$(TO)" --site "$(SITE)" \
		--rate "$(or $(RATE),500)" --target "$(or $(TARGET),aws)" --cloud "$(CLOUD)" $(if $(DRY_RUN),--dry-run,)

##@ A site

pi: setup ## dist/edgecloud-pi.pyz: the publisher for the Raspberry Pi, one file
	@$(PY) -m deploy.pi_bundle

compose-env: setup ## deploy/.env for deploy/compose.yaml, passwords made here [TARGET=local|aws] [LOGINS=1]
	@$(PY) -m deploy.compose_env --target "$(TARGET)" $(if $(LOGINS),--logins,)

images: setup ## build the images; their tags are hashes of what is in them [ONLY=bridge]
	@$(PY) -m deploy.images build $(ONLY)

image-test: setup-dev ## build the images and run them: readings arrive; needs Docker, Podman or Buildah
	@$(PY) -m pytest -q -s tests/image/proof.py

k3d: setup ## build the images, load them into K3D and apply deploy/k8s [CLUSTER=edgecloud] [TARGET=local|aws] [MOSQUITTO=1]
	@$(PY) -m deploy.images k3d --cluster "$(CLUSTER)" --target "$(or $(TARGET),local)" $(if $(MOSQUITTO),--mosquitto,)

minikube: setup ## the same for Minikube [CLUSTER=minikube] [TARGET=local|aws] [MOSQUITTO=1]
	@$(PY) -m deploy.images minikube --cluster "$(CLUSTER)" --target "$(or $(TARGET),local)" $(if $(MOSQUITTO),--mosquitto,)

certs-secret: setup ## certs/ into the cluster's Secret; again after a rotation [CERTS=certs]
	@$(PY) -m deploy.images secret --certs "$(or $(CERTS),certs)"
