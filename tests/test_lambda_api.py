"""api: what was stored is answered exactly, in order and page by page; a wrong question is told what to do."""
import base64
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import alerts, numbers, payloads, routes
from lambdas import api, api_request, table
from tests import api_rig
from tests.api_rig import ACCESS, call, get, pages, readings, refused, store
from tests.client_faults import Intercepted
from tests.cloud_tables import aggregated, alerted, dump, failures, persisted, streamed
from tests.messages import EXAMPLES, OUTBOX, SITE, T0_MS, anomaly, by_rule, event, row, sealed
from tests.number_strategies import exact_numbers

archive = api_rig.archive
READINGS, ROLLUPS = "/sites/{site}/devices/{device}/readings", "/sites/{site}/devices/{device}/rollups"
PI = {"site": SITE, "device": "pi-1"}
pytestmark = pytest.mark.usefixtures("archive")


# --- the golden answers: what the dashboard and other consumers are built on

@pytest.mark.parametrize(("name", "path", "parameters", "query"), (
    ("data", "/data", None, {}),
    ("devices", "/devices", None, {}),
    ("readings", READINGS, PI, {}),
    ("rollups", ROLLUPS, PI, {"from_": "2026-11-22T07:00Z", "to": "2026-11-22T08:00Z"}),
    ("alerts", "/alerts", None, {"day": "2026-11-22"}),
    ("health", "/health", None, {}),
))
def test_the_answers_are_the_golden_ones(name: str, path: str, parameters: Any, query: dict[str, str]) -> None:
    store(*(by_rule((EXAMPLES / f"batch_{kind}.json").read_bytes()) for kind in ("readings", "events")))
    alerted(by_rule((EXAMPLES / "alert_also.json").read_bytes()))
    assert get(path, parameters, **query) == numbers.loads((EXAMPLES / f"api_{name}.json").read_bytes())


def test_the_golden_problem() -> None:
    _, problem, _ = call("GET /data", limit="many")
    assert problem == json.loads((EXAMPLES / "api_problem.json").read_text())


def test_every_route_of_the_contract_is_answered() -> None:
    assert set(api.ANSWERS) == set(routes.API)


# --- readings

def test_a_new_field_goes_all_the_way_exactly_without_a_code_change() -> None:
    values = {"sensor1": "20.01", "sensor2": "0.4987", "radon": "1234567890.123456789012345678901234"}
    measured = ", ".join(f'"{name}": {value}' for name, value in values.items())
    sent = payloads.read(b'{"timestamp": 1795332240.125, %s}' % measured.encode())
    plain = row(0, {})._replace(timestamp=sent.timestamp, at_ms=sent.at_ms, values=sent.values)
    store(readings(plain, plain._replace(number=1, mark="anomaly")))
    newest, oldest = get(READINGS, PI)["readings"]
    assert str(oldest["values"]["radon"]) == values["radon"] and str(oldest["timestamp"]) == "1795332240.125"
    assert oldest["values"] == sent.values and "mark" not in oldest and newest["mark"] == "anomaly"
    [minute] = get(ROLLUPS, PI, from_=1795332240, to=1795332300)["rollups"]
    assert minute["fields"]["radon"] == {
        "n": 2, "sum": Decimal("2469135780.246913578024691357802468"), "min": sent.values["radon"],
        "max": sent.values["radon"], "mean": sent.values["radon"], "anomalies": 1}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exact_numbers, st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
def test_any_number_and_any_field_name_come_back(value: Decimal, name: str) -> None:
    device = f"pi-{len(dump('readings'))}"
    values = {"sensor2": Decimal("0.5"), name: value}
    since = len(streamed())
    assert failures(persisted(readings(row(0, {})._replace(values=values), device=device))) == []
    assert failures(aggregated(streamed(since=since))) == []
    assert get(READINGS, {"site": SITE, "device": device})["readings"][0]["values"] == values
    [minute] = get(ROLLUPS, {"site": SITE, "device": device}, from_=1795332240, to=1795332300)["rollups"]
    assert {field: total["sum"] for field, total in minute["fields"].items()} == values


