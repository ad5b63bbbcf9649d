"""The contract: numbers, payloads, topics, routes and roll-ups against their golden examples."""
import importlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import batch, numbers, payloads, rollups, routes, topics
from contract.errors import BadPayload
from tests.messages import EXAMPLES, T0_MS, row
from tests.number_strategies import exact_numbers, too_large, too_long, too_small


def example(name: str) -> bytes:
    return (EXAMPLES / f"{name}.json").read_bytes()


def reading(**fields: Any) -> bytes:
    message = {"timestamp": 1795332240, "sensor1": 20, "sensor2": Decimal("0.5"), **fields}
    return numbers.dumps({name: value for name, value in message.items() if value is not ...}).encode()


# --- golden examples

def test_a_reading() -> None:
    got = payloads.read(example("reading"))
    assert got == payloads.Reading(None, Decimal("1795332240.123"), T0_MS + 123, None, None, None,
                                   {"sensor1": Decimal("20.01"), "sensor2": Decimal("0.4987")}, {})
    built = payloads.sensor_reading(got.timestamp, sorted(got.values.items()))
    assert numbers.dumps(built) == numbers.dumps(numbers.loads(example("reading")))


def test_a_reading_from_a_spool() -> None:
    got = payloads.read(example("reading_spool"))
    assert (got.device_id, got.spool, got.seq, got.first) == ("pi-1", "k3q9w2", 4000, 3990)
    built = payloads.sensor_reading(got.timestamp, sorted(got.values.items()), device_id="pi-1", spool="k3q9w2",
                                    seq=4000, first=3990)
    assert numbers.dumps(built) == numbers.dumps(numbers.loads(example("reading_spool")))


def test_a_camera_event() -> None:
    got = payloads.read(example("camera_event"), required="persons_detected")
    assert (got.device_id, got.timestamp, got.at_ms, got.values) == (
        "camera-01", "2026-11-22T07:24:00Z", T0_MS, {"persons_detected": Decimal(5)})
    assert payloads.camera_event("camera-01", "2026-11-22T07:24:00Z", 5) == numbers.loads(example("camera_event"))


def test_an_ack_and_a_receipt() -> None:
    assert payloads.ack("k3q9w2", 4000) == json.loads(example("ack"))
    ids = {batch.read(example(name)).id for name in ("batch_readings", "batch_events")}
    assert routes.receipt(ids) == json.loads(example("receipt"))


def test_every_kind_of_message_has_an_example_and_a_function() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.json")}
    for route in routes.ROUTES:
        wanted = f"batch_{route.name}" if route.topic is None else {"alerts": "alert"}.get(route.name, route.name)
        assert wanted in names, f"route {route.name} has no golden example contract/examples/{wanted}.json"
        assert callable(importlib.import_module(f"lambdas.{route.handler}").handler)


# --- numbers

@given(exact_numbers)
def test_a_number_survives_json(number: Decimal) -> None:
    assert numbers.loads(numbers.dumps({"n": number})) == {"n": number}
    assert numbers.check(number) == number


@given(too_long | too_large | too_small)
def test_a_number_that_dynamodb_cannot_hold_is_refused(number: Any) -> None:
    with pytest.raises(BadPayload, match=r"number out of range: sensor2"):
        payloads.read(reading(sensor2=number))


@given(st.lists(st.none() | exact_numbers, max_size=12).filter(lambda column: column.count(None) < len(column)))
def test_a_column_survives_packing(column: list[Decimal | None]) -> None:
    packed = numbers.pack(column)
    assert numbers.unpack(numbers.loads(numbers.dumps(packed))) == column
    assert packed[0] == "text" or all(n is None or isinstance(n, int) for n in packed)


@pytest.mark.parametrize(("text", "canonical"), (
    ("20.0", "20"), ("0.50", "0.5"), ("1E+3", "1000"), ("-0.0", "-0"), ("1e40", "1E+40"), ("0E-20", "0")))
def test_one_number_has_one_form(text: str, canonical: str) -> None:
    assert str(numbers.canonical(Decimal(text))) == canonical


def test_dumps_refuses_binary_floats() -> None:
    with pytest.raises(TypeError, match="float"):
        numbers.dumps({"n": [0.1]})


# --- readings

