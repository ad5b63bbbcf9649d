"""Alerts that reach a person, in the template: topic, e-mail, the function watch and its schedule, presence."""
import json
from typing import Any

import pytest

from infra.errors import SynthesisFault
from infra.settings import read
from local_cloud.rule_sql import NO_OUTPUT, Message, compile_statement
from tests.synthesized import properties, resources, statements, template, text

TABLE = "arn:aws:dynamodb:eu-north-1:123456789012:table/"


def variables(function: str, *context: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = properties(template("Ingest", *context), f"{function}Function")["Environment"]["Variables"]
    return found


def test_the_functions_know_the_topic_and_what_the_user_chose() -> None:
    chosen = (("min_severity", "warning"), ("quiet_hours", "22:00-06:30"), ("time_zone", "Europe/Stockholm"),
              ("silent_minutes", "30"), ("things", "EdgeCloudAWS,SiteB"))
    for function in ("Alert", "Watch"):
        found = variables(function, *chosen)
        assert (text(found["ALERTS_TOPIC"]), text(found["INCIDENTS_TABLE"])) == ("<Alerts>", "<IncidentsTable>")
        assert [found[key] for key in ("MIN_SEVERITY", "QUIET_HOURS", "TIME_ZONE")] == [
            "warning", "22:00-06:30", "Europe/Stockholm"]
    watch = variables("Watch", *chosen)
    assert (watch["SILENT_MINUTES"], watch["THINGS"], watch["MONITORING"]) == ("30", "EdgeCloudAWS,SiteB", "basic")
    assert variables("Watch")["QUIET_HOURS"] == "" and variables("Watch")["SILENT_MINUTES"] == "10"


def test_each_address_is_subscribed() -> None:
    assert resources(template("Ingest"), "AWS::SNS::Subscription") == {}
    found = resources(template("Ingest", ("alert_email", "ann@example.org, bo@example.org")), "AWS::SNS::Subscription")
    assert sorted((text(one["Properties"]["TopicArn"]), one["Properties"]["Protocol"], one["Properties"]["Endpoint"])
                  for one in found.values()) == [
        ("<Alerts>", "email", "ann@example.org"), ("<Alerts>", "email", "bo@example.org")]


def test_the_schedule_starts_watch_every_five_minutes() -> None:
    found = properties(template("Ingest"), "WatchSchedule")
    assert (found["ScheduleExpression"], found["State"]) == ("rate(5 minutes)", "ENABLED")
    assert [text(one["Arn"]) for one in found["Targets"]] == ["<WatchFunction.Arn>"]
    leave, = (one["Properties"] for one in resources(template("Ingest"), "AWS::Lambda::Permission").values()
              if one["Properties"]["Principal"] == "events.amazonaws.com")
    assert (text(leave["FunctionName"]), text(leave["SourceArn"])) == ("<WatchFunction.Arn>", "<WatchSchedule.Arn>")


def test_what_watch_and_alert_may_do() -> None:
    incidents = TABLE + "<IncidentsTable>"
    watch = set(statements(properties(template("Ingest"), "WatchRole")))
    assert watch - {("logs:CreateLogStream", "<WatchLog.Arn>"), ("logs:PutLogEvents", "<WatchLog.Arn>")} == {
        ("sns:Publish", "<Alerts>"), ("dynamodb:Query", TABLE + "<RollupsTable>"), ("dynamodb:Query", incidents),
        ("dynamodb:Query", incidents + "/index/by_day"), ("dynamodb:BatchWriteItem", TABLE + "<RollupsTable>"),
        *((f"dynamodb:{action}", incidents) for action in ("GetItem", "PutItem", "UpdateItem", "DeleteItem"))}
    alert = set(statements(properties(template("Ingest"), "AlertRole")))
    assert {("sns:Publish", "<Alerts>"), ("dynamodb:UpdateItem", incidents), ("dynamodb:PutItem", incidents)} <= alert
    assert not any(action == "dynamodb:DeleteItem" for action, _ in alert)


def test_incidents_are_listed_by_day() -> None:
    table = properties(template("Storage"), "Incidents")
    index, = table["GlobalSecondaryIndexes"]
    assert (index["IndexName"], [key["AttributeName"] for key in index["KeySchema"]]) == ("by_day", ["day", "recent"])


# --- presence

def presence(*context: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = properties(template("Ingest", *context), "PresenceRule")
    return found


def test_presence_goes_to_the_queue_of_the_statuses() -> None:
    found = presence()
    payload = found["TopicRulePayload"]
    assert found["RuleName"] == "edgecloud_presence" and payload["AwsIotSqlVersion"] == "2016-03-23"
    action, = payload["Actions"]
    assert text(action["Sqs"]["QueueUrl"]) == "<StatusQueue>"
    assert payload["ErrorAction"]["S3"]["Key"].startswith("errors/edgecloud_presence/")
    assert set(statements(properties(template("Ingest"), "PresenceRuleRole"))) == {
        ("sqs:SendMessage", "<StatusQueue.Arn>"),
        ("s3:PutObject", "arn:aws:s3:::<ArchiveBucket>/errors/edgecloud_presence/*")}


@pytest.mark.parametrize(("topic", "event", "fires"), (
    ("connected/SiteB", {"clientId": "SiteB", "eventType": "connected"}, True),
    ("disconnected/EdgeCloudAWS", {"clientId": "EdgeCloudAWS", "eventType": "disconnected"}, True),
    ("connected/Neighbour", {"clientId": "Neighbour", "eventType": "connected"}, False),
    ("connect_failed/SiteB", {"clientId": "SiteB", "eventType": "connect_failed"}, False)))
def test_presence_is_that_of_our_things_alone(topic: str, event: dict[str, str], fires: bool) -> None:
    sql = presence(("things", "EdgeCloudAWS,SiteB"))["TopicRulePayload"]["Sql"]
    message = Message(f"$aws/events/presence/{topic}", json.dumps({**event, "versionNumber": 3}).encode())
    output = compile_statement(sql, "2016-03-23").evaluate(message)
    assert output == ({**event, "versionNumber": 3, "site": event["clientId"]} if fires else NO_OUTPUT)


# --- settings

@pytest.mark.parametrize(("key", "value"), (
    ("alert_email", "nobody"), ("alert_email", "a@b.c,A@B.C"), ("min_severity", "loud"), ("quiet_hours", "22-6"),
    ("quiet_hours", "22:00-24:00"), ("quiet_hours", "22:00-22:00"), ("time_zone", "Middle-earth/Shire"),
    ("time_zone", "../etc/passwd"), ("silent_minutes", "1"), ("silent_minutes", "soon")))
def test_a_faulty_choice_is_said(key: str, value: str) -> None:
    with pytest.raises(SynthesisFault, match=f"{key}: got"):
        read({key: value}, "1.0.0")
