"""The way in: rules and their SQL, queues and dead letters, archive, functions, and what each role may do."""
import json

import pytest

from contract import routes
from infra.ingest_stack import TIMEOUT_S
from infra.queues import DEAD_LETTER_DAYS, MAX_RECEIVES
from lambdas import table
from tests.synthesized import properties, resources, statements, template, text

TABLE = "arn:aws:dynamodb:eu-north-1:123456789012:table/"
ROUTES = [(route.name, route.name.capitalize()) for route in routes.ROUTES]


def ingest(*context: tuple[str, str]) -> dict[str, object]:
    return template("Ingest", *context)


@pytest.mark.parametrize("name, title", ROUTES)
def test_a_rule_hands_its_route_to_queue_and_archive(name: str, title: str) -> None:
    found = properties(ingest(), f"{title}Rule")
    payload = found["TopicRulePayload"]
    assert found["RuleName"] == f"edgecloud_{name}" and payload["RuleDisabled"] is False
    assert payload["AwsIotSqlVersion"] == "2016-03-23"
    role = f"<{title}RuleRole.Arn>"
    to_queue, to_archive = payload["Actions"]
    assert {key: value if isinstance(value, bool) else text(value) for key, value in to_queue["Sqs"].items()} == {
        "QueueUrl": f"<{title}Queue>", "RoleArn": role, "UseBase64": False}
    assert {key: text(value) for key, value in to_archive["Firehose"].items()} == {
        "DeliveryStreamName": f"<{title}Archive>", "RoleArn": role, "Separator": "\n"}


def test_rule_sql_is_that_of_the_contract() -> None:
    for route in routes.ROUTES:
        payload = properties(ingest(), f"{route.name.capitalize()}Rule")["TopicRulePayload"]
        assert payload["Sql"] == routes.sql(route, ("EdgeCloudAWS",))
    alerts = properties(ingest(), "AlertsRule")["TopicRulePayload"]["Sql"]
    assert alerts == "SELECT *, clientid() AS site FROM 'edgecloud/alerts' WHERE clientid() = 'EdgeCloudAWS'"


def test_the_alerts_rule_knows_every_thing() -> None:
    payload = properties(ingest(("things", "EdgeCloudAWS,SiteB")), "AlertsRule")["TopicRulePayload"]
    assert payload["Sql"].endswith("WHERE clientid() = 'EdgeCloudAWS' OR clientid() = 'SiteB'")


@pytest.mark.parametrize("name, title", ROUTES)
def test_what_an_action_refuses_goes_to_another_service(name: str, title: str) -> None:
    error = properties(ingest(), f"{title}Rule")["TopicRulePayload"]["ErrorAction"]
    assert set(error) == {"S3"}
    assert text(error["S3"]["BucketName"]) == "<ArchiveBucket>"
    assert error["S3"]["Key"] == f"errors/edgecloud_{name}/${{timestamp()}}-${{newuuid()}}.json"


@pytest.mark.parametrize("name, title", ROUTES)
def test_a_rule_may_do_its_three_actions_and_no_more(name: str, title: str) -> None:
    role = properties(ingest(), f"{title}RuleRole")
    assert sorted(statements(role)) == [
        ("firehose:PutRecord", f"<{title}Archive.Arn>"),
        ("s3:PutObject", f"arn:aws:s3:::<ArchiveBucket>/errors/edgecloud_{name}/*"),
        ("sqs:SendMessage", f"<{title}Queue.Arn>")]
    trust, = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "iot.amazonaws.com"}
    assert text(trust["Condition"]["StringEquals"]["aws:SourceAccount"]) == "123456789012"
    assert text(trust["Condition"]["ArnLike"]["aws:SourceArn"]) == (
        f"arn:aws:iot:eu-north-1:123456789012:rule/edgecloud_{name}")