@pytest.mark.parametrize(("raw", "reason"), (
    (b'{"timestamp": 1', "broken JSON"),
    (b"", "broken JSON"),
    (b"[" * 60000, "broken JSON"),
    (b"\xff\xfe", "bad UTF-8"),
    (b'{"timestamp":1,"sensor2":1,"unit":"\\ud800"}', "bad UTF-8"),
    (b"[1]", "not an object"),
    (b'{"timestamp":1,"sensor2":NaN}', "not a number"),
    (b'{"timestamp":1,"sensor2":-Infinity}', "not a number"),
    (b'{"timestamp":1,"sensor2":1e9999999999999999999999}', "number out of range"),
    (reading(sensor2=...), "missing sensor2"),
    (reading(sensor2="0.5"), "not a number"),
    (reading(sensor2=True), "not a number"),
    (reading(sensor1="warm"), "not a number"),
    (reading(timestamp=...), "missing timestamp"),
    (reading(timestamp="yesterday"), "bad timestamp"),
    (reading(timestamp=None), "bad timestamp"),
    (reading(timestamp=-1), "bad timestamp"),
    (reading(timestamp=1795332240123), "bad timestamp"),
    (reading(device_id="a/b"), "bad device id"),
    (reading(device_id="a#b"), "bad device id"),
    (reading(device_id=""), "bad device id"),
    (reading(device_id="d" * 129), "bad device id"),
    (reading(device_id=7), "bad device id"),
    (reading(seq=-1), "bad seq"),
    (reading(seq=Decimal("1.5")), "bad seq"),
    (reading(spool="s"), "bad spool"),
    (reading(spool="s", seq=1, first=2), "bad spool"),
    (reading(spool="s" * 65, seq=1, first=1), "bad spool"),
    (reading(spool="", seq=1, first=1), "bad spool"),
    (reading(nested=[[[[[[[[[1]]]]]]]]]), "nested too deeply"),
    (reading(nested={"deep": 10 ** 34 + 1}), "number out of range"),
    (reading(**{f"f{i}": i for i in range(300)}), "too many fields"),
    (reading(**{"": 5}), "bad field name"),
    (reading(text="x" * 65536), "message too large"),
    (reading(timestamp="2026-11-22T07:24:00." + "1" * 19), "bad timestamp"),
    (b'{"timestamp":1,"sensor2":1,"note":"\xef\xbf\xbe"}', "bad character"),
    (b'{"timestamp":1,"sensor2":1,"note":"\\uFFFF"}', "bad character"),
))
def test_bad_input_is_refused_with_its_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(BadPayload) as caught:
        payloads.read(raw)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 400


def test_any_numeric_field_is_a_measurement_and_all_else_is_kept() -> None:
    got = payloads.read(reading(humidity=Decimal("40.1250"), unit="V", ok=False, tags=[1, {"a": None}]))
    assert got.values == {"sensor1": 20, "sensor2": Decimal("0.5"), "humidity": Decimal("40.125")}
    assert got.extra == {"unit": "V", "ok": False, "tags": [1, {"a": None}]}


@pytest.mark.parametrize(("timestamp", "at_ms"), (
    (1795332240, T0_MS), (Decimal("1795332240.0005"), T0_MS + 1), (Decimal("1795332240.00049"), T0_MS),
    ("2026-11-22T07:24:00Z", T0_MS), ("2026-11-22T07:24:00", T0_MS), ("2026-11-22 09:24:00+02:00", T0_MS),
    ("2026-11-22T01:54:00.250-0530", T0_MS + 250), ("2026-11-22T07:24Z", T0_MS),
    ("2026-11-22T07:24:00.123456789Z", T0_MS + 123), ("2026-11-22T08:24:00,5+01", T0_MS + 500),
    ("1970-01-01T00:00:00Z", 0), (0, 0), ("2028-02-29T00:00:00Z", 1835395200000)))
def test_a_timestamp_is_understood(timestamp: Any, at_ms: int) -> None:
    assert payloads.at_ms(timestamp) == at_ms


@pytest.mark.parametrize("timestamp", (
    "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-22", "22.11.2026", "2026-11-22T24:00:00Z",
    "1969-12-31T23:59:59Z", "2026-11-22T07:24:00Z\n", True, None, [1], payloads.LAST_SECOND, "٢٠٢٦-11-22T07:24:00Z"))
