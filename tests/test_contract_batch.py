"""Batches and alert messages: what is packed comes back exactly, sealed bytes never change, old ones stay readable."""
import hashlib
import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import alerts, batch, numbers, payloads
from contract.errors import BadPayload
from tests.messages import EXAMPLES, OUTBOX, T0_MS, anomaly, sealed
from tests.number_strategies import exact_numbers


def _pi(i: int, sensor1: str, sensor2: str, **other: Any) -> batch.Row:
    at_ms = T0_MS + 100 * i
    plain = batch.Row(1795330000000000 + i, at_ms + 21 + i % 2, Decimal(at_ms) / 1000, at_ms, 4000 + i, "k3q9w2",
                      {"sensor1": Decimal(sensor1), "sensor2": Decimal(sensor2)}, {}, None, None)
    return plain._replace(**other)


def _iso(i: int, text: str, at_ms: int, **other: Any) -> batch.Row:
    values = {"sensor2": Decimal("0.5")}
    plain = batch.Row(1795330000000000 + i, at_ms + 1500, text, at_ms, None, None, values, {}, None, None)
    return plain._replace(**other)


def _camera(i: int, persons: int, **other: Any) -> batch.Row:
    at_ms = T0_MS + 1000 * i
    plain = batch.Row(1795330000000000 + i, at_ms + 35, f"2026-11-22T07:24:{i:02d}Z", at_ms, None, None,
                      {"persons_detected": Decimal(persons)}, {}, None, ("edge-data", 0, 117 + i, at_ms + 4))
    return plain._replace(**other)


# What stands in the golden files; released batches lie in queues and archives, so neither side may ever change.
GOLDEN: dict[str, dict[str, list[batch.Row]]] = {
    "readings": {
        "pi-1": [
            _pi(0, "20.01", "0.4987", values={"sensor1": Decimal("20.01"), "sensor2": Decimal("0.4987"),
                                              "humidity": Decimal("40.125")}),
            _pi(1, "20.00", "0.5012"),
            _pi(2, "19.98", "1.9034", mark="anomaly"),
            _pi(3, "20.02", "0.4955", mark="unclassified"),
        ],
        "pi-2": [
            _iso(0, "2026-11-22T07:23:58.250Z", T0_MS - 1750),
            _iso(1, "2026-11-22T09:24:01+02:00", T0_MS + 1000,
                 extra={"unit": "V", "calibration": [Decimal("0.10"), True]}),
            _iso(7, "2026-11-01T00:00:00Z", 1793491200000, received_ms=T0_MS + 2000,
                 values={"sensor2": Decimal("-1.5E-12")}),
        ],
    },
    "events": {"camera-01": [_camera(0, 5), _camera(1, 0), _camera(2, 3, extra={"zone": "gate"})]},
}
ALERT = [anomaly(2, "1.9034", number=1795330000000002),
         anomaly(3, "0.4955", number=1795330000000003, timestamp="2026-11-22T07:24:00.3Z", field="pressure",
                 value=Decimal("23.50"))]


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_a_golden_batch_is_read_as_on_the_day_it_was_released(kind: str) -> None:
    found = batch.read((EXAMPLES / f"batch_{kind}.json").read_text())
    assert (found.kind, found.outbox, found.site) == (kind, OUTBOX, None)
    assert {series["device"]: batch.unpack(series) for series in found.series} == GOLDEN[kind]


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_packing_the_golden_rows_gives_the_golden_bytes(kind: str) -> None:
    assert sealed(kind, GOLDEN[kind]) == (EXAMPLES / f"batch_{kind}.json").read_bytes().rstrip(b"\n")


def test_the_golden_alert_messages() -> None:
    single, several = alerts.seal(OUTBOX, "pi-1", ALERT[:1])[1], alerts.seal(OUTBOX, "pi-1", ALERT)[1]
    assert single == (EXAMPLES / "alert.json").read_bytes().rstrip(b"\n")
    assert several == (EXAMPLES / "alert_also.json").read_bytes().rstrip(b"\n")
    assert alerts.read(several) == alerts.Alert(json.loads(several)["id"], "pi-1", None, ALERT)


def test_the_id_is_taken_from_the_bytes_after_it() -> None:
    text = sealed("readings", GOLDEN["readings"])
    match = re.match(rb'\{"v":1,"id":"([0-9a-f]{24})",(.*)\Z', text, re.S)
    assert match and hashlib.sha256(match.group(2)).hexdigest()[:24] == match.group(1).decode()
    other = batch.seal_series("readings", OUTBOX[:-1] + "2", [batch.pack("pi-1", GOLDEN["readings"]["pi-1"])])[0]
    assert other != batch.seal_series("readings", OUTBOX, [batch.pack("pi-1", GOLDEN["readings"]["pi-1"])])[0]


def test_an_alert_begins_with_the_three_fields_that_were_there_before() -> None:
    text = alerts.seal(OUTBOX, "pi-1", ALERT[:1])[1].decode()
    assert text.startswith('{"timestamp":1795332240.2,"sensor2":1.9034,"anomaly":true,')


@pytest.mark.parametrize("length", (1, 2, 500))
def test_a_standard_reading_takes_at_most_20_bytes(length: int) -> None:
    rows = [_pi(i, f"{20 + (i * 37 % 11 - 5) / 100:.2f}", f"{0.5 + (i * 7919 % 997 - 500) / 10000:.4f}", seq=4000 + i)
            for i in range(length)]
    packed = batch.pack("raspberrypi-4f21c8", rows)
    assert batch.unpack(packed) == rows
    assert length < 500 or len(packed) <= 20 * length