@pytest.mark.parametrize("name, title", ROUTES)
def test_the_archive_is_gzip_by_date(name: str, title: str) -> None:
    stream = properties(ingest(), f"{title}Archive")
    assert stream["DeliveryStreamType"] == "DirectPut"
    assert stream["DeliveryStreamEncryptionConfigurationInput"] == {"KeyType": "AWS_OWNED_CMK"}
    target = stream["ExtendedS3DestinationConfiguration"]
    assert target["Prefix"] == f"archive/{name}/date=!{{timestamp:yyyy-MM-dd}}/"
    assert target["ErrorOutputPrefix"].startswith(f"errors/archive/{name}/!{{firehose:error-output-type}}/")
    assert target["CompressionFormat"] == "GZIP" and target["FileExtension"] == ".jsonl.gz"
    writes = [resource for action, resource in statements(properties(ingest(), f"{title}ArchiveRole"))
              if action == "s3:PutObject"]
    assert writes == [f"arn:aws:s3:::<ArchiveBucket>/archive/{name}/*",
                      f"arn:aws:s3:::<ArchiveBucket>/errors/archive/{name}/*"]
    assert {action for action, _ in statements(properties(ingest(), f"{title}ArchiveRole"))} == {
        "s3:AbortMultipartUpload", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket",
        "s3:ListBucketMultipartUploads", "s3:PutObject"}  # AWS's list for Firehose to S3


@pytest.mark.parametrize("name, title", ROUTES)
def test_a_queue_waits_for_its_function_and_has_dead_letters(name: str, title: str) -> None:
    queue = properties(ingest(), f"{title}Queue")
    mapping = properties(ingest(), f"{title}Mapping")
    function = text(mapping["FunctionName"]).strip("<>")
    window_s = mapping.get("MaximumBatchingWindowInSeconds", 0)
    assert queue["VisibilityTimeout"] >= 6 * properties(ingest(), function)["Timeout"] + window_s
    assert text(queue["RedrivePolicy"]["deadLetterTargetArn"]) == f"<{title}DeadLetters.Arn>"
    assert queue["RedrivePolicy"]["maxReceiveCount"] == MAX_RECEIVES >= 5
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert text(mapping["EventSourceArn"]) == f"<{title}Queue.Arn>"
    assert function == next(route.handler for route in routes.ROUTES if route.name == name).capitalize() + "Function"
    assert window_s == (0 if name in ("alerts", "readings") else 1), "what somebody may be looking at does not wait"


def test_every_queue_is_encrypted_keeps_14_days_and_takes_tls_alone() -> None:
    queues = resources(ingest(), "AWS::SQS::Queue")
    assert len(queues) == 2 * len(ROUTES) + 1
    for queue in queues.values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
        assert queue["Properties"]["MessageRetentionPeriod"] == DEAD_LETTER_DAYS * 24 * 3600 == 1_209_600
    policies = resources(ingest(), "AWS::SQS::QueuePolicy").values()
    without_tls = {"Bool": {"aws:SecureTransport": "false"}}
    closed = {one["Properties"]["Queues"][0]["Ref"] for one in policies for statement
              in one["Properties"]["PolicyDocument"]["Statement"]
              if (statement["Effect"], statement["Action"], statement["Condition"]) == ("Deny", "sqs:*", without_tls)}
    assert closed == set(queues)


def test_every_queue_without_dead_letters_is_one_and_has_an_alarm_without_arithmetic() -> None:
    """FILL(metric, 0) would also fill the latest period, in which SQS's metric is late, and the alarm stay silent."""
    queues = resources(ingest(), "AWS::SQS::Queue")
    dead = {name for name, queue in queues.items() if "RedrivePolicy" not in queue["Properties"]}
    assert dead == {*(f"{title}DeadLetters" for _, title in ROUTES), "StreamDeadLetters"}
    queries = {text(metric["Expression"]): one["Properties"]
               for one in resources(ingest(), "AWS::CloudWatch::Alarm").values()
               for metric in one["Properties"].get("Metrics", []) if "Expression" in metric}
    for name in dead:
        (alarm,) = (alarm for query, alarm in queries.items() if f"QueueName = '<{name}.QueueName>'" in query)
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")
        assert alarm["TreatMissingData"] == "notBreaching"
        assert [text(arn) for arn in alarm["AlarmActions"]] == ["<Operations>"]
    assert not any("FILL(" in query for query in queries)