def test_readings_come_latest_receive_number_first_whatever_their_timestamps_say() -> None:
    late = row(12, {"sensor2": 12}, timestamp="2026-11-01T00:00:00Z", at_ms=T0_MS - 21 * 86_400_000)
    store(readings(*[row(n, {"sensor2": n}) for n in (7, 8, 9)]), readings(row(10, {"sensor2": 10}), late),
          readings(*[row(n, {"sensor2": n}) for n in (1, 2, 3)]))
    assert [r["number"] for r in get(READINGS, PI)["readings"]] == [12, 10, 9, 8, 7, 3, 2, 1]


@pytest.mark.parametrize("limit", (1, 2, 3, 7, 1000))
def test_pages_join_without_a_gap_or_a_repeat(limit: int) -> None:
    batches = [*range(0, 9)], [20, 21, 22], [30]
    received = [number for one in batches for number in one]
    store(*(readings(*[row(n, {"sensor2": n}) for n in one]) for one in batches))
    read = [[reading["number"] for reading in page["readings"]] for page in pages(READINGS, PI, limit=limit)]
    assert [number for page in read for number in page] == received[::-1]
    assert max(map(len, read)) <= limit and len(read) == -(-len(received) // limit)


def test_from_and_to_choose_by_the_moment_that_the_roll_ups_use() -> None:
    wrong = row(5, {"sensor2": 5}, timestamp=0, at_ms=0)  # its clock is not set: the moment is that of receipt
    store(readings(*[row(n, {"sensor2": n}) for n in range(5)], wrong),
          readings(*[row(n, {"sensor2": n}) for n in range(6, 10)]))

    def between(**query: Any) -> list[int]:
        return [reading["number"] for reading in get(READINGS, PI, **query)["readings"]]

    assert between(from_="2026-11-22T07:24:00.300Z", to="2026-11-22T07:24:00.600Z") == [5, 4, 3]
    assert between(from_="1795332240.8") == [9, 8] and between(to="1795332240.2") == [1, 0]
    assert between(from_="2026-11-22T08:00Z") == []


def test_a_range_with_little_in_it_is_looked_for_a_bounded_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_request, "MAX_LEFT_OUT", 10)
    store(readings(*[row(n, {"sensor2": n}) for n in range(50)]))
    first, *rest = [[reading["number"] for reading in page["readings"]]
                    for page in pages(READINGS, PI, to="1795332240.2")]
    assert first == [] and [number for page in rest for number in page] == [1, 0]


