"""The whole pipeline under the faults its users will see; counted from the publishers' records and DynamoDB."""
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from contract import numbers, routes, topics
from deploy import reconcile
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@contextmanager
def running(directory: Path, **changes: Any) -> Iterator[Pipeline]:
    """A started pipeline; whatever happens, none of its processes outlives the test."""
    plan = Plan(**{"directory": directory, "assembly": ROOT / ".demo" / "cdk.out", "seconds": 10, **changes})
    pipeline = Pipeline(plan)
    try:
        pipeline.start()
        yield pipeline
    finally:
        pipeline.close()
    assert not [name for name, part in pipeline.parts.items() if part.running]


def committed_over(pipeline: Pipeline, count: int) -> None:
    wait_until(f"{count} readings on the bridge's disk", lambda: pipeline.status().get("committed", 0) > count, 60)


def finished(pipeline: Pipeline) -> reconcile.Everything:
    """Let every device make all its readings, drain, and count."""
    for part in pipeline.devices:
        part.wait_for_end(90)
    pipeline.drain()
    return reconcile.everything(pipeline)


def assert_whole(counted: reconcile.Everything, readings: int, events: int) -> None:
    assert not counted.wrong, counted
    assert (counted.readings.published, counted.events.published) == (readings, events)
    assert counted.alerts.stored == counted.alerts.raised


def get(pipeline: Pipeline, path: str) -> Any:
    with urllib.request.urlopen(pipeline.ready["endpoints"]["api"].rstrip("/") + path, timeout=10) as answer:
        return numbers.loads(answer.read())


def test_a_third_field_comes_back_exactly_and_bad_input_stops_nothing(tmp_path: Path) -> None:
    with running(tmp_path, publisher_arguments=["--extra", "humidity"], pis=2) as pipeline:
        publish_bad_input(pipeline)
        assert_whole(finished(pipeline), readings=200, events=10)
        assert pipeline.status()["dead_lettered"] == len(BAD_INPUT)
        made = {(r["device"], r["seq"]): r for r in reconcile.recorded(pipeline.records("pi"))}
        answer = get(pipeline, f"/sites/{pipeline.thing}/devices/pi-1/readings?limit=100")
        returned = {reading["seq"]: reading for reading in answer["readings"]}
        assert len(returned) == 100
        for seq, reading in returned.items():
            record = made["pi-1", seq]
            for field in ("sensor1", "sensor2", "humidity"):
                assert Decimal(reading["values"][field]) == Decimal(record["values"][field])
            assert Decimal(reading["timestamp"]) == Decimal(record["timestamp"])
        totals = get(pipeline, f"/sites/{pipeline.thing}/devices/pi-1/rollups")
        assert sum(minute["fields"]["humidity"]["n"] for minute in totals["rollups"]) == 100
        [site] = get(pipeline, "/status")["sites"]  # the bridge's last words
        assert site["site"] == pipeline.thing and sum(site["waiting"].values()) == 0 and site["age_s"] < 60
        assert {d["device"]: (d["committed"], d["delivered"], d["waiting"], d["gaps"]) for d in site["devices"]} == {
            "pi-1": (100, 100, 0, 0), "pi-2": (100, 100, 0, 0), "camera-01": (10, 10, 0, 0)}
        bands = [one["normal"]["sensor2"] for one in site["devices"] if one["device"].startswith("pi-")]
        assert len(bands) == 2 and all(low < Decimal("0.5") < high for low, high in bands), bands
        assert site["dead_lettered"] == sum(site["dead_lettered_by_reason"].values()) == len(BAD_INPUT)
        persons = get(pipeline, "/data?limit=100")
        assert len(persons) == 10 and set(persons[0]) == {"device_id", "timestamp", "persons_detected"}


BAD_INPUT = (
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": '),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor1": 20.0}'),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": "high"}'),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": NaN}'),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": 1e200}'),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": 0.5, "note": "%s"}' % (b"x" * 200_000)),
    (topics.SENSOR_DATA, b'{"timestamp": 1.5, "sensor2": 0.5, "note": "\xff"}'),
    (topics.SENSOR_DATA + "/a/b", b'{"timestamp": 1.5, "sensor2": 0.5}'),
)