def test_a_backlog_of_events_does_not_crowd_the_partition_of_its_camera() -> None:
    bounds = {name: properties(ingest(), f"{title}Mapping").get("ScalingConfig") for name, title in ROUTES}
    assert bounds.pop("events") == {"MaximumConcurrency": 5}
    assert set(bounds.values()) == {None}  # bounded, a mapping polls more: it costs


def test_functions_are_small_arm_and_logged() -> None:
    functions = resources(ingest(), "AWS::Lambda::Function")
    assert {one["Properties"]["Handler"] for one in functions.values()} == {
        "lambdas.persist.handler", "lambdas.alert.handler", "lambdas.aggregate.handler",
        "lambdas.status.handler", "lambdas.hours.handler", "lambdas.watch.handler"}
    for one in functions.values():
        found = one["Properties"]
        assert found["Runtime"] == "python3.14" and found["Architectures"] == ["arm64"]
        assert 256 <= found["MemorySize"] <= 512 and TIMEOUT_S <= found["Timeout"] <= 300
        assert found["LoggingConfig"]["LogFormat"] == "JSON"
        group = properties(ingest(), text(found["LoggingConfig"]["LogGroup"]).strip("<>"))
        assert group["RetentionInDays"] == 30
        assert "ReservedConcurrentExecutions" not in found


def test_functions_get_what_they_read_from_the_environment() -> None:
    def environment(title: str, *context: tuple[str, str]) -> dict[str, str]:
        variables = properties(ingest(*context), f"{title}Function")["Environment"]["Variables"]
        return {key: text(value) for key, value in variables.items() if key != "EDGECLOUD_VERSION"}

    assert environment("Persist") == {"READINGS_TABLE": "<ReadingsTable>", "ROLLUPS_TABLE": "<RollupsTable>",
                                      "RETENTION_DAYS": "30", "RECEIPTS": "on"}
    alert = environment("Alert")
    assert {name: alert[name] for name in ("ALERTS_TABLE", "RETENTION_DAYS", "RECEIPTS")} == {
        "ALERTS_TABLE": "<AlertsTable>", "RETENTION_DAYS": "30", "RECEIPTS": "on"}
    rollups = {"ROLLUPS_TABLE": "<RollupsTable>", "MINUTE_RETENTION_DAYS": "90", "ROLLUP_RETENTION_DAYS": "1830"}
    for title in ("Status", "Aggregate", "Hours"):
        assert environment(title) == rollups
    assert environment("Persist", ("receipts", "off"))["RECEIPTS"] == "off"


CONSUMER = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
RECEIPT = ("iot:Publish", "arn:aws:iot:eu-north-1:123456789012:topic/edgecloud/receipts/EdgeCloudAWS")
STREAM = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")


@pytest.mark.parametrize("title, allowed", [
    ("Persist", {*((action, f"<{queue}Queue.Arn>") for queue in ("Readings", "Events") for action in CONSUMER),
                 ("dynamodb:BatchWriteItem", f"{TABLE}<ReadingsTable>"),
                 ("dynamodb:BatchWriteItem", f"{TABLE}<RollupsTable>"), RECEIPT}),
    ("Status", {*((action, "<StatusQueue.Arn>") for action in CONSUMER),
                ("dynamodb:PutItem", f"{TABLE}<RollupsTable>")}),
    ("Aggregate", {*((action, "<ReadingsStream>") for action in STREAM), ("dynamodb:ListStreams", "*"),
                   ("dynamodb:UpdateItem", f"{TABLE}<RollupsTable>"),
                   ("dynamodb:BatchWriteItem", f"{TABLE}<RollupsTable>"),
                   ("sqs:SendMessage", "<StreamDeadLetters.Arn>")}),
    ("Hours", {*((action, "<RollupsStream>") for action in STREAM), ("dynamodb:ListStreams", "*"),
               *((f"dynamodb:{what}", f"{TABLE}<RollupsTable>") for what in ("GetItem", "Query", "PutItem",
                                                                            "DeleteItem")),
               ("sqs:SendMessage", "<StreamDeadLetters.Arn>")}),
])
def test_a_function_may_do_what_its_file_does(title: str, allowed: set[tuple[str, str]]) -> None:
    own_log = {(action, f"<{title}Log.Arn>") for action in LOG}
    assert set(statements(properties(ingest(), f"{title}Role"))) == allowed | own_log


