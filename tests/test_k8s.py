"""deploy/k8s: what kubectl makes of it is valid, hardened, and agrees with itself. No cluster is needed."""
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_bridge import settings
from tests.compose_model import ROOT, model
from tests.conftest import find_service

K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ("k3d", "minikube", "kubeedge")
Object = dict[str, Any]
pytestmark = pytest.mark.needs("kubectl")


def kustomize(directory: Path) -> str:
    program = find_service("kubectl")
    assert program
    done = subprocess.run([program, "kustomize", str(directory)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(overlay: str) -> str:
    return kustomize(K8S / "overlays" / overlay)


def objects(text: str) -> dict[tuple[str, str], Object]:
    """{(kind, name without the hash of a generated one): object}."""
    found = {}
    for one in yaml.safe_load_all(text):
        name = one["metadata"]["name"]
        if one["kind"] == "ConfigMap":
            name = name.rpartition("-")[0]
        found[one["kind"], name] = one
    return found


def pods(text: str) -> dict[str, Object]:
    """{name: pod template} of every workload."""
    return {name: one["spec"]["template"] for (kind, name), one in objects(text).items()
            if kind in ("Deployment", "StatefulSet")}


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", str(path)],
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("overlay", ["k3d", "kubeedge"])
def test_every_overlay_is_valid(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(rendered(overlay))
    assert (done := validate(path)).returncode == 0, done.stdout + done.stderr


def test_minikubes_is_k3ds() -> None:
    assert rendered("minikube") == rendered("k3d")


def test_a_slip_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(rendered("kubeedge").replace("readOnlyRootFilesystem", "readOnlyRootFilesytem"))
    assert "readOnlyRootFilesytem" in (done := validate(path)).stdout + done.stderr and done.returncode != 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_restricted_bounded_and_pinned(overlay: str) -> None:
    for name, pod in pods(rendered(overlay)).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0 and context["fsGroup"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}, name
            assert container["image"].rpartition(":")[2] not in ("latest", container["image"]), name
            assert all("subPath" not in mount for mount in container["volumeMounts"]), name
        for container in spec["containers"]:
            if container.get("ports"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
        for kind in ("hostNetwork", "hostPID", "hostIPC"):
            assert kind not in spec, name
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_is_referred_to_exists(overlay: str) -> None:
    found = objects(rendered(overlay))
    full_names = {(one["kind"], one["metadata"]["name"]) for one in found.values()}
    by_command = {"bridge-certs", "grafana-admin", "bridge-target", "bridge-lan"}
    for name, pod in pods(rendered(overlay)).items():
        spec = pod["spec"]
        claims = {claim["metadata"]["name"] for kind in ("StatefulSet",)
                  for claim in found.get((kind, name), {}).get("spec", {}).get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in full_names, (name, volume)
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in full_names, volume
            if "secret" in volume:
                assert volume["secret"]["secretName"] in by_command
        for container in spec["containers"] + spec.get("initContainers", []):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes) | claims, name
            for source in container.get("envFrom", []):
                reference = source.get("configMapRef") or source["secretRef"]
                assert reference["name"] in by_command or ("ConfigMap", reference["name"]) in full_names, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_select_their_pods_and_ports(overlay: str) -> None:
    found, templates = objects(rendered(overlay)), pods(rendered(overlay))
    for (kind, name), one in found.items():
        if kind != "Service":
            continue
        chosen = [pod for pod in templates.values()
                  if one["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1, name
        ports = {port["name"] for container in chosen[0]["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports, name


def test_the_bridge_keeps_its_outbox_and_sees_a_rotation() -> None:
    bridge = objects(kustomize(K8S / "base"))["StatefulSet", "bridge"]
    spec = bridge["spec"]["template"]["spec"]
    container, = spec["containers"]
    assert bridge["spec"]["replicas"] == 1
    assert bridge["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "outbox"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["outbox"]["mountPath"] == "/data"
    assert mounts["certs"] == {"name": "certs", "mountPath": "/certs", "readOnly": True}
    certs = next(volume for volume in spec["volumes"] if volume["name"] == "certs")
    assert certs["secret"] == {"secretName": "bridge-certs", "defaultMode": 0o440}
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert spec["terminationGracePeriodSeconds"] > 10  # edge_bridge gives itself 8.5 s


def test_the_environment_is_the_contracts() -> None:
    found = objects(kustomize(K8S / "base"))
    given = found["ConfigMap", "bridge-settings"]["data"]
    defaults = {setting.name: setting.default for setting in settings.TABLE}
    for name in ("MQTT_BROKER", "MQTT_PORT", "MQTT_TOPIC", "BOOTSTRAP_SERVERS"):
        assert given[name] == defaults[name]
    assert set(given) <= set(defaults)
    container, = found["StatefulSet", "bridge"]["spec"]["template"]["spec"]["containers"]
    assert {one["name"] for one in container["env"]} <= set(defaults)
    camera, service = found["ConfigMap", "camera-settings"]["data"], found["Service", "bridge"]
    assert camera["BOOTSTRAP_SERVERS"] == defaults["BOOTSTRAP_SERVERS"]
    assert camera["BRIDGE_URL"] == f"http://bridge:{service['spec']['ports'][0]['port']}", "for its carbon intensity"


@pytest.mark.parametrize("overlay", ["k3d", "minikube"])
def test_the_local_cloud_is_the_deployment_server(overlay: str) -> None:
    found = objects(rendered(overlay))
    server = found["Deployment", "server"]["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in server["containers"][0]["ports"]}
    assert ports == {"api": 5000, "gateway": 8883}
    assert found["ConfigMap", "bridge-settings"]["data"]["IOT_ENDPOINT"] == "server"
    bridge = found["StatefulSet", "bridge"]["spec"]["template"]["spec"]
    certs = next(volume for volume in bridge["volumes"] if volume["name"] == "certs")
    assert certs == {"name": "certs", "persistentVolumeClaim": {"claimName": "local-certs", "readOnly": True}}
    assert bridge["initContainers"][0]["image"] == bridge["containers"][0]["image"]
    assert {one["metadata"]["namespace"] for (kind, name), one in found.items()
            if name in ("prometheus", "grafana")} == {"observability"}


def test_prometheus_looks_where_the_bridge_is() -> None:
    found = objects(rendered("k3d"))
    text = found["ConfigMap", "prometheus-configuration"]["data"]["prometheus.yml"]
    job = next(one for one in yaml.safe_load(text)["scrape_configs"] if one["job_name"] == "bridge")
    service = found["Service", "bridge"]
    names, port = job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["port"]
    assert names == [f"bridge.{service['metadata']['namespace']}.svc.cluster.local"]
    assert port == service["spec"]["ports"][0]["port"] and service["spec"]["publishNotReadyAddresses"]
    dashboards = found["ConfigMap", "grafana-dashboards"]["data"]
    assert set(dashboards) == {"camera.json", "detector.json", "edge.json", "uplink.json"}


def test_images_are_the_ones_that_compose_runs() -> None:
    services = model()["services"]
    composed = {service["image"] for service in services.values() if "build" not in service}
    used = {container["image"] for pod in pods(rendered("k3d")).values() for container in pod["spec"]["containers"]}
    assert {image for image in used if not image.startswith("edgecloud-")} <= composed


def test_the_edge_node_needs_neither_cluster_dns_nor_its_volumes() -> None:
    found = objects(rendered("kubeedge"))
    for kind, name in (("StatefulSet", "bridge"), ("Deployment", "camera")):
        spec = found[kind, name]["spec"]["template"]["spec"]
        assert spec["dnsPolicy"] == "Default" and spec["nodeSelector"] == {"node-role.kubernetes.io/edge": ""}
        names = [one["name"] for one in spec["containers"][0]["env"]]
        assert names.index("NODE_ADDRESS") < names.index("BOOTSTRAP_SERVERS")  # only what stands before is known
    camera = found["Deployment", "camera"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "BRIDGE_URL", "value": ""} in camera, "the node does not know the Service's name"
    claim, = found["StatefulSet", "bridge"]["spec"]["volumeClaimTemplates"]
    volume = found["PersistentVolume", "edgecloud-outbox"]["spec"]
    assert claim["spec"]["storageClassName"] == volume["storageClassName"]


def test_the_brokers_configuration_is_the_one_beside_compose() -> None:
    lines = [{line for line in path.read_text().splitlines() if not line.startswith("#")}
             for path in (ROOT / "deploy" / "mosquitto.conf", K8S / "components" / "mosquitto" / "mosquitto.conf")]
    assert lines[1] - lines[0] == {"persistence_location /mosquitto/data/"} and lines[0] < lines[1]
