"""The archive for later years: what becomes of objects; table and queries fit what Firehose really writes."""
import asyncio
import gzip
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from contract import routes
from infra.archive_queries import QUERIES
from local_cloud.firehose import FirehoseService
from tests.messages import EXAMPLES
from tests.synthesized import properties, resources, template, text


def lifecycle(*context: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """{rule: what it does} of the bucket."""
    rules = properties(template("Storage", *context), "Archive")["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    return {rule["Id"]: {k: v for k, v in rule.items() if k not in ("Id", "Status")} for rule in rules}


def test_the_archive_gets_colder_and_stays_and_errors_go() -> None:
    assert lifecycle() == {
        "archive": {"Prefix": "archive/", "Transitions": [{"StorageClass": "GLACIER_IR", "TransitionInDays": 90}]},
        "errors": {"Prefix": "errors/", "ExpirationInDays": 90},
        "query-results": {"Prefix": "athena/", "ExpirationInDays": 7},
        "unfinished-uploads": {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}}


def test_both_can_be_chosen() -> None:
    kept = lifecycle(("archive_cold_days", "30"), ("archive_days", "730"), ("errors_days", "20"))
    assert kept["archive"] == {"Prefix": "archive/", "ExpirationInDays": 730,
                               "Transitions": [{"StorageClass": "GLACIER_IR", "TransitionInDays": 30}]}
    assert kept["errors"]["ExpirationInDays"] == 20
    assert "archive" not in lifecycle(("archive_cold_days", "0"))


def glue() -> tuple[dict[str, Any], dict[str, Any]]:
    """The table's input, and its parameters as strings."""
    found = properties(template("Storage"), "QueryTable")["TableInput"]
    return found, {name: text(value) for name, value in found["Parameters"].items()}


def delivered(route: str, *lines: str) -> tuple[str, bytes]:
    """Key and body of the object that the template's own stream makes of these messages."""
    kept: list[tuple[str, bytes]] = []

    def put(bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        kept.append((key, body))

    found = properties(template("Ingest"), f"{route.capitalize()}Archive")
    found = json.loads(json.dumps(found), object_hook=lambda node: text(node) if len(node) == 1 and next(
        iter(node)) in ("Fn::Join", "Fn::GetAtt", "Ref") else node)

    async def main() -> None:
        service = FirehoseService("123456789012", "eu-north-1", put)
        service.create("s", found)
        service.put("s", [line.encode() + b"\n" for line in lines])
        assert await service.flush() == 0
        await service.close()

    asyncio.run(main())
    ((key, body),) = kept
    return key, body


@pytest.mark.parametrize("route", [route.name for route in routes.ROUTES])
def test_an_object_lies_where_the_projected_partition_is(route: str) -> None:
    key, _ = delivered(route, "{}")
    _, parameters = glue()
    assert parameters["projection.enabled"] == "true" and parameters["projection.route.type"] == "enum"
    assert route in parameters["projection.route.values"].split(",")
    day = re.search(r"-1-(\d{4}-\d\d-\d\d)", key)
    assert day is not None and parameters["projection.day.format"] == "yyyy-MM-dd"
    first, last = parameters["projection.day.range"].split(",")
    assert datetime.fromisoformat(first).date().isoformat() <= day[1] and last == "NOW"
    place = parameters["storage.location.template"].replace("${route}", route).replace("${day}", day[1])
    assert f"s3://<Archive>/{key}".startswith(place)
    assert place.startswith(text(glue()[0]["StorageDescriptor"]["Location"]))
    assert "/" not in f"s3://<Archive>/{key}".removeprefix(place)


def test_a_line_of_the_table_is_a_message() -> None:
    messages = [(EXAMPLES / f"{name}.json").read_text().replace("\n", "") for name in ("batch_readings", "alert")]
    _, body = delivered("readings", *messages)
    storage = glue()[0]["StorageDescriptor"]
    delimiter = storage["SerdeInfo"]["Parameters"]["field.delim"]
    rows = [line.split(delimiter) for line in gzip.decompress(body).decode().splitlines()]
    assert [column["Name"] for column in storage["Columns"]] == ["line"] and storage["Compressed"] is True
    assert [json.loads(*row) for row in rows] == [json.loads(message) for message in messages]
    assert storage["SerdeInfo"]["SerializationLibrary"].endswith("LazySimpleSerDe") and delimiter < " "


def test_partitions_and_columns_are_those_that_the_queries_name() -> None:
    found, parameters = glue()
    partitions = [column["Name"] for column in found["PartitionKeys"]]
    assert partitions == ["route", "day"] and found["Name"] == "archive"
    assert {name.split(".")[1] for name in parameters if name.startswith("projection.") and name.count(".") > 1
            } == set(partitions)
    for query in QUERIES:
        named = set(re.findall(r"FROM (\w+)", query.sql)) - set(re.findall(r"(\w+) AS \(\n", query.sql))
        assert named == {"archive"}, query.title
        assert "line" in query.sql
        assert re.search(r"WHERE route (IN|=) .* AND day >= date_format", query.sql), "each reads some days alone"
        asked = set(re.findall(r"'(\w+)'", re.search(r"WHERE route (.*)", query.sql)[1]))  # type: ignore[index]
        assert asked & {route.name for route in routes.ROUTES}


MEMBERS_ADDED = {"site"}  # by the rule


def members(node: Any) -> set[str]:
    """Every member's name in a decoded message."""
    if isinstance(node, dict):
        return set(node) | set().union(*map(members, node.values()))
    return set().union(*map(members, node)) if isinstance(node, list) else set()


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_a_query_asks_for_members_that_messages_have(query: Any) -> None:
    examples = ("alert", "alert_also", "alert_incident") if query.logical_id == "Anomalies" else (
        "batch_readings", "batch_events")
    there = set().union(*(members(json.loads((EXAMPLES / f"{name}.json").read_text())) for name in examples))
    asked = set(re.findall(r"'\$\.(\w+)'", query.sql))
    assert asked and asked - MEMBERS_ADDED - {"value"} <= there


def test_a_work_group_bounds_cost_and_keeps_results_here_and_encrypted() -> None:
    group = properties(template("Storage"), "QueryWorkGroup")
    chosen = group["WorkGroupConfiguration"]
    assert group["Name"] == "edgecloud" and chosen["EnforceWorkGroupConfiguration"] is True
    assert text(chosen["ResultConfiguration"]["OutputLocation"]) == "s3://<Archive>/athena/"
    assert chosen["ResultConfiguration"]["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    assert chosen["BytesScannedCutoffPerQuery"] <= 20 * 10 ** 9


def test_three_saved_queries_and_two_deployments_side_by_side() -> None:
    for name, title in (("edgecloud", "EdgeCloud"), ("second", "Second")):
        found = template("Storage", *([("name", name)] if name == "second" else []), title=title)
        saved = [one["Properties"] for one in resources(found, "AWS::Athena::NamedQuery").values()]
        assert len(saved) == 3 and {one["WorkGroup"] for one in saved} == {name}
        assert {text(one["Database"]) for one in saved} == {"<QueryDatabase>"}
        assert properties(found, "QueryDatabase")["DatabaseInput"]["Name"] == name
