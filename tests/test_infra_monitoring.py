"""The monitoring stack: everything is watched, by metrics that exist, at its price, and the runbook knows it all."""
import json
import re
from functools import cache
from typing import Any

import pytest

from infra import monitoring_queries
from infra.monitoring_alarms import QUEUE_AGE_S, WATCH_PERIOD_S
from lambdas import watch
from local_cloud.alarm_rules import watch as read_alarm
from local_cloud.metrics import Metrics
from tests.synthesized import ROOT, resources, statements, template, templates, text

FULL = (("monitoring", "full"),)
ROUTES = ("readings", "events", "alerts", "status")
METRIC_USD = 0.10  # an alarm costs as many, a month; a query is billed by what it finds
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text().split("\n## CloudWatch alarms\n")[1].split("\n## Alerts of")[0]


@cache
def alarms(*context: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """{logical id: properties} of every alarm of every stack."""
    return {name: one["Properties"] for found in templates(*context).values()
            for name, one in resources(found, "AWS::CloudWatch::Alarm").items()}


def functions(*context: tuple[str, str]) -> set[str]:
    return {one["Properties"]["Handler"].split(".")[1] for found in templates(*context).values()
            for one in resources(found, "AWS::Lambda::Function").values()}


def title(name: str) -> str:
    return name[:1].upper() + name[1:]


def test_basic_watches_what_nobody_would_notice_otherwise() -> None:
    found = {name for name in alarms() if not name.endswith("DeadLettersAlarm")}
    assert found == {*(f"{title(route)}RuleFailuresAlarm" for route in ROUTES), "Api5xxAlarm", "BridgesSilentAlarm"}


def test_full_watches_every_function_queue_and_rule_as_well() -> None:
    wanted = {f"{title(name)}{what}Alarm" for name in functions(*FULL) for what in ("Errors", "Throttles", "Duration")}
    wanted |= {f"{title(route)}{what}Alarm" for route in ROUTES for what in ("ErrorActionFailures", "QueueAge")}
    wanted |= {"ReadingsRuleNotFoundAlarm", "EventsRuleNotFoundAlarm", "StreamAgeAlarm", "LedgerMismatchAlarm",
               "CertificateEndsAlarm", *alarms()}
    assert set(alarms(*FULL)) == wanted


def test_every_alarm_tells_the_operations_topic_says_why_and_treats_missing_data() -> None:
    for name, one in alarms(*FULL).items():
        assert [text(arn) for arn in one["AlarmActions"]] in (["<OperationsTopic>"], ["<Operations>"]), name
        assert one["AlarmDescription"].endswith(f". docs/runbook.md, {name}") and len(one["AlarmDescription"]) > 60
        assert one["TreatMissingData"] == ("missing" if name == "BridgesSilentAlarm" else "notBreaching"), name
        # without data the one alarm whose metric must always be there speaks too, and no other
        assert ("InsufficientDataActions" in one) == (name == "BridgesSilentAlarm")
        assert one["EvaluationPeriods"] == 1 and "OKActions" not in one


def test_no_alarm_watches_a_metric_that_is_measured_nowhere() -> None:
    """The local cloud knows AWS's metrics with their dimensions; ours must be among those that `watch` prints."""
    printed = watch.figures([], [], 0, 0)
    for name, one in alarms(*FULL).items():
        plain = json.loads(json.dumps(one, default=str))
        plain.update({"AlarmActions": [], "InsufficientDataActions": []})
        for entry in plain.get("Metrics", ()):
            entry["Expression"] = text(entry["Expression"])
        read_alarm(plain, Metrics())
        if one.get("Namespace") == watch.NAMESPACE:
            assert one["MetricName"] in {*printed, "certificate_days_left"}, name
            assert one["Dimensions"] == [{"Name": watch.DIMENSION, "Value": "edgecloud"}]
    assert alarms()["BridgesSilentAlarm"]["MetricName"] in watch.ALWAYS, "basic prints no other"
    assert WATCH_PERIOD_S >= 3 * 300, "watch runs every five minutes"


def test_durations_are_held_against_each_functions_own_time_out() -> None:
    for found in templates(*FULL).values():
        for one in resources(found, "AWS::Lambda::Function").values():
            name = one["Properties"]["Handler"].split(".")[1]
            limit_ms = alarms(*FULL)[f"{title(name)}DurationAlarm"]["Threshold"]
            assert limit_ms == pytest.approx(0.8 * 1000 * one["Properties"]["Timeout"])


def test_names_come_from_the_parameters_of_the_other_stacks() -> None:
    found = template("Monitoring", *FULL)
    parameters = {name: one["Default"] for name, one in found["Parameters"].items() if name != "BootstrapVersion"}
    assert parameters["OperationsTopic"] == "/edgecloud/operations-topic"
    dimensions = {name: one["Dimensions"][0]["Value"] for name, one in alarms(*FULL).items() if "Dimensions" in one}
    assert dimensions["PersistErrorsAlarm"] == {"Ref": "PersistFunction"}
    url = {"Ref": "ReadingsQueue"}
    assert dimensions["ReadingsQueueAgeAlarm"] == {"Fn::Select": [4, {"Fn::Split": ["/", url]}]}
    host = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "ApiUrl"}]}]}
    assert dimensions["Api5xxAlarm"] == {"Fn::Select": [0, {"Fn::Split": [".", host]}]}
    assert alarms(*FULL)["ReadingsQueueAgeAlarm"]["Threshold"] == QUEUE_AGE_S