def test_functions_learn_which_thing_is_a_further_bridge_of_a_site() -> None:
    spare = (("things", "EdgeCloudAWS,Spare@EdgeCloudAWS"),)
    for title in ("Persist", "Alert"):
        variables = properties(ingest(*spare), f"{title}Function")["Environment"]["Variables"]
        assert json.loads(variables["SITES"]) == {"Spare": "EdgeCloudAWS"}
        assert "SITES" not in properties(ingest(), f"{title}Function")["Environment"]["Variables"]


def test_receipts_go_to_this_deployments_things_alone() -> None:
    granted = [resource for action, resource in statements(
        properties(ingest(("things", "EdgeCloudAWS,SiteB")), "PersistRole")) if action == "iot:Publish"]
    assert [one.rpartition("/")[2] for one in granted] == ["EdgeCloudAWS", "SiteB"]
    assert "iot:Publish" not in dict(statements(properties(ingest(("receipts", "off")), "AlertRole")))


def test_the_stream_is_read_in_order_and_nothing_is_dropped_in_silence() -> None:
    mapping = properties(ingest(), "StreamMapping")
    assert text(mapping["EventSourceArn"]) == "<ReadingsStream>"
    assert text(mapping["FunctionName"]) == "<AggregateFunction>"
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["MaximumRetryAttempts"] > 0 and 0 < mapping["MaximumRecordAgeInSeconds"] < 24 * 3600
    assert text(mapping["DestinationConfig"]["OnFailure"]["Destination"]) == "<StreamDeadLetters.Arn>"
    (pattern,) = mapping["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {"eventName": ["INSERT", "MODIFY"]}


def test_names_of_rules_and_queues_go_out_as_parameters() -> None:
    given = {one["Properties"]["Name"]: text(one["Properties"]["Value"])
             for one in resources(ingest(), "AWS::SSM::Parameter").values()}
    assert {name: value for name, value in given.items() if name.endswith("-rule")} == {
        f"/edgecloud/{name}-rule": f"edgecloud_{name}" for name, _ in ROUTES}
    assert {name for name in given if name.endswith(("-queue", "-dead-letters"))} == {
        f"/edgecloud/{name}-{kind}" for name, _ in ROUTES for kind in ("queue", "dead-letters")} | {
        "/edgecloud/stream-dead-letters"}


def test_roll_ups_have_a_stream_of_keys_and_hours_reads_it() -> None:
    assert properties(template("Storage"), "Rollups")["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}
    mapping = properties(template("Ingest"), "HoursMapping")
    assert text(mapping["EventSourceArn"]) == "<RollupsStream>" and mapping["MaximumBatchingWindowInSeconds"] == 300
    pattern = json.loads(mapping["FilterCriteria"]["Filters"][0]["Pattern"])
    assert pattern == {"eventName": ["INSERT", "MODIFY"], "dynamodb": {"Keys": {"sk": {"S": [{"prefix": "m#"}]}}}}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_how_long_things_are_kept_reaches_the_functions_and_a_rebuild() -> None:
    context = (("readings_days", "10"), ("minutes_days", "20"), ("rollups_days", "400"))
    ingest = template("Ingest", *context)
    want = {table.READINGS: "10", table.MINUTES: "20", table.ROLLUPS: "400"}
    for function, settings in (("Persist", [table.READINGS]), ("Aggregate", [table.MINUTES]),
                               ("Hours", [table.MINUTES, table.ROLLUPS])):
        given = properties(ingest, f"{function}Function")["Environment"]["Variables"]
        assert {name: given[name] for name in settings} == {name: want[name] for name in settings}
    assert json.loads(properties(ingest, "RebuildEnvironmentParameter")["Value"]) == want
    defaults = json.loads(properties(template("Ingest"), "RebuildEnvironmentParameter")["Value"])
    assert {name: int(days) for name, days in defaults.items()} == table.KEPT_DAYS
