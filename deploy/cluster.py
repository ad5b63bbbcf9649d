"""A local cluster (K3D or Minikube): images in, deploy/k8s applied with their tags, Secrets made; for images.py."""
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deploy import env_file
from deploy.certificates import ROOT_CA
from deploy.compose_env import FROM_BRIDGE_ENV
from deploy.faults import Fault
from deploy.processes import ROOT

NAMESPACE, OBSERVABILITY = "edgecloud", "observability"
GENERATED = ROOT / ".demo" / "k8s"
Run = Callable[..., str]


class ClusterFault(Fault):
    """What is missing, and the next step."""


class Kind(NamedTuple):
    """A kind of cluster: its overlay, kubectl's context, the commands that look for it, make it and load an image."""

    overlay: str
    context: str
    look: list[str]
    make: list[str]
    load: list[str]


def k3d(name: str) -> Kind:
    """A K3D cluster; made anew it hands port 1884 of this machine to a LAN broker in it."""
    name = name or "edgecloud"
    return Kind("k3d", f"k3d-{name}", ["k3d", "cluster", "get", name],
                ["k3d", "cluster", "create", name, "-p", "1884:1884@loadbalancer", "--wait"],
                ["k3d", "image", "import", "-c", name])


def minikube(name: str) -> Kind:
    """A Minikube profile."""
    name = name or "minikube"
    return Kind("minikube", name, ["minikube", "-p", name, "status"], ["minikube", "-p", name, "start"],
                ["minikube", "-p", name, "image", "load"])


KINDS: dict[str, Callable[[str], Kind]] = {"k3d": k3d, "minikube": minikube}


def kustomization(overlay: str, tags: dict[str, str], target: str, mosquitto: bool) -> str:
    """A kustomization on top of ours that names this run's tags; it is to lie in GENERATED/<overlay>."""
    up = "../../../deploy/k8s"
    local = target == "local"
    resources = [f"{up}/overlays/{overlay}"] if local else [f"{up}/base", f"{up}/observability"]
    components = [f"{up}/components/mosquitto"] if mosquitto else []
    return json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources,
        "components": components, "images": [{"name": name, "newTag": tag} for name, tag in sorted(tags.items())],
    }, indent=1) + "\n"


def apply(kind: Kind, tags: dict[str, str], target: str, mosquitto: bool, password: str, run: Run) -> None:
    """Make the cluster if there is none, load the images, apply, and wait until everything runs."""
    if not run(kind.look, quiet=True):
        run(kind.make)
    for name, tag in tags.items():
        run([*kind.load, f"{name}:{tag}"])
    directory = GENERATED / kind.overlay
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kustomization.yaml").write_text(kustomization(kind.overlay, tags, target, mosquitto))
    kubectl = ["kubectl", "--context", kind.context]
    run([*kubectl, "apply", "-k", str(directory)])
    if not run([*kubectl, "-n", OBSERVABILITY, "get", "secret", "grafana-admin"], quiet=True):
        run([*kubectl, "apply", "-f", "-"],
            given=secret("grafana-admin", OBSERVABILITY, {"password": password.encode()}))
    if target == "aws":
        put_identity(ROOT / "certs", kind.context, run)
    for namespace, what in (*(((NAMESPACE, "deployment/server"),) if target == "local" else ()),
                            (NAMESPACE, "deployment/camera"),
                            (OBSERVABILITY, "statefulset/prometheus"), (OBSERVABILITY, "deployment/grafana")):
        run([*kubectl, "-n", namespace, "rollout", "status", what, "--timeout", "5m"])
    # Not its rollout: it is ready only when it reaches the brokers, which may come later.
    run([*kubectl, "-n", NAMESPACE, "wait", "pod/bridge-0", "--for", "jsonpath={.status.phase}=Running",
         "--timeout", "5m"])
    run([*kubectl, "config", "set-context", kind.context, "--namespace", NAMESPACE])
    print(f"kubectl's context {kind.context} looks at the namespace {NAMESPACE} now. Next:")
    if target == "local":
        print("  kubectl port-forward deployment/server 5000:5000     then: curl http://127.0.0.1:5000/data")
    print(f"  kubectl -n {OBSERVABILITY} port-forward service/grafana 3000:3000     user admin, password:")
    print(f"  kubectl -n {OBSERVABILITY} get secret grafana-admin -o jsonpath='{{.data.password}}' | base64 -d")


def secret(name: str, namespace: str, content: dict[str, bytes]) -> str:
    """A Secret, as kubectl applies it."""
    data = {key: base64.b64encode(value).decode() for key, value in sorted(content.items())}
    return _manifest("Secret", name, namespace, {"type": "Opaque", "data": data})


def config_map(name: str, namespace: str, content: dict[str, str]) -> str:
    """A ConfigMap, as kubectl applies it."""
    return _manifest("ConfigMap", name, namespace, {"data": content})


def _manifest(kind: str, name: str, namespace: str, rest: dict[str, object]) -> str:
    labels = {"app.kubernetes.io/part-of": "edgecloud"}
    return json.dumps({"apiVersion": "v1", "kind": kind,
                       "metadata": {"name": name, "namespace": namespace, "labels": labels}, **rest}) + "\n"


def identity(certs: Path) -> dict[str, bytes]:
    """The files that the bridge wants in /certs. Raises ClusterFault unless they are one root, certificate and key."""
    found = {path.name: path.read_bytes() for pattern in (ROOT_CA, "*.crt", "*.key")
             for path in sorted(certs.glob(pattern))}
    kinds = sorted(Path(name).suffix for name in found)
    if kinds != [".crt", ".key", ".pem"]:
        raise ClusterFault(f"{certs} holds {', '.join(found) or 'no certificates'}; expected {ROOT_CA}, one "
                           "*.crt and one *.key; run: make provision")
    return found


def put_identity(certs: Path, context: str, run: Run) -> None:
    """certs/ as the Secret bridge-certs, and what bridge.env says of the endpoint as the ConfigMap bridge-target.

    A running bridge takes up new certificates by itself, within a minute or two; a new endpoint at its next start.
    """
    kubectl = ["kubectl", *(["--context", context] if context else [])]
    run([*kubectl, "apply", "-f", "-"], given=secret("bridge-certs", NAMESPACE, identity(certs)))
    known = env_file.read(certs / "bridge.env")
    target = {name: known[name] for name in FROM_BRIDGE_ENV if known.get(name)}
    if "IOT_ENDPOINT" not in target:
        raise ClusterFault(f"{certs / 'bridge.env'} names no IOT_ENDPOINT; run: make provision")
    run([*kubectl, "apply", "-f", "-"], given=config_map("bridge-target", NAMESPACE, target))