def test_too_large_a_batch_is_refused_not_cut() -> None:
    big = batch.pack("pi-1", [_pi(0, "20.0", "0.5", extra={"text": "x" * batch.MAX_BYTES})])
    with pytest.raises(BadPayload, match="batch too large"):
        batch.seal_series("readings", OUTBOX, [big])


@pytest.mark.parametrize("message", (
    "[]", "7", '{"v":2,"id":"0123456789abcdef01234567","outbox":"x","kind":"readings","series":[]}',
    '{"v":1,"id":"0123456789abcdef01234567","kind":"readings","series":[]}', "{", '{"id":"x"}'))
def test_what_no_version_ever_was_is_refused(message: str) -> None:
    with pytest.raises(BadPayload):
        batch.read(message)


@pytest.mark.parametrize("message", ('{"v":1}', '{"v":2}', "[]", '{"v":1,"id":"x","device_id":"d","also":7}'))
def test_what_is_no_alert_is_refused(message: str) -> None:
    with pytest.raises(BadPayload):
        alerts.read(message)


def test_an_event_has_one_name_whoever_delivers_it() -> None:
    assert batch.event_id("edge-data", 0, 117, 1795332240004) == "80d4dfa3e2aeec94023c4f4a"
    names = {batch.event_id(*identity) for identity in (("edge-data", 0, 117, 1), ("edge-data", 0, 117, 2),
                                                        ("edge-data", 0, 118, 1), ("edge-data", 1, 117, 1),
                                                        ("edge-dat", 0, 117, 1))}
    assert len(names) == 5


# --- whatever rows there are, they come back

_names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
_moments = st.integers(0, (payloads.LAST_SECOND - 1) * 1000)
_json = st.recursive(st.none() | st.booleans() | st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
                     | st.integers(-10 ** 20, 10 ** 20), lambda one: st.lists(one, max_size=2) |
                     st.dictionaries(_names, one, max_size=2), max_leaves=4)
_isos = st.datetimes(min_value=datetime(1970, 1, 2)).map(lambda d: d.isoformat() + "+01:00")
_timestamps = (_moments.map(lambda ms: Decimal(ms) / 1000) | _isos | st.integers(0, payloads.LAST_SECOND - 1)
               | exact_numbers.filter(lambda n: 0 <= n < payloads.LAST_SECOND))


@st.composite
def _rows(draw: Any) -> list[batch.Row]:
    kind = draw(st.sampled_from(("readings", "events")))
    number, rows = draw(st.integers(0, 10 ** 16)), []
    for _ in range(draw(st.integers(1, 8))):
        number += draw(st.just(1) | st.integers(1, 1000))
        timestamp = draw(_timestamps)
        kafka = (draw(st.sampled_from(("edge-data", "other"))), draw(st.integers(0, 3)), draw(st.integers(0, 2 ** 62)),
                 draw(st.integers(-1, 2 ** 45)))
        rows.append(batch.Row(
            number, draw(_moments), timestamp, payloads.at_ms(timestamp), draw(st.none() | st.integers(0, 10 ** 17)),
            draw(st.sampled_from((None, "a1", "b2"))), draw(st.dictionaries(_names, exact_numbers, max_size=3)),
            draw(st.dictionaries(_names, _json, max_size=2)), draw(st.sampled_from((None, "anomaly", "unclassified"))),
            kafka if kind == "events" else None))
    return rows


@given(_rows())
def test_any_rows_come_back_exactly(rows: list[batch.Row]) -> None:
    batch_id, text = batch.seal_series("readings", OUTBOX, [batch.pack("d", rows)])
    found = batch.read(text)
    assert (found.id, batch.unpack(found.series[0])) == (batch_id, rows)


@given(_rows())
def test_any_rows_survive_a_rule_that_writes_the_json_anew(rows: list[batch.Row]) -> None:
    text = batch.seal_series("readings", OUTBOX, [batch.pack("d", rows)])[1]
    rewritten = numbers.dumps({"site": "s", **numbers.loads(text)})
    assert batch.unpack(batch.read(rewritten).series[0]) == rows


@given(st.lists(st.tuples(exact_numbers, st.booleans(), st.none() | exact_numbers), min_size=1, max_size=5))
def test_any_alert_comes_back_exactly(parts: list[tuple[Decimal, bool, Decimal | None]]) -> None:
    classified = [anomaly(i, "1", value=value, sensor2=value, anomaly=found, score=score)
                  for i, (value, found, score) in enumerate(parts)]
    batch_id, text = alerts.seal(OUTBOX, "pi-1", classified)
    assert alerts.read(text) == alerts.Alert(batch_id, "pi-1", None, classified)


@pytest.mark.parametrize("column", [
    [Decimal(10) ** 20, Decimal("1E-20")], [Decimal("1e30"), Decimal("1e-10")], [10 ** 33, Decimal("0.1")],
])
def test_no_packed_integer_is_longer_than_rule_sql_keeps(column: list[Decimal]) -> None:
    packed = numbers.pack(column)
    assert packed[0] == "text" and numbers.unpack(packed) == [numbers.canonical(Decimal(n)) for n in column]