def test_reading_ends_where_nothing_older_can_be_in_the_range() -> None:
    old_ms = T0_MS - 3 * 86_400_000
    old = {"timestamp": Decimal(old_ms) / 1000, "at_ms": old_ms, "received_ms": old_ms}
    store(*(readings(row(n, {"sensor2": 1}, **old)) for n in range(10)), readings(row(100, {"sensor2": 1})))
    asked: list[str] = []
    Intercepted("dynamodb", lambda operation, request: asked.append(operation))
    assert len(get(READINGS, PI, from_=T0_MS // 1000 - 60, limit=1)["readings"]) == 1
    assert asked == ["query"]


def test_an_answer_stays_below_what_lambda_refuses() -> None:
    rows = [row(n, {"sensor2": n}, extra={"text": "x" * 60_000}) for n in range(100)]
    assert failures(persisted(*(readings(*rows[n:n + 2]) for n in range(0, 100, 2)))) == []
    page = get(READINGS, PI)
    assert 3_000_000 < len(numbers.dumps(page)) < 6_000_000
    rest = get(READINGS, PI, cursor=page["next"])
    assert [r["number"] for r in page["readings"] + rest["readings"]] == list(range(99, -1, -1))
    assert rest["next"] is None


def test_expired_readings_are_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "1")
    now_ms = table.now_ms()
    store(readings(row(1, {"sensor2": 1}, received_ms=now_ms)),
          readings(row(2, {"sensor2": 2}, received_ms=now_ms + 7_200_000)))
    monkeypatch.setattr(table, "now_ms", lambda: now_ms + 25 * 3_600_000)  # DynamoDB itself deletes days late
    assert [reading["number"] for reading in get(READINGS, PI)["readings"]] == [2]


# --- roll-ups

def test_roll_ups_of_a_range_page_by_page() -> None:
    store(readings(*[row(600 * minute, {"sensor2": minute}) for minute in range(10)]))
    of_three = pages(ROLLUPS, PI, from_="2026-11-22T07:26Z", to="2026-11-22T07:31:00Z", limit=3)
    assert [[minute["minute"][11:] for minute in page["rollups"]] for page in of_three] == [
        ["07:26Z", "07:27Z", "07:28Z"], ["07:29Z", "07:30Z"]]


def test_roll_ups_are_of_the_last_hour_unless_asked_otherwise() -> None:
    now = int(time.time() * 1000)
    store(readings(*[row(i, {"sensor2": i}, timestamp=Decimal(at) / 1000, at_ms=at, received_ms=at + 5)
                     for i, at in enumerate((now - 3_700_000, now - 1_800_000, now))]))
    assert [minute["fields"]["sensor2"]["sum"] for minute in get(ROLLUPS, PI)["rollups"]] == [1, 2]


def test_what_was_not_trusted_is_flagged() -> None:
    store(readings(row(0, {"sensor2": 1}, timestamp=0, at_ms=0), row(600, {"sensor2": 1})))
    assert [m["untrusted"] for m in get(ROLLUPS, PI, from_=1795332240, to=1795332360)["rollups"]] == [True, False]


def test_a_mean_is_rounded_not_refused() -> None:
    store(readings(*[row(n, {"sensor2": n}) for n in (0, 0, 1)]))
    [minute] = get(ROLLUPS, PI, from_=1795332240, to=1795332300)["rollups"]
    assert str(minute["fields"]["sensor2"]["mean"]) == "0." + "3" * 34


# --- alerts and devices

def test_alerts_of_a_day_latest_first_page_by_page() -> None:
    night_ms = T0_MS + 17 * 3_600_000
    for device in ("pi-1", "pi-2"):
        alerted(by_rule(alerts.seal(OUTBOX, device, [anomaly(n, f"1.{n}") for n in range(5)])[1]))
    alerted(by_rule(alerts.seal(OUTBOX, "pi-1", [anomaly(9, "9", received_ms=night_ms)])[1]))
    read = [[(alert["device"], alert["number"], alert["value"]) for alert in page["alerts"]]
            for page in pages("/alerts", day="2026-11-22", limit=7)]
    want = [(device, n, Decimal(f"1.{n}")) for n in range(4, -1, -1) for device in ("pi-2", "pi-1")]
    assert read == [want[:7], want[7:]]
    assert [alert["number"] for alert in get("/alerts", day="2026-11-23")["alerts"]] == [9]
    assert get("/alerts")["day"] == table.day_text(int(time.time() * 1000))


def test_devices_with_all_that_they_send() -> None:
    assert get("/devices") == {"devices": []}
    store(readings(row(1, {"sensor2": 1})), by_rule(sealed("events", {"pi-1": [event(1, 1)]})))
    assert get("/devices") == {"devices": [{**PI, "kinds": ["events", "readings"]}]}


# --- events

def test_events_of_all_cameras_newest_first() -> None:
    assert get("/data") == []
    store(by_rule(sealed("events", {"camera-01": [event(n, n) for n in (1, 3, 5)],
                                    "camera-02": [event(n, n) for n in (2, 4)]})))
    assert [(one["device_id"], one["persons_detected"]) for one in get("/data")] == [
        ("camera-01", 5), ("camera-02", 4), ("camera-01", 3), ("camera-02", 2), ("camera-01", 1)]
    assert [one["persons_detected"] for one in get("/data", limit=2)] == [5, 4]
    assert [one["persons_detected"] for one in get("/data", device_id="camera-02")] == [4, 2]
    assert get("/data", device_id="camera-03") == []
    assert list(get("/data")[0]) == ["device_id", "timestamp", "persons_detected"]


def test_a_cameras_events_keep_the_order_of_their_receive_numbers_when_its_clock_steps_back() -> None:
    rows = [event(1, 1), event(2, 2, received_ms=T0_MS - 60_000), event(3, 3)]
    store(by_rule(sealed("events", {"camera-01": rows})))
    assert [one["persons_detected"] for one in get("/data")] == [3, 2, 1]


def test_an_event_that_counts_no_persons_is_not_among_the_data() -> None:
    """One bridge's odd event must not take the answer from everybody."""
    store(by_rule(sealed("events", {"camera-01": [event(1, 1), event(2, 2)._replace(values={"lux": Decimal(3)})]})))
    assert [one["persons_detected"] for one in get("/data")] == [1]


# --- questions that cannot be answered

def code(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(("query", "detail"), (
    ({"limit": "0"}, "limit"), ({"limit": "1001"}, "limit"), ({"limit": "-1"}, "limit"), ({"limit": "ten"}, "limit"),
    ({"limit": "5,5"}, "limit"), ({"limit": "٣"}, "limit"), ({"limit": ""}, "limit"),
    ({"from_": "noon"}, "from"), ({"to": "-5"}, "to"), ({"to": "1e300"}, "to"),
    ({"from_": "2026-11-22T07:24 02:00"}, "%2B"), ({"cursor": code(["a", 1])}, "cursor"),
    ({"cursor": "x"}, "cursor"), ({"cursor": "%%"}, "cursor"), ({"cursor": "é"}, "cursor"),
    ({"cursor": code(["r#00000000000000001#" + "0" * 24, -1])}, "cursor"), ({"cursor": code({"r": 1})}, "cursor"),
    ({"cursor": code(["r#00000000000000001#" + "0" * 24, True])}, "cursor"), ({"cursor": code(7)}, "cursor"),
    ({"cursor": code(["e#edge-data#0", 1])}, "cursor"), ({"cursor": code([["r#"], 1])}, "cursor"),
    ({"cursor": base64.b64encode(b"\xff\xfe").decode()}, "cursor"),
    ({"cursor": base64.b64encode(b"[" * 6000).decode()}, "cursor"),
))
def test_a_wrong_parameter_is_named(query: dict[str, str], detail: str) -> None:
    assert detail in refused(400, f"GET {READINGS}", PI, **query)


def test_the_epoch_is_a_moment_like_any_other() -> None:
    store(readings(row(1, {"sensor2": 1})))
    assert get(READINGS, PI, to="0")["readings"] == [] and get(ROLLUPS, PI, to="0")["rollups"] == []
    assert len(get(READINGS, PI, from_="0")["readings"]) == 1


@pytest.mark.parametrize("claims", ({}, {**ACCESS, "token_use": "id"}, {"sub": "ann"}))
def test_only_an_access_token_opens_a_route(claims: dict[str, str]) -> None:
    store(readings(row(1, {"sensor2": 1})))
    for route in routes.API:
        if route not in routes.OPEN:
            path = PI if "{" in route[1] else None
            detail = refused(401, " ".join(route), path, claims=claims, body='{"device_id":"a","persons_detected":1}')
            assert "access token" in detail
    assert call("GET /data", claims=claims)[2]["www-authenticate"].startswith("Bearer")
    assert call("GET /health", claims=claims)[0] == 200 and len(dump("readings")) == 1


def test_a_wrong_range_or_day_is_named() -> None:
    assert "from" in refused(400, f"GET {ROLLUPS}", PI, from_=1795332300, to=1795332300)
    assert "UTC day" in refused(400, "GET /alerts", day="22.11.2026")
    assert "no such day" in refused(400, "GET /alerts", day="2026-02-30")
    assert "bad device id" in refused(400, "GET /data", device_id="a#b")


def test_a_device_that_was_never_heard_of_is_not_found_but_an_empty_range_is_empty() -> None:
    store(readings(row(1, {"sensor2": 1})))
    for path in (READINGS, ROLLUPS):
        assert "GET /devices" in refused(404, f"GET {path}", {"site": SITE, "device": "pi-7"})
        assert "GET /devices" in refused(404, f"GET {path}", {"site": "elsewhere", "device": "pi-1"})
        assert "bad device id" in refused(400, f"GET {path}", {"site": SITE, "device": "a#b"})
        for site in ("", "s" * 129, "a#b", "a\nb"):
            assert "names no site" in refused(400, f"GET {path}", {"site": site, "device": "pi-1"})
    assert get(ROLLUPS, PI, from_="2001-01-01T00:00Z", to="2001-01-02T00:00Z")["rollups"] == []
    assert get(READINGS, PI, from_="2027-01-01T00:00Z")["readings"] == []


def catch_all(method: str, path: str) -> tuple[int, dict[str, str]]:
    request = {"routeKey": "$default", "rawPath": path, "requestContext": {"http": {"method": method}}}
    answer = api.handler(request, None)
    return answer["statusCode"], answer["headers"]


def test_an_unknown_path_or_method_behind_a_catch_all_route() -> None:
    assert catch_all("GET", "/nothing")[0] == 404
    assert catch_all("GET", "/sites/a/devices/b/c/readings")[0] == 404
    status, headers = catch_all("DELETE", "/data")
    assert (status, headers["allow"]) == (405, "GET, POST")
    assert catch_all("POST", f"/sites/{SITE}/devices/pi-1/readings")[1]["allow"] == "GET"


def test_a_busy_table_says_when_to_come_again() -> None:
    def refuse(operation: str, request: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "secret"}}, operation)

    Intercepted("dynamodb", refuse)
    assert "secret" not in refused(503, "GET /health")
    assert call("GET /health")[2]["retry-after"] == "1"


