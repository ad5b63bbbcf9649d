"""Kafka rows: camera events through a real broker, where Java and Maven are there, and none of them twice."""
from deploy.processes import wait_until
from tests import kafka_rig
from tests.scorecard.faults import fault
from tests.scorecard.site import Site

RATE = 10  # an event is an item of its own in the table: the emulator stores some 50 a second


def _start(site: Site) -> kafka_rig.KafkaBroker:
    broker = site.world.kafka.borrow()
    site.at_close.append(site.world.kafka.give_back)
    kafka_rig.create_topic(broker.servers, site.name)
    site.settings.update(BOOTSTRAP_SERVERS=broker.servers, KAFKA_TOPIC=site.name, RECEIPT_TIMEOUT="10")
    site.start_bridge()
    site.start_camera(RATE, broker.servers)
    site.flowing(20)
    return broker


@fault("Kafka: SIGKILL of the broker", absent=kafka_rig.missing, slow_s=95)
def kafka_killed(site: Site) -> None:
    broker = _start(site)
    broker.kill()
    broker.start()
    site.flowing()


@fault("Kafka: SIGKILL of the bridge, three times", absent=kafka_rig.missing, slow_s=44)
def kafka_bridge_killed(site: Site) -> None:
    _start(site)
    for _ in range(3):
        site.flowing(20)
        site.let_pass(site.chance.uniform(0, 0.3))
        site.kill_bridge()
        site.start_bridge(wait=False)


@fault("Kafka: topic deleted and made anew; its events are new", absent=kafka_rig.missing, slow_s=26)
def kafka_topic_recreated(site: Site) -> None:
    broker = _start(site)
    [(device, camera)] = site.cameras.items()
    camera.stop(30)
    made = site.record(device).read_bytes().count(b"\n")
    wait_until("the bridge to take the first ones", lambda: site.taken([device]) >= made, 30)
    kafka_rig.delete_topic(broker.servers, site.name)
    kafka_rig.create_topic(broker.servers, site.name)
    site.start_camera(RATE, broker.servers)
    site.let_pass(5)
