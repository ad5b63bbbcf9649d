"""What a reading costs: the bars of docs/cost.md, that page itself, and the report that the demo ends with."""
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract import batch, numbers
from deploy import cost, cost_design, cost_page, cost_report
from deploy.cost_cloud import Cloud, grouped
from deploy.cost_messages import alert_message, events_message, one_alert, status_message
from deploy.cost_meters import API, EVENTS, LINK, READINGS, RECEIPTS, STANDING, STATUS, Lines, naive
from deploy.cost_scale import SIZES, size
from deploy.cost_site import Site, drive, payload, rows, sealed
from deploy.cost_tables import START_MS, tables
from infra.errors import SynthesisFault
from infra.settings import read
from lambdas import table, table_devices
from local_cloud import assembly as local_assembly
from local_cloud.cost import prices
from local_cloud.deployer import check
from tests.synthesized import assembly, resources

PRICES = prices.load()


@pytest.fixture(scope="module")
def design() -> cost_design.Design:
    return cost_design.load(assembly())


# --- the bars

def test_a_reading_costs_a_fiftieth_of_the_plain_designs_and_a_site_three_dollars(design: cost_design.Design) -> None:
    share, fixed_usd = cost_page.bars(design, PRICES)
    assert share <= 1 / cost_page.BAR, f"a reading costs 1/{1 / share:.0f}: see the first table of docs/cost.md"
    assert fixed_usd <= cost_page.FIXED_BAR_USD, f"{fixed_usd:.2f} dollars a month: move something to monitoring=full"


def test_the_page_is_current(design: cost_design.Design) -> None:
    full = cost_design.load(assembly(("monitoring", "full")))
    found = cost_page.parts(design, full, PRICES, ages_s=(10,))
    text = cost.PAGE.read_text()
    [row] = found.pop("age_table").splitlines()[2:]
    stale = [name for name, part in found.items() if part not in text] + ([] if row in text else ["age_table"])
    assert not stale, f"docs/cost.md is out of date ({', '.join(stale)}): run make cost"
    assert "$" + "{" not in text


# --- driving the code

def test_a_site_makes_the_readings_that_it_says() -> None:
    site = Site(devices=2, rate=10, batch_age_s=10, seconds=30)
    found = list(sealed(site))
    assert [at_s for at_s, _ in found] == [10, 20, 30]
    opened = [batch.read(body) for _, body in found]
    assert sum(series["n"] for one in opened for series in one.series) == site.readings == 600
    first = batch.unpack(opened[0].series[0])
    assert first[:3] == rows("pi-1", 1, 100, 0, 10)[:3]


def test_a_batch_that_would_be_too_large_is_split() -> None:
    found = [body for _, body in sealed(Site(devices=20, rate=50, batch_age_s=30, seconds=30))]
    assert len(found) > 1 and all(len(body) <= batch.MAX_BYTES for body in found)
    assert sum(series["n"] for body in found for series in batch.read(body).series) == 30_000


def test_a_window_closes_after_its_time_or_when_full() -> None:
    arrived = [(0.0, "a"), (0.5, "b"), (1.0, "c"), (1.2, "d"), (9.0, "e")]
    assert list(grouped(arrived, 1, most=10)) == [(1.0, ["a", "b"]), (2.0, ["c", "d"]), (10.0, ["e"])]
    assert [group for _, group in grouped(arrived, 100, most=2)] == [["a", "b"], ["c", "d"], ["e"]]


def test_larger_batches_cost_less_and_every_batch_is_receipted(design: cost_design.Design) -> None:
    often, seldom = (drive(Site(batch_age_s=age, seconds=60), design, PRICES) for age in (2, 20))
    assert often.lines.usd(PRICES, READINGS) > 3 * seldom.lines.usd(PRICES, READINGS)
    assert often.lines.by_line[RECEIPTS]["iot.message"] == 3 * often.invocations["persist"] > 0
    assert seldom.writes["persist"] > 0 and seldom.writes["aggregate"] > 0 and seldom.writes["hours"] > 0


def test_a_drive_leaves_the_functions_as_they_were(design: cost_design.Design) -> None:
    clients = dict(table.CLIENTS)
    drive(Site(seconds=10), design, PRICES)
    assert clients == table.CLIENTS and not table_devices.KNOWN