@pytest.mark.parametrize("error", (
    ClientError({"Error": {"Code": "AccessDenied", "Message": "arn:aws:secret"}}, "Query"),
    RuntimeError("arn:aws:secret")))
def test_a_fault_of_ours_leaks_nothing_and_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(operation: str, request: Any) -> None:
        raise error

    Intercepted("dynamodb", refuse)
    assert "secret" not in refused(500, "GET /devices")
    assert "arn:aws:secret" in caplog.text


def test_a_damaged_item_is_our_fault_and_the_log_names_it(caplog: pytest.LogCaptureFixture) -> None:
    store(readings(row(1, {"sensor2": 1})))
    [item] = dump("readings")
    table.client("dynamodb").put_item(TableName="readings", Item={**item, "series": {"S": "{"}})
    assert "our fault" in refused(500, f"GET {READINGS}", PI)
    assert f"{SITE}#pi-1, {item['sk']['S']}" in caplog.text and "make rebuild" in caplog.text


def test_a_bridge_clock_that_was_set_back_hides_nothing_from_a_range() -> None:
    hour_ms = 3_600_000
    ahead = readings(*[row(n, {"sensor2": 1}, received_ms=T0_MS + hour_ms + n) for n in range(5)])
    corrected = readings(*[row(100 + n, {"sensor2": 2}, received_ms=T0_MS - hour_ms + n) for n in range(5)])
    store(ahead, corrected)
    found = get(READINGS, PI, from_=T0_MS // 1000 - 60)["readings"]
    assert sum(reading["values"]["sensor2"] == 1 for reading in found) == 5