def monthly_usd(found: dict[str, dict[str, Any]], all_failed: bool) -> float:
    """Queries find a metric of a dead-letter queue that holds something, and two of a rule whose two actions failed."""
    by_query = {"AWS/SQS": 1, "AWS/IoT": 2} if all_failed else {"AWS/SQS": 0, "AWS/IoT": 0}
    metrics = [by_query[text(one["Metrics"][0]["Expression"]).split('"')[1]] if "Metrics" in one else 1
               for one in found.values()]
    return METRIC_USD * sum(metrics)


def test_what_it_costs() -> None:
    assert monthly_usd(alarms(), all_failed=False) <= 0.7 and monthly_usd(alarms(), all_failed=True) < 1.6
    assert not resources(template("Monitoring"), "AWS::CloudWatch::Dashboard"), "3 dollars a month"
    assert 3 < monthly_usd(alarms(*FULL), all_failed=False) < monthly_usd(alarms(*FULL), all_failed=True) < 7


# --- the runbook

def test_the_runbook_has_a_row_for_every_alarm_of_both_settings() -> None:
    named = set(re.findall(r"`(\w+Alarm)`", RUNBOOK))
    assert named == set(alarms(*FULL)), f"docs/runbook.md: missing {sorted(set(alarms(*FULL)) - named)}, " \
        f"too many {sorted(named - set(alarms(*FULL)))}"


# --- dashboard, queries, links

def dashboard() -> dict[str, Any]:
    (one,) = resources(template("Monitoring", *FULL), "AWS::CloudWatch::Dashboard").values()
    body = one["Properties"]["DashboardBody"]["Fn::Join"][1]
    return dict(json.loads("".join(part if isinstance(part, str) else "reference" for part in body)))


def test_the_dashboard_is_one_of_at_most_50_metrics_that_do_not_overlap() -> None:
    first, *graphs = dashboard()["widgets"]
    assert first["type"] == "alarm" and len(first["properties"]["alarms"]) <= 100
    assert sum(len(graph["properties"]["metrics"]) for graph in graphs) <= 50, "more are billed as another dashboard"
    places = [(one["x"], one["y"]) for one in (first, *graphs)]
    assert len(set(places)) == len(places) and all(one["x"] + one["width"] <= 24 for one in (first, *graphs))
    assert {"Dead letters", "Waiting in queues"} <= {graph["properties"]["title"] for graph in graphs}
    shown = {metric[1] for graph in graphs for metric in graph["properties"]["metrics"]}
    assert {"bridges_silent", "TopicMatch", "ApproximateAgeOfOldestMessage", "IteratorAge", "5xx"} <= shown
    assert all(graph["properties"]["region"] == "eu-north-1" for graph in graphs)


def test_the_saved_queries_run_over_every_functions_log() -> None:
    found = template("Monitoring")
    queries = resources(found, "AWS::Logs::QueryDefinition")
    assert {one["Properties"]["Name"] for one in queries.values()} == {
        f"EdgeCloud/edgecloud/{name}" for name in monitoring_queries.QUERIES}
    logs = {f"/edgecloud/{name}-log" for name in functions()}
    for one in queries.values():
        asked = {found["Parameters"][group["Ref"]]["Default"] for group in one["Properties"]["LogGroupNames"]}
        assert asked == logs and "|" in one["Properties"]["QueryString"]
    one_batch = queries["OneBatchQuery"]["Properties"]["QueryString"]
    assert monitoring_queries.BATCH_TO_PUT_IN in one_batch and "sort @timestamp asc" in one_batch


def test_links_open_the_console_of_the_deployments_region() -> None:
    outputs = {name: text(one["Value"]) for name, one in template("Monitoring", *FULL)["Outputs"].items()}
    assert set(outputs) == {"AlarmsUrl", "LogQueriesUrl", "MessagesUrl", "DashboardUrl", "TracesUrl"}
    for url in outputs.values():
        assert url.startswith("https://eu-north-1.console.aws.amazon.com/") and "region=eu-north-1" in url
    assert outputs["DashboardUrl"].endswith("/<Dashboard>")
    assert set(template("Monitoring")["Outputs"]) == set(outputs) - {"DashboardUrl", "TracesUrl"}


# --- logs and traces of the functions

def roles(*context: tuple[str, str]) -> dict[str, set[tuple[str, str]]]:
    return {name: set(statements(one["Properties"])) for found in templates(*context).values()
            for name, one in resources(found, "AWS::IAM::Role").items() if "Policies" in one["Properties"]}


def settings(*context: tuple[str, str]) -> dict[str, tuple[str, bool]]:
    """{function: (log level, whether it is traced)}"""
    return {one["Properties"]["Handler"].split(".")[1]: (
        one["Properties"]["LoggingConfig"]["ApplicationLogLevel"],
        one["Properties"].get("TracingConfig") == {"Mode": "Active"})
        for found in templates(*context).values() for one in resources(found, "AWS::Lambda::Function").values()}


def test_a_line_per_batch_and_traces_need_full() -> None:
    basic = settings()
    assert {name for name, (level, _) in basic.items() if level == "WARN"} == {"persist", "aggregate"}
    assert not any(traced for _, traced in basic.values())
    assert set(settings(*FULL).values()) == {("INFO", True)}


def test_only_traced_functions_may_write_traces() -> None:
    traces = {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}
    assert not any(traces & allowed for allowed in roles().values())
    traced = {name for name, allowed in roles(*FULL).items() if traces <= allowed}
    assert len(traced) == len(functions(*FULL)) and not any("Rule" in name for name in traced)
