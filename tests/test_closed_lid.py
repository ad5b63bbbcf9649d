"""The whole bridge asleep for longer than the keep-alive, then awake: it connects anew and drains what had come."""
import os
import signal
import time
from pathlib import Path

import pytest

from tests.bridge_rig import BridgeProcess, Cloud, Mosquitto, Pi, until

KEEP_ALIVE_S = 2.0
ASLEEP_S = 5.0  # the gateway ends a connection after 1.5 keep-alives of silence


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("dead_link", [False, True], ids=["ended by the cloud", "gone without a word"])
def test_after_a_sleep_nothing_is_lost_doubled_or_turned_round(tmp_path: Path, dead_link: bool) -> None:
    cloud, broker = Cloud(tmp_path), Mosquitto(tmp_path / "broker")
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port),
                           KEEP_ALIVE=str(KEEP_ALIVE_S)).start()
    pi = Pi(broker.port)
    try:
        until(lambda: bridge.status().get("connected") == {"cloud": True, "mqtt": True}, "both connections")
        cloud.receipts = False  # so that something is accepted and not receipted when the lid closes
        for _ in range(50):
            pi.make()
        until(lambda: len(cloud.seqs("pi")) == 50, "the first readings")
        assert bridge.process
        os.kill(bridge.process.pid, signal.SIGSTOP)
        if dead_link:
            cloud.call(cloud.faults().black_hole)
        closed_s = time.monotonic()
        for _ in range(50):
            pi.make()
        pi.flush()
        cloud.receipts = True
        until(lambda: time.monotonic() - closed_s >= ASLEEP_S, "the end of the sleep")
        if dead_link:
            cloud.call(cloud.faults().restore)
        os.kill(bridge.process.pid, signal.SIGCONT)
        until(lambda: bridge.status().get("delivered") == 100, "delivery of everything")
        assert cloud.seqs("pi") == list(range(1, 101)) and (cloud.doubled, cloud.torn) == ([], [])
        assert bridge.status()["connects"] >= 2 and sum(bridge.status()["waiting"].values()) == 0
        assert bridge.stop() == 0
    finally:
        pi.close()
        bridge.close()
        broker.close()
        cloud.close()
