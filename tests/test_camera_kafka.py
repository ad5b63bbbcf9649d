"""The camera against Apache Kafka itself: the broker is killed while it films, and nothing is lost or doubled."""
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kafka_rig
from tests.bridge_rig import until
from tests.camera_rig import received, start

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[kafka_rig.KafkaBroker]:
    lacking = kafka_rig.missing()
    if lacking:
        pytest.skip(f"{lacking}: no Kafka broker of our own can be run")
    made = kafka_rig.KafkaBroker(tmp_path / "kafka")
    yield made
    made.close()


def test_a_killed_broker_costs_no_event_and_doubles_none(broker: kafka_rig.KafkaBroker, tmp_path: Path) -> None:
    kafka_rig.create_topic(broker.servers, "camera")
    record = tmp_path / "made"

    def made() -> int:
        return record.read_text().count("\n") if record.exists() else 0
    run = start(broker.servers, "--topic", "camera", "--rate", "50", "--count", "300", "--wait", "90",
                "--spool", str(tmp_path / "spool.db"), "--record", str(record))
    until(lambda: made() >= 25, "events to be made", 60)
    broker.kill()
    before = made()
    until(lambda: made() >= before + 50, "events to be made while Kafka is away", 60)
    broker.start()
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out) == (0, "sent 300 events, 300 confirmed\n"), err
    events = [message.value().decode() for message in received(broker.servers, "camera", 300)]
    assert events == record.read_text().splitlines()
