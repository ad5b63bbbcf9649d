"""Settings: one table, every fault at once, and a start that says in one line what to do."""
import subprocess
import sys
from pathlib import Path

import pytest

from contract import topics
from edge_bridge import settings
from edge_bridge.settings import SettingsError
from tests.bridge_rig import ROOT


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What makes a start possible."""
    for name in ("AmazonRootCA1.pem", "device.crt", "device.key"):
        (tmp_path / name).write_text("x")
    return {"IOT_ENDPOINT": "localhost", "CERTS": str(tmp_path)}


def test_defaults_are_the_contract(environment: dict[str, str], tmp_path: Path) -> None:
    chosen = settings.load(environment)
    assert (chosen.mqtt_broker, chosen.mqtt_port, chosen.mqtt_topic, chosen.bootstrap_servers) == (
        "host.docker.internal", 1884, "sensor/data", "host.docker.internal:9092")
    assert (chosen.kafka_topic, chosen.thing, chosen.client_id) == (topics.EDGE_DATA, "EdgeCloudAWS", "EdgeCloudAWS")
    assert (chosen.rule_readings, chosen.rule_events) == ("edgecloud_readings", "edgecloud_events")
    assert (chosen.batch_age, chosen.receipt_timeout, chosen.receipts) == (10.0, 600.0, True)
    assert chosen.scored_fields == ("sensor2",)
    assert chosen.certificate == str(tmp_path / "device.crt") and chosen.private_key == str(tmp_path / "device.key")


def test_values_are_read_by_their_kind(environment: dict[str, str]) -> None:
    chosen = settings.load({**environment, "RULE_PREFIX": "plant", "RULE_EVENTS": "other", "SCORED_FIELDS": "a, b",
                            "RECEIPTS": "off", "CLIENT_ID": "c", "BATCH_AGE": "0.5"})
    assert (chosen.rule_readings, chosen.rule_events, chosen.client_id) == ("plant_readings", "other", "c")
    assert (chosen.scored_fields, chosen.receipts, chosen.batch_age) == (("a", "b"), False, 0.5)
    with pytest.raises(AttributeError):
        chosen.thing = "another"


@pytest.mark.parametrize(("name", "text", "value"), [
    ("RETENTION_BYTES", "2M", 2 * 1024 ** 2), ("RETENTION_BYTES", "1048576", 1024 ** 2),
    ("RETENTION_DAYS", "0.5", 43_200), ("CARBON_MAX_AGE", "2", 7200), ("METRICS_PORT", "", 0), ("METRICS_PORT", "0", 0),
    ("SHADOW", "OFF", False), ("SCORED_FIELDS", "", ()), ("DEVICE_ID", " pi-1 ", "pi-1"),
    ("KEEP_ALIVE", "65535", 65_535)])
def test_each_kind_of_text_becomes_what_it_means(environment: dict[str, str], name: str, text: str,
                                                 value: object) -> None:
    assert getattr(settings.load({**environment, name: text}), name.lower()) == value


@pytest.mark.parametrize(("name", "text"), [
    ("RETENTION_BYTES", "1023K"), ("RETENTION_BYTES", "4T"), ("RETENTION_DAYS", "0"), ("MQTT_PORT", "0"),
    ("BATCH_AGE", "-1"), ("BATCH_AGE", "1e9"), ("FULL", "Stop"), ("METRICS_PORT", "65536")])
def test_what_is_none_of_its_kind_is_refused(environment: dict[str, str], name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{text}'; expected"):
        settings.load({**environment, name: text})


def test_all_faults_come_together(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**environment, "MQTT_PORT": "70000", "BATCH_AGE": "soon", "ALERTS": "some", "RECEIPTS": "maybe",
                       "DETECTOR": "oracle", "RECEIPT_TIMEOUT": "nan"})
    text = str(caught.value)
    for name, got in (("MQTT_PORT", "70000"), ("BATCH_AGE", "soon"), ("ALERTS", "some"), ("RECEIPTS", "maybe"),
                      ("DETECTOR", "oracle"), ("RECEIPT_TIMEOUT", "nan")):
        assert f"{name} is '{got}'; expected" in text


def test_contradictions_and_missing_files_come_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({"MQTT_BROKER": "", "BOOTSTRAP_SERVERS": "", "MQTT_TOPIC": "a/#", "THING": "a/b",
                       "CERTS": str(tmp_path)})
    faults = caught.value.faults
    for expected in ("IOT_ENDPOINT is not set", "both empty", "without wildcards", "THING is 'a/b'",
                     "AmazonRootCA1.pem", "CERTIFICATE: no file", "PRIVATE_KEY: no file"):
        assert any(expected in fault for fault in faults), expected


def test_two_certificates_are_not_guessed_between(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "second.crt").write_text("x")
    with pytest.raises(SettingsError) as caught:
        settings.load(environment)
    assert caught.value.faults == [f"CERTIFICATE: no file is named, and {tmp_path}/*.crt are several (device.crt, "
                                   "second.crt); set CERTIFICATE to one of them"]
    chosen = settings.load({**environment, "CERTIFICATE": str(tmp_path / "second.crt")})
    assert chosen.certificate.endswith("second.crt")


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("OUTBOX", "", "expected the path of a file"), ("DEVICE_ID", "a/b", "expected a device's name"),
    ("DEVICE_ID", "", "expected a device's name"), ("DEVICE_ID", "x" * 129, "expected a device's name"),
    ("MQTT_CLIENT_ID", "", "expected a name"), ("KAFKA_TOPIC", "", "expected a name"),
    ("KAFKA_GROUP", "", "expected a name"), ("KEEP_ALIVE", "65536", "up to 65535")])
def test_what_would_fail_or_lose_readings_later_ends_the_start(environment: dict[str, str], name: str, text: str,
                                                               expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**environment, name: text})
    [fault] = caught.value.faults
    assert fault.startswith(f"{name} is {text!r}; expected") and expected in fault


def test_names_for_a_source_that_is_off_may_be_empty(environment: dict[str, str]) -> None:
    off = {"MQTT_BROKER": "", "MQTT_CLIENT_ID": ""}
    assert settings.load({**environment, **off}).mqtt_client_id == ""
    off = {"BOOTSTRAP_SERVERS": "", "KAFKA_GROUP": "", "KAFKA_TOPIC": ""}
    assert settings.load({**environment, **off}).kafka_group == ""


def test_help_explains_every_setting() -> None:
    text = settings.help_text()
    for setting in settings.TABLE:
        assert f"  {setting.name} [{setting.default}]\n" in text
        assert setting.sentence.endswith(".") and setting.sentence.split()[0] in text


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edge_bridge", *arguments], cwd=ROOT, env=environment, text=True,
                          capture_output=True, timeout=60)


def test_a_missing_certificate_is_one_clear_line_and_exit_2(tmp_path: Path) -> None:
    done = run([], {"IOT_ENDPOINT": "localhost", "CERTS": str(tmp_path / "nowhere"), "ROOT_CA": __file__,
                    "PRIVATE_KEY": __file__})
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"edge_bridge: CERTIFICATE: no file {tmp_path}/nowhere/*.crt; "
        "copy it there, or mount the directory and set CERTS"]


def test_an_unusable_certificate_is_one_clear_line_and_exit_2(environment: dict[str, str], tmp_path: Path) -> None:
    done = run([], {**environment, "OUTBOX": str(tmp_path / "outbox.db")})
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "expected PEM files" in done.stderr


def test_help_version_and_an_unknown_argument() -> None:
    assert "MQTT_BROKER [host.docker.internal]" in run(["--help"], {}).stdout
    assert run(["--version"], {"EDGECLOUD_VERSION": "1.2.3"}).stdout == "1.2.3\n"
    assert run(["--nonsense"], {}).returncode == 2