def test_the_date_does_not_change_what_it_costs(design: cost_design.Design, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that arrives after its time expires on a whole day: a shorter number, which once made the page stale."""
    found = []
    for now_ns in (START_MS * 1_000_000, (START_MS + 400 * 86_400_000) * 1_000_000):
        monkeypatch.setattr("lambdas.table.time.time_ns", lambda now_ns=now_ns: now_ns)
        found.append(dict(drive(Site(seconds=120), design, PRICES).lines.by_line))
    assert found[0] == found[1]


def test_a_handler_that_fails_stops_the_calculation(design: cost_design.Design) -> None:
    with tables(design.tables(), {}) as at:
        cloud = Cloud(READINGS, design, PRICES, at, lines=Lines(), line=READINGS, receipts=RECEIPTS)
        with pytest.raises(RuntimeError, match="persist did not take"):
            cloud.invoke("persist", lambda event, context: {"batchItemFailures": [{"itemIdentifier": "m"}]}, [])


def test_messages_are_what_the_contract_reads() -> None:
    assert batch.read(events_message(10, 0)).kind == "events"
    assert numbers.loads(status_message(3))["devices"].keys() == {"pi-0", "pi-1", "pi-2"}
    assert numbers.loads(alert_message())["anomaly"] is True


def test_an_alert_costs_its_item_its_incident_and_its_notice(design: cost_design.Design) -> None:
    lines = one_alert(design, PRICES).by_line["alerts"]
    assert lines["dynamodb.write_unit"] >= 3 and lines["sns.request"] == 1 and lines["iot.message"] == 4


# --- the plain design

def test_the_plain_design_pays_for_each_reading() -> None:
    payloads = [payload("pi-1", row) for row in rows("pi-1", 1, 10, 0, 10)]
    found = naive(PRICES, payloads).by_line[READINGS]
    assert {name: found[name] for name in ("iot.message", "iot.rule", "iot.action", "lambda.request",
                                           "dynamodb.write_unit")} == dict.fromkeys(
        ("iot.message", "iot.rule", "iot.action", "lambda.request", "dynamodb.write_unit"), 10)
    large = naive(PRICES, [payloads[0][:-1] + b',"text":"' + b"x" * 6000 + b'"}']).by_line[READINGS]
    assert (large["iot.message"], large["dynamodb.write_unit"]) == (2, 6)


# --- sizes

def test_the_binding_quota_is_the_one_most_used(design: cost_design.Design) -> None:
    run = drive(Site(devices=10, seconds=30), design, PRICES)
    found = [size(devices, run, design, PRICES) for devices in SIZES[1:]]
    for one in found:
        quota, share = one.binding
        assert share == max(used / quota.value for quota, used in one.used.items()) and quota in one.used
    assert found[-1].sites == 100_000 and found[-1].binding[1] > 1 > found[0].binding[1]
    assert found[-1].usd[READINGS] == pytest.approx(10_000 * found[0].usd[READINGS])


def test_a_template_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cost_design.DesignFault, match=r"no \*\.template\.json"):
        cost_design.load(tmp_path)
    (tmp_path / "a.template.json").write_text(json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}))
    with pytest.raises(cost_design.DesignFault, match=r"no function lambdas\.persist\.handler"):
        cost_design.load(tmp_path).function("persist")


# --- the demo's report

def row(meter: str, resource: str, origin: str, quantity: float) -> dict[str, Any]:
    return {"meter": meter, "resource": resource, "origin": origin, "quantity": quantity,
            "usd": PRICES.usd(meter, quantity)}


ROWS = [
    row("iot.rule", "ReadingsRule", "", 10), row("iot.message", "edgecloud/receipts/EdgeCloudAWS", "", 30),
    row("iot.message", "edgecloud/status/EdgeCloudAWS", "", 4), row("iot.message", "CONNECT", "", 1),
    row("iot.connection_minute", "EdgeCloudAWS", "", 0.5), row("sqs.request", "EventsQueue12AB", "send", 3),
    row("lambda.request", "PersistFunction12AB", "ReadingsQueue34CD", 10),
    row("lambda.request", "PersistFunction12AB", "EventsQueue34CD", 3),
    row("lambda.gb_s", "PersistFunction12AB", "publishing", 0.1),
    row("dynamodb.write_unit", "Readings", "PersistFunction12AB EdgeCloudAWS#pi-1", 9),
    row("dynamodb.write_unit", "Readings", "PersistFunction12AB EdgeCloudAWS#camera-01", 3),
    row("lambda.request", "AggregateFunction12AB", "Readings", 4), row("lambda.request", "ApiFunction12AB", "", 7),
    row("lambda.request", "WatchFunction12AB", "", 1), row("s3.put", "Archive", "ReadingsArchive", 1),
    row("api.request", "HttpApi12AB", "", 7)]


def test_rows_of_a_bill_find_their_lines() -> None:
    found = cost_report.lines_of({"rows": ROWS}, frozenset({"camera-01"})).by_line
    assert found[READINGS]["iot.rule"] == 10 and found[READINGS]["dynamodb.write_unit"] == 9
    assert found[EVENTS]["dynamodb.write_unit"] == 3 and found[EVENTS]["sqs.request"] == 3
    # aggregate's four invocations in proportion to what was written: three of four for readings
    assert (found[READINGS]["lambda.request"], found[EVENTS]["lambda.request"]) == (10 + 3, 3 + 1)
    assert (found[RECEIPTS]["iot.message"], found[RECEIPTS]["lambda.gb_s"]) == (30, 0.1)
    assert found[STATUS]["iot.message"] == 4 and found[LINK] == {"iot.message": 1, "iot.connection_minute": 0.5}
    assert found[API] == {"lambda.request": 7, "api.request": 7} and found[STANDING] == {"lambda.request": 1}


def test_alerts_pay_for_their_own_receipts() -> None:
    notices = row("sns.request", "AlertFunction12AB", "", 2)
    found = cost_report.lines_of({"rows": [*ROWS, notices], "publishes": {
        "AlertFunction12AB": 7, "PersistFunction12AB": 5}}, frozenset()).by_line
    assert (found["alerts"]["iot.message"], found[RECEIPTS]["iot.message"]) == (15, 15)


def test_no_row_is_left_out() -> None:
    found = cost_report.lines_of({"rows": ROWS}, frozenset({"camera-01"}))
    total = sum(found.usd(PRICES, line) for line in found.by_line)
    assert total == pytest.approx(sum(one["usd"] for one in ROWS))


@pytest.fixture
def ran() -> cost_report.Ran:
    readings = [{"device": "pi-1", "seq": one.seq, "timestamp": one.timestamp, "values": dict(one.values)}
                for one in rows("pi-1", 1, 300, 0, 10)]
    return cost_report.Ran(readings, cost_report.span_s(readings), 30, frozenset({"camera-01"}), 2, 1)


def test_the_report_says_a_months_dollars_and_the_share(ran: cost_report.Ran, design: cost_design.Design) -> None:
    monthly = [row("cloudwatch.alarm", "A", "", 1)]
    found = cost_report.report({"rows": ROWS, "monthly": monthly, "measured_ms": {}}, ran, design, PRICES)
    assert found["cost_ratio_to_naive"] == pytest.approx(
        found["cost_usd_per_million_readings"] / found["cost"]["naive_usd_per_million_readings"], rel=0.01)
    months = found["cost"]["usd_per_month"]
    assert found["cost"]["readings_per_s"] == pytest.approx(10, rel=0.02) and months[STANDING] == 0.1
    assert months[READINGS] == pytest.approx(
        found["cost_usd_per_million_readings"] * found["cost"]["readings_per_s"] * prices.MONTH_S / 1e6, rel=0.01)
    assert found["cost"]["usd_per_month_in_all"] == pytest.approx(sum(months.values()), rel=0.01)
    assert found["cost"]["by_default"]["cost_ratio_to_naive"] <= 1 / cost_page.BAR
    told = "\n".join(cost_report.told(found))
    assert "dollars a month" in told and "BATCH_AGE=10" in told


def test_a_report_without_readings_is_refused(ran: cost_report.Ran, design: cost_design.Design) -> None:
    with pytest.raises(ValueError, match="no readings"):
        cost_report.report({"rows": [], "monthly": []}, replace(ran, readings=[]), design, PRICES)


# --- the budget

def test_a_budget_tells_by_email_from_where_cloudformation_has_budgets() -> None:
    found = json.loads((assembly(("budget_usd", "25"), ("budget_email", "a@b.example, c@d.example"))
                        / "EdgeCloudBudget.template.json").read_text())
    [made] = resources(found, "AWS::Budgets::Budget").values()
    assert made["Properties"]["Budget"]["BudgetLimit"] == {"Amount": 25, "Unit": "USD"}
    told = made["Properties"]["NotificationsWithSubscribers"]
    assert [(one["Notification"]["NotificationType"], one["Notification"]["Threshold"]) for one in told] == [
        ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
    assert all([who["Address"] for who in one["Subscribers"]] == ["a@b.example", "c@d.example"] for one in told)
    assert not (assembly() / "EdgeCloudBudget.template.json").exists()


def test_a_budget_runs_in_the_local_cloud() -> None:
    found = local_assembly.load(assembly(("budget_usd", "25"), ("budget_email", "a@b.example, c@d.example")))
    assert found.region(None, "nowhere") == "eu-north-1"
    check(found, {})


@pytest.mark.parametrize("context, what", (
    ({"budget_usd": "12"}, "set budget_email"), ({"budget_usd": "much"}, "an amount in dollars"),
    ({"budget_usd": "12", "budget_email": ",".join(f"p{n}@b.example" for n in range(11))}, "expected 1 to 10")))
def test_a_budget_that_nobody_hears_of_is_refused(context: dict[str, str], what: str) -> None:
    with pytest.raises(SynthesisFault, match=what):
        read(context, "1.0.0")
    assert read({"budget_usd": "12", "alert_email": "a@b.example"}, "1.0.0").budget_usd == 12


