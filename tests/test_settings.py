"""Settings: one table, every fault at once, and a start that says in one line what to do."""
import subprocess
import sys
from pathlib import Path

import pytest

from contract import topics
from edge_bridge import settings
from edge_bridge.settings import SettingsError

ROOT = Path(__file__).resolve().parent.parent


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
    with pytest.raises(SettingsError, match="CERTIFICATE: no file"):
        settings.load(environment)
    chosen = settings.load({**environment, "CERTIFICATE": str(tmp_path / "second.crt")})
    assert chosen.certificate.endswith("second.crt")


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
