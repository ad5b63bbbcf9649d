"""deploy/compose.yaml: valid to Compose's own reader, pinned, bounded, without a default password; its parts really
work: Kafka's listeners on a real broker, the LAN logins on a real Mosquitto, the simulated Pi's readings."""
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import paho.mqtt.client as paho
import pytest
import yaml

from contract import payloads
from deploy import compose_env, env_file, provision_identity
from deploy.processes import listening
from deploy.target import Target
from edge_bridge import settings
from infra.settings import read
from tests import kafka_rig
from tests.bridge_rig import free_port, until
from tests.compose_model import COMPOSE, ROOT, Missing, interpolated, model, read_by_compose
from tests.conftest import find_service

OURS = {"edgecloud-bridge", "edgecloud-camera", "edgecloud-local-cloud"}
ONE_SHOT = {"kafka-topic", "outbox-owner"}
AWS = {"IOT_ENDPOINT": "abc-ats.iot.eu-north-1.amazonaws.com", "CERTS_FROM": "/home/anna/certs",
       "RULE_READINGS": "plant_readings", "BRIDGE_USER": "1000:1000"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(model()["services"])


def test_variables_are_put_in_as_compose_does() -> None:
    assert interpolated("${A} ${A:-x} ${B:-y z} $$HOME ${C:-}", {"A": "1"}) == "1 1 y z $HOME "
    with pytest.raises(Missing, match="run: make compose-env"):
        interpolated(COMPOSE.read_text(), {})


@pytest.mark.needs("go")
@pytest.mark.parametrize("environment", [{}, AWS, {"KAFKA_EXTERNAL_HOST": "192.168.49.1", "KAFKA_PARTITIONS": "3"}],
                         ids=["local", "aws", "minikube"])
def test_composes_own_reader_takes_it(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(interpolated(COMPOSE.read_text(), {"GRAFANA_ADMIN_PASSWORD": "made", **environment}))
    read = yaml.safe_load(read_by_compose(path, "-no-interpolation"))
    assert set(read["services"]) == set(model()["services"])


@pytest.mark.needs("go")
def test_composes_own_reader_refuses_a_slip_and_asks_for_the_password(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    text = interpolated(COMPOSE.read_text(), {"GRAFANA_ADMIN_PASSWORD": "x"})
    path.write_text(text.replace("depends_on", "depend_on"))
    with pytest.raises(subprocess.CalledProcessError) as slip:
        read_by_compose(path, "-no-interpolation")
    assert "depend_on" in slip.value.stderr
    with pytest.raises(subprocess.CalledProcessError) as asked:
        read_by_compose(COMPOSE)
    assert "make compose-env" in asked.value.stderr


def test_every_service_is_pinned_bounded_and_without_privileges(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        image, _, tag = service["image"].partition(":")
        built_here = image in OURS and "build" in service
        assert built_here or re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{name}: {service['image']}: no exact version"
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert "healthcheck" in service or name in ONE_SHOT, name
        assert service["read_only"] or name == "kafka", name
        assert "privileged" not in service and "/var/run/docker.sock" not in json.dumps(service), name


def test_only_the_lan_broker_is_open_to_the_lan(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["0.0.0.0:1884:1884"]
    assert {"127.0.0.1:9092:9092", "127.0.0.1:5000:5000", "127.0.0.1:8883:8883"} < set(published)


def test_no_password_stands_in_the_file() -> None:
    text = COMPOSE.read_text()
    values = re.findall(r"^\s*(\w*(?:PASSWORD|SECRET|TOKEN)\w*):[ ]*(.*)$", text, re.MULTILINE)
    assert len(values) == 3
    assert all(re.fullmatch(r"(?:\"?\$\{\w+:(?:\?.*|-)\}\"?)?", value) for _, value in values), values


def test_the_outbox_lies_in_a_named_volume_whatever_the_settings() -> None:
    for environment in ({}, AWS):
        made = model(environment)
        assert "outbox:/data" in made["services"]["bridge"]["volumes"] and "outbox" in made["volumes"]
        assert made["services"]["outbox-owner"]["volumes"] == ["outbox:/data"]


def test_the_bridge_is_told_what_it_knows(services: dict[str, dict[str, Any]]) -> None:
    environment = services["bridge"]["environment"]
    written = yaml.safe_load(interpolated(COMPOSE.read_text(), {"GRAFANA_ADMIN_PASSWORD": "x"}))
    named = set(written["services"]["bridge"]["environment"])
    assert {"MQTT_BROKER", "MQTT_PORT", "MQTT_TOPIC", "BOOTSTRAP_SERVERS"} <= named
    assert named <= {setting.name for setting in settings.TABLE} and {*compose_env.FROM_BRIDGE_ENV} <= named
    assert environment["BOOTSTRAP_SERVERS"] == "kafka:29092" and environment["IOT_ENDPOINT"] == "local-cloud"
    assert services["bridge"]["depends_on"]["local-cloud"] == {"condition": "service_healthy", "required": False}
    assert model({"DETECTOR": "seed"})["services"]["bridge"]["environment"]["DETECTOR"] == "seed"


def test_all_that_provisioning_tells_the_bridge_reaches_its_container() -> None:
    """RECEIPTS=off among it: a bridge that waits for receipts nobody sends would send everything again for ever."""
    place = SimpleNamespace(gateway=lambda: ("host", 8883), settings=read({"receipts": "off"}, "1"))
    told = provision_identity.environment(cast(Target, place), "EdgeCloudAWS")
    assert told["RECEIPTS"] == "off" and set(told) <= set(compose_env.FROM_BRIDGE_ENV)


def test_the_bridge_takes_the_environment_of_both_targets(tmp_path: Path) -> None:
    for name in ("AmazonRootCA1.pem", "device.crt", "device.key"):
        (tmp_path / name).write_text("x")
    for given in ({}, AWS):
        environment = {**model(given)["services"]["bridge"]["environment"], "CERTS": str(tmp_path)}
        chosen = settings.load(environment)
        assert chosen.iot_endpoint == given.get("IOT_ENDPOINT", "local-cloud")
        assert chosen.rule_readings == given.get("RULE_READINGS", "edgecloud_readings")
    assert f"{AWS['CERTS_FROM']}:/certs:ro" in model(AWS)["services"]["bridge"]["volumes"]


def test_the_local_cloud_is_a_profile_and_shares_its_certificates(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in services.items() if "profiles" in service} == {"local-cloud", "simulated-pi"}
    assert "certs:/certs" in services["local-cloud"]["volumes"] and "certs:/certs:ro" in services["bridge"]["volumes"]


def test_what_is_mounted_exists_and_dockerfiles_are_there(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), f"{name}: {volume}"
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name


def test_the_topic_is_created_once(services: dict[str, dict[str, Any]]) -> None:
    command = services["kafka-topic"]["command"]
    assert command[command.index("--topic") + 1] == "edge-data" and "--if-not-exists" in command
    assert command[command.index("--partitions") + 1] == command[command.index("--replication-factor") + 1] == "1"
    for name in ("bridge", "camera"):
        assert services[name]["depends_on"]["kafka-topic"] == {"condition": "service_completed_successfully"}


# --- Kafka: the service's environment as the image turns it into server.properties, on a real broker ------------------

def properties(environment: dict[str, str], ports: dict[str, int], data: Path) -> str:
    """KAFKA_X_Y=v is x.y=v; the addresses to listen on are moved to free ports of this machine, nothing else is."""
    found = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in environment.items()
             if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"}
    found["log.dirs"] = str(data)
    found["listeners"] = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    found["controller.quorum.voters"] = f"1@127.0.0.1:{ports['CONTROLLER']}"
    return "".join(f"{name}={value}\n" for name, value in found.items())


class ComposeBroker(kafka_rig.KafkaBroker):
    """The broker as compose.yaml sets it up."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.ports = {name: free_port() for name in ("INTERNAL", "EXTERNAL", "CONTROLLER")}
        self._environment = environment
        super().__init__(directory)

    def _java(self, *arguments: str) -> None:
        self._conf.write_text(properties(self._environment, self.ports, self._conf.parent / "data"))
        self.servers = f"127.0.0.1:{self.ports['INTERNAL']}"
        super()._java(*arguments)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeBroker]:
    environment = model({"KAFKA_EXTERNAL_HOST": "minikube.example"})["services"]["kafka"]["environment"]
    broker = ComposeBroker(tmp_path_factory.mktemp("compose-kafka"), environment)
    yield broker
    broker.close()


@pytest.mark.needs("java")
@pytest.mark.needs("mvn")
@pytest.mark.timeout(180)
def test_kafka_names_each_listener_as_its_clients_can_reach_it(kafka: ComposeBroker) -> None:
    from confluent_kafka.admin import AdminClient
    for listener, named in (("INTERNAL", "kafka:29092"), ("EXTERNAL", "minikube.example:9092")):
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{kafka.ports[listener]}", "log_level": 0})
        broker, = client.list_topics(timeout=30).brokers.values()
        assert f"{broker.host}:{broker.port}" == named
    assert model()["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == \
        "INTERNAL://kafka:29092,EXTERNAL://host.docker.internal:9092"


# --- Mosquitto with logins ------------------------------------------------------------------------------------------

def test_both_broker_configurations_differ_in_the_logins_alone() -> None:
    plain, logins = ({line for line in (ROOT / "deploy" / name).read_text().splitlines() if not line.startswith("#")}
                     for name in ("mosquitto.conf", "mosquitto-logins.conf"))
    assert plain - logins == {"allow_anonymous true"}
    assert logins - plain == {"allow_anonymous false", "password_file /mosquitto/logins/passwd",
                              "acl_file /mosquitto/logins/acl"}
    assert "listener 1884" in plain and "persistence true" in plain


@pytest.fixture
def broker_with_logins(tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(port, the env file) of a real Mosquitto with deploy/mosquitto-logins.conf and the files of compose-env."""
    assert compose_env.main(["--file", str(tmp_path / ".env"), "--certs", str(tmp_path), "--logins"]) == 0
    made, port = env_file.read(tmp_path / ".env"), free_port()
    conf = tmp_path / "mosquitto.conf"
    text = (ROOT / "deploy" / "mosquitto-logins.conf").read_text()
    text = text.replace("listener 1884", f"listener {port} 127.0.0.1")
    text = text.replace("/mosquitto/logins", made["MOSQUITTO_LOGINS"])
    conf.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    program = find_service("mosquitto")
    assert program
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(conf)], cwd=tmp_path, stdout=log, stderr=log)
    until(lambda: listening(port), "mosquitto to listen")
    yield port, made
    process.terminate()
    process.wait(20)


def client(port: int, user: str = "", password: str = "") -> tuple[paho.Client, list[Any]]:
    """A client that tries to connect, and what it was told: the reason codes of CONNACK and SUBACK, then messages."""
    told: list[Any] = []
    made = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    made.on_connect = lambda *arguments: told.append(arguments[3])
    made.on_subscribe = lambda *arguments: told.append(arguments[3][0])
    made.on_message = lambda _, __, message: told.append(message.payload)
    if user:
        made.username_pw_set(user, password)
    made.connect_async("127.0.0.1", port)
    made.loop_start()
    return made, told


@pytest.mark.needs("mosquitto")
def test_the_logins_that_are_made_let_in_the_bridge_and_the_pis_and_nobody_else(
        broker_with_logins: tuple[int, dict[str, str]]) -> None:
    port, made = broker_with_logins
    bridge, heard = client(port, made["MQTT_USERNAME"], made["MQTT_PASSWORD"])
    pi, pi_heard = client(port, made["PI_USERNAME"], made["PI_PASSWORD"])
    stranger, refused = client(port)
    guesser, refused_too = client(port, "pi", "pi")
    try:
        until(lambda: heard and pi_heard and refused and refused_too, "an answer to every connect")
        assert not heard[0].is_failure and not pi_heard[0].is_failure
        assert refused[0].is_failure and refused_too[0].is_failure
        bridge.subscribe("sensor/#", 1)
        until(lambda: len(heard) == 2, "the bridge's subscription")
        pi.publish("sensor/ack/other", b"forged", qos=1)  # not a Pi's to write
        pi.publish("sensor/data/pi-1", b"reading", qos=1)
        until(lambda: len(heard) == 3, "the reading")
        assert heard[2] == b"reading"
    finally:
        for one in (bridge, pi, stranger, guesser):
            one.disconnect()
            one.loop_stop()


# --- the simulated Pi ------------------------------------------------------------------------------------------------

def test_the_simulated_pi_makes_readings_of_the_contract(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    service = services["simulated-pi"]
    script, = service["command"]
    assert "-t sensor/data/simulated-pi -l" in script and "-p 1884" in script
    publisher = tmp_path / "mosquitto_pub"  # takes the place of the real one: three readings will do
    publisher.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/arguments\nhead -n 3 > {tmp_path}/readings\n")
    publisher.chmod(0o755)
    subprocess.run([*service["entrypoint"], script.replace('system("sleep 1")', 'system("sleep 0.01")')], timeout=60,
                   env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "MQTT_USERNAME": "pi", "MQTT_PASSWORD": "a b"})
    readings = (tmp_path / "readings").read_bytes().splitlines()
    assert len(readings) == 3
    for raw in readings:
        assert payloads.read(raw)
    assert (tmp_path / "arguments").read_text().endswith("-u pi -P a b\n")


# --- compose-env -----------------------------------------------------------------------------------------------------

def test_the_env_file_is_private_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert compose_env.main(["--file", str(path), "--certs", str(tmp_path)]) == 0
    first = env_file.read(path)
    assert len(first["GRAFANA_ADMIN_PASSWORD"]) >= 20
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(path.read_text() + "API_PORT=5050\n")
    assert compose_env.main(["--file", str(path), "--certs", str(tmp_path)]) == 0
    assert env_file.read(path) == {**first, "API_PORT": "5050"}
    other = tmp_path / "other"
    assert compose_env.main(["--file", str(other), "--certs", str(tmp_path)]) == 0
    assert env_file.read(other)["GRAFANA_ADMIN_PASSWORD"] != first["GRAFANA_ADMIN_PASSWORD"]


def test_aws_takes_over_what_provisioning_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, certs = tmp_path / ".env", tmp_path / "certs"
    assert compose_env.main(["--file", str(path), "--certs", str(certs), "--target", "aws"]) == 1
    assert "make provision" in capsys.readouterr().err and not path.exists()
    certs.mkdir()
    (certs / "bridge.env").write_text("# x\nTHING=Mill\nIOT_ENDPOINT=a-ats.iot.eu-north-1.amazonaws.com\n"
                                      "RULE_READINGS=plant_readings\nCERTS=/elsewhere\n")
    assert compose_env.main(["--file", str(path), "--certs", str(certs), "--target", "aws"]) == 0
    made = env_file.read(path)
    assert (made["THING"], made["RULE_READINGS"]) == ("Mill", "plant_readings")
    assert made["CERTS_FROM"] == str(certs.resolve())
    bridge = model(made)["services"]["bridge"]
    assert bridge["environment"]["IOT_ENDPOINT"].startswith("a-ats") and "CERTS" not in made
    (certs / "bridge.env").write_text("THING=Mill\nIOT_ENDPOINT=b-ats\n")
    assert compose_env.main(["--file", str(path), "--certs", str(certs), "--target", "aws"]) == 0
    assert "RULE_READINGS" not in env_file.read(path), "of what was provisioned before"
    assert compose_env.main(["--file", str(path), "--certs", str(certs), "--target", "local"]) == 0
    assert "IOT_ENDPOINT" not in env_file.read(path)


@pytest.mark.skipif(shutil.which("git") is None, reason="git tells what is ignored")
def test_what_is_made_is_never_committed() -> None:
    for path in ("deploy/.env", "deploy/..env.partial", "certs/lan/passwd", "certs/bridge.env"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0, path
