"""table.py and table_*.py: keys that sort, items in and out of DynamoDB's form, reading page by page, no AWS needed to
import."""
import os
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import batch, numbers
from contract.errors import BadPayload
from contract.rollups import Total
from lambdas import table, table_delivery, table_items, table_rollups
from tests.messages import EXAMPLES, SITE, T0_MS, anomaly, event, row
from tests.number_strategies import exact_numbers


@given(st.dictionaries(st.text(min_size=1), exact_numbers | st.text() | st.booleans() | st.lists(exact_numbers)))
def test_an_item_survives_dynamodbs_form(item: dict[str, object]) -> None:
    assert table.from_attributes(table.to_attributes(item)) == item


@given(st.lists(st.integers(0, 10 ** 17 - 1), min_size=2, max_size=5, unique=True))
def test_sort_keys_sort_by_receive_number(received: list[int]) -> None:
    readings = {n: table_items.readings_item("s", "0" * 24, {**_series(), "number": n})["sk"] for n in received}
    assert sorted(readings.values()) == [readings[n] for n in sorted(received)]
    alerts = {n: table_items.alert_item("s", "d", "0" * 24, anomaly(1, "1", number=n))["sk"] for n in received}
    assert sorted(alerts.values()) == [alerts[n] for n in sorted(received)]


def _series() -> dict[str, object]:
    decoded: dict[str, object] = numbers.loads(batch.pack("d", [row(1, {"sensor2": 1})]))
    return decoded


def test_minutes_and_days_are_utc() -> None:
    assert table_rollups.key("minute", T0_MS) == "m#2026-11-22T07:24Z" and table.day_text(T0_MS) == "2026-11-22"
    assert table.day_text(T0_MS + 17 * 3_600_000) == "2026-11-23"


@pytest.mark.parametrize("device", ("a#b", "", "a/b", None))
def test_a_device_that_would_break_the_keys_is_refused(device: str) -> None:
    for make in (lambda: table_items.readings_item("s", "0" * 24, {**_series(), "device": device}),
                 lambda: table_items.event_item("s", device, event(1, 1)),
                 lambda: table_items.alert_item("s", device, "0" * 24, anomaly(1, "1"))):
        with pytest.raises(BadPayload, match="bad device id"):
            make()


@pytest.mark.parametrize(("site", "message_id"), (
    (None, "0" * 24), ("", "0" * 24), (7, "0" * 24), ("s", None), ("s", "pk"), ("s", "0" * 23), ("s", "0" * 24 + "\n")))
def test_a_message_without_a_site_or_a_proper_id_is_refused(site: object, message_id: object) -> None:
    with pytest.raises(BadPayload):
        table_delivery.check_origin(site, message_id)


def test_entries_of_a_minute_are_summed() -> None:
    one = {"t": Total(2, Decimal("1.5"), Decimal("0.5"), Decimal(1), 1)}
    two = {"t": Total(1, Decimal(-3), Decimal(-3), Decimal(-3), 0),
           "u": Total(1, Decimal(1), Decimal(1), Decimal(1), 0)}
    item = {"pk": "s#d", "sk": "m#2026-11-22T07:24Z", "expires_at": Decimal(9), "untrusted": True,
            "a" * 24: table_rollups.entry(one), "b" * 24: table_rollups.entry(two)}
    assert table_rollups.totals_of(table.from_attributes(table.to_attributes(item))) == {
        "t": Total(3, Decimal("-1.5"), Decimal(-3), Decimal(1), 1), "u": two["u"]}


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("READINGS_TABLE", raising=False)
    with pytest.raises(KeyError, match="READINGS_TABLE is not set"):
        table.name("READINGS_TABLE")


def test_items_are_read_page_by_page_in_either_direction_and_expired_ones_left_out(tables: None) -> None:
    table.put_all("ALERTS_TABLE", [{"pk": "p", "sk": f"{n:03d}", "expires_at": 1 if n % 10 == 0 else 2 ** 40}
                                   for n in range(60)])
    want = [f"{n:03d}" for n in range(5, 56) if n % 10]
    assert [item["sk"] for item in table.query("ALERTS_TABLE", "p", "005", "055", page=7)] == want
    assert [item["sk"] for item in table.query("ALERTS_TABLE", "p", "005", "055", newest_first=True)] == want[::-1]


def test_one_key_twice_in_a_call_is_put_once(tables: None) -> None:
    table.put_all("ALERTS_TABLE", [{"pk": "p", "sk": "s", "n": n} for n in range(30)])
    assert list(table.query("ALERTS_TABLE", "p", "s", "s")) == [{"pk": "p", "sk": "s", "n": 29}]


def test_an_event_item_gives_its_row_back() -> None:
    one = event(5, 3, extra={"zone": "gate", "box": [Decimal("0.10"), 2]}, timestamp="2026-11-22T07:24:00Z")
    item = table.from_attributes(table.to_attributes(table_items.event_item(SITE, "camera-01", one)))
    assert table_items.rows_of(item) == [one._replace(kafka=None)]


def test_a_readings_item_gives_its_rows_back() -> None:
    [series, _] = batch.read((EXAMPLES / "batch_readings.json").read_text()).series
    item = table_items.readings_item(SITE, "0" * 24, series)
    assert table_items.rows_of(table.from_attributes(table.to_attributes(item))) == batch.unpack(series)


@pytest.mark.parametrize("function", ("aggregate", "alert", "api", "hours", "persist", "status", "watch"))
def test_a_function_can_be_imported_without_environment_or_aws(function: str) -> None:
    code = (f"import sys, lambdas.{function} as f; assert callable(f.handler); from lambdas import table; "
            "assert not table.CLIENTS; "
            "print([m for m in ('pydantic', 'aws_lambda_powertools', 'numpy', 'moto') if m in sys.modules])")
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "SYSTEMROOT")}
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES.parent.parent, env=environment, timeout=60,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_what_arrives_late_does_not_vanish_on_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "30")
    now_s = int(time.time())
    assert table.expires_at(now_s * 1000) == now_s + 30 * table.DAY_S
    for moment_ms in (1_577_836_800_000, (now_s - 31 * table.DAY_S) * 1000, 0):
        late = table.expires_at(moment_ms)
        assert now_s + 30 * table.DAY_S < late <= now_s + 31 * table.DAY_S and late % table.DAY_S == 0
