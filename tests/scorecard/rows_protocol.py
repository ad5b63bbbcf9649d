"""Protocol rows: what AWS IoT Core may do to a client, and what a second client of the same name does."""
import ssl
import threading

import paho.mqtt.client as mqtt

from deploy.processes import wait_until
from tests.scorecard.faults import fault
from tests.scorecard.site import Site

RULES = "$aws/rules/"


@fault("PUBACK withheld: the message was accepted", slow_s=30)
def puback_withheld(site: Site) -> None:
    site.start(2, 20)
    site.world.gateway(withhold_puback={"topic_prefix": RULES, "count": 2})
    site.flowing(40)
    site.let_pass(5)  # the bridge gives the two up after a minute, and sends them again while the site drains


@fault("PUBACK 2 s late, ten times")
def puback_late(site: Site) -> None:
    site.start()
    site.world.gateway(delay_puback={"delay_s": 2, "topic_prefix": RULES, "count": 10})
    site.let_pass(12)


@fault("PUBACK negative (quota exceeded), ten times")
def puback_negative(site: Site) -> None:
    site.start()
    site.world.gateway(fail_puback={"reason_code": 0x97, "topic_prefix": RULES, "count": 10})
    site.let_pass(10)


@fault("connection lost after the message was accepted, before its PUBACK, six times")
def puback_dropped(site: Site) -> None:
    site.start()
    for _ in range(6):
        site.world.gateway(drop_before_puback={"topic_prefix": RULES, "count": 1})
        site.let_pass(2)


@fault("rules disabled for 8 s: PUBACK, but nothing is stored and no receipt comes")
def rules_disabled(site: Site) -> None:
    site.start()
    site.world.rules(False)
    site.let_pass(8)
    site.world.rules(True)


@fault("CONNECT refused, five times after a cut")
def connect_refused(site: Site) -> None:
    site.start()
    site.world.gateway(refuse_connects={"count": 5, "reason_code": 0x97})
    site.world.gateway(cut={})
    site.let_pass(1)
    site.world.gateway(restore={})
    wait_until("the connection", lambda: site.connected("cloud"), 40)


@fault("taken over by a second client of the same id, five times")
def takeover(site: Site) -> None:
    site.start()
    for _ in range(5):
        _connect_as_the_bridge(site)
        wait_until("the bridge to be back", lambda: site.connected("cloud"), 30)
        site.let_pass(1.5)


def _connect_as_the_bridge(site: Site) -> None:
    """A second client with the same certificate and id; its CONNECT may be refused for coming within a second."""
    certs, thing, up = site.world.certs, site.world.thing, threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=thing)
    client.tls_set(str(certs / "AmazonRootCA1.pem"), str(certs / f"{thing}.crt"), str(certs / f"{thing}.key"),
                   tls_version=ssl.PROTOCOL_TLS_CLIENT)
    client.on_connect = lambda *details: up.set() if not details[3].is_failure else None
    client.connect_async("localhost", site.world.gateway_port)
    client.loop_start()
    try:
        wait_until("the second client", up.is_set, 30)
    finally:
        client.disconnect()
        client.loop_stop()


@fault("everything sent twice: every batch once more when all is stored")
def everything_twice(site: Site) -> None:
    from tests.e2e.test_pipeline import archived_messages, publish_again
    site.start()
    site.let_pass(4)
    site.drain()
    pipeline = site.world.pipeline
    mine = [(topic, message) for topic, message in archived_messages(pipeline)
            if any(series["device"] in site.publishers for series in message.get("series", ()))]
    if not mine:
        raise AssertionError("the archive has no batch of this run")
    publish_again(pipeline, mine)
    site.start_bridge()