def publish_bad_input(pipeline: Pipeline) -> None:
    assert pipeline.broker is not None
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", pipeline.broker.port)
    client.loop_start()
    try:
        for topic, payload in BAD_INPUT:
            client.publish(topic, payload, qos=1).wait_for_publish(10)
    finally:
        client.disconnect()
        client.loop_stop()


def test_sigkill_of_the_bridge_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as pipeline:
        for count in (60, 160):
            committed_over(pipeline, count)
            pipeline.parts["bridge"].kill()
            pipeline.start_bridge()
        assert_whole(finished(pipeline), readings=300, events=10)


@pytest.mark.needs("mosquitto")
def test_sigkill_of_mosquitto_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as pipeline:
        assert pipeline.broker is not None and pipeline.broker.kind == "mosquitto"
        committed_over(pipeline, 60)
        pipeline.parts["LAN broker"].kill()
        pipeline.parts["LAN broker"].start()
        assert_whole(finished(pipeline), readings=300, events=10)


def test_everything_sent_twice_changes_no_count_and_is_receipted_again(tmp_path: Path) -> None:
    with running(tmp_path, seconds=6) as pipeline:
        assert_whole(finished(pipeline), readings=180, events=6)
        tables = ("readings", "rollups", "alerts")
        before = {name: snapshot(pipeline, name) for name in tables}
        messages = archived_messages(pipeline)
        receipted = publish_again(pipeline, messages)
        assert receipted == {message["id"] for _, message in messages}
        pipeline.control("/flush")
        assert {name: snapshot(pipeline, name) for name in tables} == before


def snapshot(pipeline: Pipeline, table: str) -> list[str]:
    """Every item, but what is of connections: who publishes again connects again."""
    return sorted(repr(sorted(item.items())) for item in reconcile.scan(pipeline.table(table))
                  if item["pk"] not in ("presence", "watch"))


def archived_messages(pipeline: Pipeline) -> list[tuple[str, dict[str, Any]]]:
    """(topic it came by, message) of every batch and alert in the archive."""
    found = []
    s3, bucket = pipeline.client("s3"), pipeline.archive_bucket()
    for route in routes.ROUTES:
        if route.name == "status":
            continue  # has no id, and nobody waits for a receipt of it
        topic = route.topic or topics.basic_ingest(routes.rule_name(pipeline.name, route.name), pipeline.thing)
        for line in reconcile.archived_lines(s3, bucket, f"archive/{route.name}/"):
            message = numbers.loads(line)
            del message["site"]  # the rule adds it
            found.append((topic, message))
    return found


def publish_again(pipeline: Pipeline, messages: list[tuple[str, dict[str, Any]]]) -> set[str]:
    """Publish messages over mutual TLS as the (stopped) bridge's thing; returns the ids that were receipted."""
    certs, seen, connected = pipeline.plan.directory / "certs", set[str](), threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=pipeline.thing)
    client.tls_set(str(certs / "AmazonRootCA1.pem"), str(certs / f"{pipeline.thing}.crt"),
                   str(certs / f"{pipeline.thing}.key"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
    client.on_message = lambda _c, _u, message: seen.update(json.loads(message.payload)["ids"])
    client.on_subscribe = lambda *_: connected.set()
    client.on_connect = lambda c, *_: c.subscribe(topics.receipts(pipeline.thing), 1)
    client.connect_async("localhost", pipeline.ready["endpoints"]["gateway"]["port"])  # retried: one CONNECT a second
    client.loop_start()
    try:
        wait_until("the subscription to receipts", connected.is_set, 10)
        for topic, message in messages:
            client.publish(topic, numbers.dumps(message), qos=1).wait_for_publish(10)
        wait_until("a receipt for each", lambda: seen >= {m["id"] for _, m in messages}, 30)
    finally:
        client.disconnect()
        client.loop_stop()
    return seen
