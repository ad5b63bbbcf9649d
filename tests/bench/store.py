"""Bench row `store`: readings go the whole way, into DynamoDB, through the synthesized template in the local cloud."""
import time
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.bridge_run import BridgeRun
from tests.bench.report import Row
from tests.scorecard.world import SharedKafka, World

COUNT, QUICK_COUNT = 200_000, 50_000
_WITHIN_S = 300.0


def store(directory: Path, quick: bool) -> list[Row]:
    """An outbox full of readings, until the last one's receipt; no target: on AWS another machine stores them."""
    count = QUICK_COUNT if quick else COUNT
    world = World(directory / "cloud", SharedKafka(directory / "kafka")).start()
    bridge = BridgeRun(
        directory / "bridge", MQTT_BROKER="127.0.0.1", MQTT_PORT="1", IOT_ENDPOINT="localhost",
        IOT_PORT=str(world.gateway_port), CERTS=str(world.certs), THING=world.thing, STATUS_INTERVAL="0.25")
    try:
        load.fill_outbox(bridge.outbox, count)
        bridge.start()
        per_s = _receipts_per_s(bridge, count)
        world.flush()
        return [Row("stored in DynamoDB, whole template, one machine", "readings/s", [per_s],
                    note=f"{count} readings from a full outbox; bridge, gateway, rules, queues, functions, moto"),
                Row("readings lost or doubled (store)", "readings", [abs(count - _stored(world))], at_most=0)]
    finally:
        bridge.stop()
        world.close()


def _receipts_per_s(bridge: BridgeRun, count: int) -> float:
    """Readings receipted a second, from the first tenth on."""
    deadline_s, began_s, first = time.monotonic() + _WITHIN_S, 0.0, 0
    while time.monotonic() < deadline_s:
        bridge.check_alive()
        delivered = bridge.status().get("delivered", 0)
        if delivered >= count * 0.1 and not began_s:
            began_s, first = time.monotonic(), delivered
        if delivered >= count:
            return (count - first) / (time.monotonic() - began_s)
        time.sleep(0.05)
    raise RuntimeError(f"{bridge.status().get('delivered')} of {count} readings were receipted in {_WITHIN_S:.0f} s")


def _stored(world: World) -> int:
    items: list[dict[str, Any]] = [item for device in load.DEVICES for item in world.items("readings", device)]
    return sum(int(item["n"]) for item in items if item["kind"] == "readings")
