"""A real bridge, a real LAN broker, the real gateway with its shadows: settings that change under running readings, a
restart without the cloud, and a policy from before there was a shadow."""
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import shadow as contract
from contract import topics
from local_cloud.gateway.shadows import Asked
from tests.bridge_rig import THING, BridgeProcess, Cloud, Mosquitto, Pi, until

pytestmark = pytest.mark.needs("mosquitto")
OLD_POLICY = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
    {"Effect": "Deny", "Action": ["iot:Subscribe", "iot:Publish"], "Resource": [
        f"arn:aws:iot:eu-north-1:123456789012:{kind}/$aws/things/*" for kind in ("topic", "topicfilter")]}]}


class Site:
    """A LAN broker, a Pi, a bridge that would hold live readings back for long, and the cloud."""

    def __init__(self, directory: Path) -> None:
        self.broker = Mosquitto(directory / "mosquitto")
        self.cloud = Cloud(directory)
        self.pi = Pi(self.broker.port)
        self.bridge = BridgeProcess(
            directory, self.cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(self.broker.port), BATCH_AGE="300",
            SCORED_FIELDS="sensor2", DETECTOR="forest", LOG_LEVEL="INFO").start()

    def desire(self, desired: dict[str, Any]) -> int:
        """As the API of the cloud does it; the version that it makes."""
        request = json.dumps(contract.update("desired", desired)).encode()
        return int(self.cloud.call(lambda: self.cloud.rig.gateway.shadows.do(
            Asked(THING, topics.SHADOW, "update"), request))["version"])

    def reported(self) -> dict[str, Any]:
        document = self.cloud.call(lambda: self.cloud.rig.gateway.shadows.document(THING, topics.SHADOW))
        return dict((document or {"state": {}})["state"].get("reported", {}))

    def answered(self, version: int) -> dict[str, Any]:
        until(lambda: self.reported().get("answers", -1) >= version, f"an answer to version {version}")
        return self.reported()

    def remote(self) -> dict[str, Any]:
        return dict(self.bridge.status().get("remote", {}))

    def arrived(self) -> None:
        """All that the Pi sent is in the cloud, in its order, each once."""
        until(lambda: len(self.cloud.seqs("pi")) == self.pi.made, "every reading")
        assert self.cloud.seqs("pi") == list(range(1, self.pi.made + 1)) and not self.cloud.doubled

    def close(self) -> None:
        self.bridge.close()
        self.pi.close()
        self.cloud.close()
        self.broker.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    yield one
    one.close()


def test_a_running_bridge_takes_settings_and_goes_on_with_them_after_a_kill(site: Site) -> None:
    until(lambda: site.remote().get("state") == "on", "the shadow")
    assert site.reported()["batch_age_s"] == 300 and site.reported()["version"]
    for _ in range(20):
        site.pi.make()
    reported = site.answered(site.desire({"batch_age_s": 1, "log_level": "DEBUG"}))
    assert (reported["batch_age_s"], reported["log_level"], reported["detector"]) == (1, "DEBUG", "forest")
    site.arrived()  # 300 s would be far over the deadline

    for number in range(200):  # the mode changes in the midst of readings
        site.pi.make()
        if number == 100:
            changed = site.desire({"detector": "seed"})
    assert site.answered(changed)["detector"] == "seed"
    for _ in range(50):
        site.pi.make()
    site.arrived()
    until(lambda: sum(site.bridge.status().get(one, 0) for one in ("scored", "unclassified")) >= site.pi.made,
          "every reading at a detector, or told to be unclassified")

    refused = site.answered(site.desire({"batch_age_s": 0, "no such thing": 1}))["refused"]
    assert re.search("no such thing is unknown.*batch_age_s is 0", refused["reason"])
    until(lambda: site.remote()["refused"] == refused["reason"], "the status to say so, too")
    assert site.remote()["batch_age_s"] == 1

    site.cloud.call(site.cloud.faults().cut)
    site.bridge.kill()
    (site.bridge.directory / "status.json").unlink()
    site.bridge.start()
    until(lambda: site.remote().get("detector") == "seed", "a status without the cloud")
    assert (site.remote()["batch_age_s"], site.remote()["state"]) == (1, "starting")
    site.cloud.call(site.cloud.faults().restore)
    until(lambda: site.remote().get("state") == "on", "the shadow again")
    cleared = site.desire({"batch_age_s": None, "no such thing": None, "detector": None, "log_level": None})
    assert {"detector": "forest", "batch_age_s": 300, "log_level": "INFO"}.items() <= site.answered(cleared).items()


def test_no_setting_delays_an_alert(site: Site) -> None:
    until(lambda: site.remote().get("state") == "on", "the shadow")
    site.answered(site.desire({"batch_age_s": 300, "detector": "seed"}))
    for number in range(200):
        site.pi.reading(sensor2=0.5 + number % 7 / 100)
    until(lambda: site.bridge.status().get("scored") == 200, "a model")
    site.pi.reading(sensor2=50.0)
    until(lambda: any(alert["sensor2"] == 50 for alert in site.cloud.alerts), "its alert")
    assert site.cloud.rows == {}, "the readings themselves have 300 s"
    site.answered(site.desire({"live_until": 2 ** 33}))
    site.arrived()
    assert site.cloud.rig.gateway.shadows.operations["update"] < 30, "every report is paid for"


def test_an_older_policy_costs_the_shadow_and_no_reading(site: Site) -> None:
    registry, device = site.cloud.rig.registry, site.cloud.device
    until(lambda: site.remote().get("state") == "on", "the shadow")

    def older() -> None:
        [certificate] = [one for one in registry.certificates.values() if one.pem == device.pem]
        registry.add_policy("older", OLD_POLICY)
        registry.attach_policy("older", certificate.arn)
    site.cloud.call(older)
    site.bridge.stop()
    site.bridge.environment |= {"BATCH_AGE": "0.3", "SCORED_FIELDS": ""}
    site.bridge.start()
    until(lambda: site.remote().get("state") == "fault", "the refusal")
    for _ in range(30):
        site.pi.make()
    site.arrived()
    assert "NOT_AUTHORIZED" in site.remote()["fault"] and site.bridge.status()["connected"]["cloud"]
    assert site.bridge.log().count("remote settings are off for now") == 1
