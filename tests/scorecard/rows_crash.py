"""Crash rows: SIGKILL of the bridge at random instants, and where it hurts most."""
from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site

KILLS = 10


def _kill_soon(site: Site, within_s: float) -> None:
    """One time in five while it starts, otherwise up to within_s after it has received something new."""
    if site.chance.random() < 0.2:
        site.let_pass(site.chance.uniform(0, 1.5))
    else:
        site.flowing()
        site.let_pass(site.chance.uniform(0, within_s))
    site.kill_bridge()
    site.start_bridge(wait=False)


@fault(f"SIGKILL of the bridge at {KILLS} random instants, readings arriving", runs=3, full_runs=60, slow_s=45)
def kill_during_ingest(site: Site) -> None:
    site.start()
    for _ in range(KILLS):
        _kill_soon(site, 0.6)


@fault(f"the same over MQTT 3.1.1, {KILLS} kills", runs=1, full_runs=10, slow_s=45)
def kill_during_ingest_311(site: Site) -> None:
    site.settings["MQTT_VERSION"] = "3.1.1"
    kill_during_ingest(site)


@fault(f"SIGKILL of the bridge at {KILLS} random instants, a backlog draining", runs=2, full_runs=40, slow_s=55)
def kill_during_drain(site: Site) -> None:
    site.world.gateway(cut={})
    site.start_bridge(wait=False)
    site.publish(4, 400)
    wait_until("a backlog", lambda: site.waiting() > 8000, 60)
    for part in site.publishers.values():
        part.stop(10)  # what they still hold goes later
    site.world.gateway(restore={}, throttle={"bytes_per_s": 60_000})
    for _ in range(KILLS):
        wait_until("the cloud", lambda: site.connected("cloud"), 30)
        site.let_pass(site.chance.uniform(0, 0.5))
        site.kill_bridge()
        site.start_bridge(wait=False)
    site.world.gateway(throttle={"bytes_per_s": None})


@fault("SIGKILL of the bridge between PUBACK and receipt, three times", runs=1, full_runs=10)
def kill_between_puback_and_receipt(site: Site) -> None:
    site.start()
    for _ in range(3):
        site.world.rules(False)
        wait_until("batches accepted, but not receipted", lambda: site.status()["waiting"]["unreceipted"] > 20, 20)
        site.kill_bridge()
        site.start_bridge()
        site.world.rules(True)
        site.flowing()


@fault("SIGKILL of the bridge while it scores, five times", runs=1, full_runs=10, slow_s=90)
def kill_while_scoring(site: Site) -> None:
    site.settings["SCORED_FIELDS"] = "sensor2"
    site.start()
    for _ in range(5):
        site.flowing()
        site.let_pass(site.chance.uniform(0, 1))
        site.kill_bridge()
        site.start_bridge()


@fault("SIGTERM and start, three times", runs=1)
def terminate(site: Site) -> None:
    site.start()
    for _ in range(3):
        site.flowing(20)
        site.bridge.stop(15)
        site.start_bridge()
