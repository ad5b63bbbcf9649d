"""Source rows: what happens between the sensors and the bridge."""
import json

import paho.mqtt.client as mqtt

from contract import topics
from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site


@fault("Mosquitto stopped and started, three times")
def broker_restarted(site: Site) -> None:
    site.start()
    for _ in range(3):
        site.flowing(30)
        site.broker.close()
        site.broker.start()


@fault("SIGKILL of Mosquitto, three times")
def broker_killed(site: Site) -> None:
    site.start()
    for _ in range(3):
        site.flowing(30)
        site.broker.kill()
        site.broker.start()


@fault("SIGKILL of Mosquitto, its sessions and queues lost")
def broker_forgets(site: Site) -> None:
    site.start()
    for _ in range(2):
        site.flowing(30)
        site.kill_bridge()
        site.let_pass(2, bridge=False)
        site.broker.kill()
        for saved in (site.directory / "broker").glob("*.db*"):
            saved.unlink()
        site.broker.start()
        site.start_bridge()


@fault("bridge and publishers started before Mosquitto")
def bridge_first(site: Site) -> None:
    site.broker.kill()
    site.start_bridge(wait=False)
    site.publish()
    wait_until("the cloud", lambda: site.connected("cloud"), 30)
    site.let_pass(3)
    site.broker.start()
    site.flowing()


BAD = (
    b"", b"{", b"[" * 5000, b'{"timestamp": 1.5}', b'{"timestamp": 1.5, "sensor2": "high"}',
    b'{"timestamp": 1.5, "sensor2": NaN}', b'{"timestamp": 1.5, "sensor2": 1e200}',
    b'{"timestamp": 1.5, "sensor2": 0.5, "note": "\xff"}',
    b'{"timestamp": 1.5, "sensor2": 0.5, "note": "' + b"x" * 200_000 + b'"}',
    json.dumps({"timestamp": 1.5, **{f"f{i}": i for i in range(10_000)}}).encode())


@fault("bad input in every fourth message")
def poison(site: Site) -> None:
    site.start()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", site.broker.port)
    client.loop_start()
    try:
        for index in range(200):
            client.publish(topics.SENSOR_DATA, BAD[index % len(BAD)], qos=1).wait_for_publish(10)
            site.let_pass(0.02)
    finally:
        client.disconnect()
        client.loop_stop()
    wait_until("the dead letters", lambda: site.status()["dead_lettered"] == 200, 20)