def test_a_bad_timestamp_is_refused(timestamp: Any) -> None:
    with pytest.raises(BadPayload, match="bad timestamp"):
        payloads.at_ms(timestamp)


def test_many_payloads_are_read_again_as_each_alone() -> None:
    raws = [b'{"timestamp": 1.50, "sensor2": 0.50, "note": ["a", {"b": 1.0}]}',
            b' {"timestamp":"2026-11-22T10:00:00Z","sensor2":1}\n',
            b'{"timestamp": 3, "sensor2": 1e3, "spool": "s", "seq": 5, "first": 4, "caf\\u00e9": 2}']
    assert payloads.read_again(raws) == [payloads.read(raw) for raw in raws]
    for bad in (b"{", b"[1]", b'{"timestamp": 1, "sensor2": 1}, {"timestamp": 2, "sensor2": 2}', b'{"timestamp": 1}'):
        with pytest.raises(BadPayload):
            payloads.read_again([raws[0], bad])


# --- topics and routes

def test_topics_are_built_and_taken_apart() -> None:
    assert (topics.sensor_data(), topics.sensor_data("pi 1"), topics.sensor_ack("pi-1")) == (
        "sensor/data", "sensor/data/pi 1", "sensor/ack/pi-1")
    assert (topics.device_of("sensor/data"), topics.device_of(topics.sensor_data("pi 1"))) == (None, "pi 1")
    assert topics.receipts("T") == "edgecloud/receipts/T" and topics.status("T") == "edgecloud/status/T"
    assert topics.basic_ingest(routes.rule_name("edgecloud", "readings"), "T") == "$aws/rules/edgecloud_readings/T"


@pytest.mark.parametrize("topic", ("sensor/database", "sensor", "sensor/data/a/b", "sensor/data/", "sensor/data/+"))
def test_an_unknown_topic_is_refused(topic: str) -> None:
    with pytest.raises(BadPayload):
        topics.device_of(topic)


def test_a_rule_takes_the_site_from_the_connection() -> None:
    sql = {route.name: routes.sql(route, ["A", "B"]) for route in routes.ROUTES}
    assert sql["readings"] == sql["events"] == "SELECT *, clientid() AS site"
    assert sql["alerts"] == ("SELECT *, clientid() AS site FROM 'edgecloud/alerts' "
                             "WHERE clientid() = 'A' OR clientid() = 'B'")
    assert sql["status"] == ("SELECT *, clientid() AS site FROM 'edgecloud/status/+' "
                             "WHERE clientid() = 'A' OR clientid() = 'B'")


# --- roll-ups

@pytest.mark.parametrize(("behind_ms", "trusted"), (
    (0, True), (rollups.LATE_MS, True), (rollups.LATE_MS + 1, False), (-rollups.AHEAD_MS, True),
    (-rollups.AHEAD_MS - 1, False)))
def test_the_minute_is_that_of_the_timestamp_when_it_can_be_trusted(behind_ms: int, trusted: bool) -> None:
    received_ms = T0_MS + 30_000
    minute_ms, got = rollups.minute_of(received_ms - behind_ms, received_ms)
    moment_ms = received_ms - behind_ms if trusted else received_ms
    assert (minute_ms, got) == (moment_ms // 60_000 * 60_000, trusted)


@given(st.lists(st.tuples(st.decimals(-1000, 1000, places=3), st.integers(0, 2), st.booleans()), min_size=1))
def test_totals_are_exact_and_do_not_depend_on_how_rows_are_batched(parts: list[tuple[Decimal, int, bool]]) -> None:
    rows = [row(600 * minute, {"t": value}, mark="anomaly" if marked else None) for value, minute, marked in parts]
    whole = rollups.totals(rows)
    for (minute_ms, field), total in whole.items():
        of_it = [(value, marked) for value, minute, marked in parts if T0_MS + 60_000 * minute == minute_ms]
        assert (field, total) == ("t", rollups.Total(len(of_it), sum(v for v, _ in of_it), min(v for v, _ in of_it),
                                                     max(v for v, _ in of_it), sum(m for _, m in of_it)))
    half = len(rows) // 2
    first, second = rollups.totals(rows[:half]), rollups.totals(rows[half:])
    merged = {key: rollups.merge(first[key], second[key]) if key in first and key in second else
              first.get(key) or second[key] for key in {**first, **second}}
    assert merged == whole
