"""DynamoDB's item sizes and capacity units, as AWS documents them."""
import base64
from typing import Any

import pytest

from local_cloud.cost.capacity import Capacity, Shape, Units
from local_cloud.cost.item_size import item_bytes, number_bytes, value_bytes

PLAIN = Shape(("pk", "sk"))
INDEXED = Shape(("pk", "sk"), ((("pk", "number"), None), (("day", "pk"), frozenset({"pk", "sk", "day", "small"}))))


def units(shape: Shape, *calls: tuple[str, dict[str, Any], dict[str, Any]]) -> list[list[Units]]:
    capacity = Capacity(lambda table: shape)
    return [capacity.units(*call) for call in calls]


def put(size_bytes: int, **more: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A PutItem of an item of exactly that size (without `more`)."""
    item = {"pk": {"S": "a"}, "sk": {"S": "b"}, "x": {"S": ""}}
    item["x"]["S"] = "x" * (size_bytes - item_bytes(item))
    return "PutItem", {"TableName": "t", "Item": {**item, **more}}, {}


@pytest.mark.parametrize("text, size_bytes", (
    ("0", 1), ("7", 2), ("20", 2), ("12345", 4), ("-12345", 5), ("0.5", 2), ("100000", 2), ("1795332240.123", 8),
    ("1E+3", 2), ("-0.001", 3)))
def test_a_number_has_a_byte_for_two_digits(text: str, size_bytes: int) -> None:
    assert number_bytes(text) == size_bytes


@pytest.mark.parametrize("value, size_bytes", (
    ({"S": "é"}, 2), ({"BOOL": True}, 1), ({"NULL": True}, 1), ({"B": base64.b64encode(b"12345").decode()}, 5),
    ({"B": b"12345"}, 5), ({"L": [{"S": "ab"}, {"N": "1"}]}, 3 + 1 + 2 + 1 + 2),
    ({"M": {"key": {"S": "ab"}}}, 3 + 1 + 3 + 2), ({"SS": ["a", "bc"]}, 3), ({"NS": ["1", "22"]}, 4)))
def test_values_have_the_sizes_that_aws_documents(value: dict[str, Any], size_bytes: int) -> None:
    assert value_bytes(value) == size_bytes


def test_an_item_is_its_names_and_values() -> None:
    assert item_bytes({"pk": {"S": "abc"}, "n": {"N": "20"}}) == 2 + 3 + 1 + 2


def test_a_write_costs_by_the_kilobyte() -> None:
    found = units(PLAIN, put(1024), put(1025))
    assert [one[0].write for one in found] == [1, 2]


def test_a_write_costs_by_the_larger_of_before_and_after() -> None:
    found = units(PLAIN, put(5000), put(300), put(300))
    assert [one[0].write for one in found] == [5, 5, 1]
    assert [one[0].grown_bytes for one in found] == [5100, -4700, 0]


def test_an_index_costs_what_it_holds() -> None:
    with_both = put(3000, number={"N": "7"}, day={"S": "monday"}, small={"S": "y"})
    with_none, with_one = put(3000), put(3000, number={"N": "7"})
    assert [units(INDEXED, one)[0][0].write for one in (with_none, with_one, with_both)] == [3, 6, 7]


def test_an_item_that_leaves_an_index_costs_there_once_more() -> None:
    assert [one[0].write for one in units(INDEXED, put(900, number={"N": "7"}), put(900), put(900))] == [2, 2, 1]


def update(attributes: dict[str, Any], expression: str = "SET x = :x", **more: Any
           ) -> tuple[str, dict[str, Any], dict[str, Any]]:
    request = {"TableName": "t", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}, "UpdateExpression": expression, **more}
    return "UpdateItem", request, {"Attributes": attributes}


def test_an_update_costs_by_the_whole_item() -> None:
    first = update({"x": {"S": "x" * 600}})
    second = update({"y": {"S": "y" * 600}}, "SET y = :y")
    third = update({"z": {"S": "z"}}, "SET #z = :z REMOVE #x, y", ExpressionAttributeNames={"#x": "x", "#z": "z"})
    found = units(PLAIN, first, second, third, update({"z": {"S": "z"}}))
    assert [one[0].write for one in found] == [1, 2, 2, 1]
    assert sum(one[0].grown_bytes for one in found) == 100 + item_bytes(
        {"pk": {"S": "a"}, "sk": {"S": "b"}, "z": {"S": "z"}})


def test_an_update_of_a_table_with_indexes_asks_for_the_whole_item() -> None:
    assert Capacity(lambda table: INDEXED).asks("t") == "ALL_NEW" and Capacity(lambda table: PLAIN).asks(
        "t") == "UPDATED_NEW"
    whole = put(2000, number={"N": "7"})[1]["Item"]
    assert units(INDEXED, update(whole))[0][0].write == 4


def test_a_batch_counts_what_was_processed() -> None:
    entries = [{"PutRequest": {"Item": put(1500)[1]["Item"]}},
               {"PutRequest": {"Item": {"pk": {"S": "other"}, "sk": {"S": "1"}}}},
               {"DeleteRequest": {"Key": {"pk": {"S": "c"}, "sk": {"S": "d"}}}}]
    [found] = units(PLAIN, ("BatchWriteItem", {"RequestItems": {"t": entries}},
                            {"UnprocessedItems": {"t": [entries[0]]}}))
    assert [(one.partition, one.write) for one in found] == [("other", 1), ("c", 1)]


def test_a_transaction_costs_twice() -> None:
    entries = [{"Put": {"TableName": "t", "Item": put(1500)[1]["Item"]}},
               {"Delete": {"TableName": "t", "Key": {"pk": {"S": "c"}, "sk": {"S": "d"}}}}]
    [found] = units(PLAIN, ("TransactWriteItems", {"TransactItems": entries}, {}))
    assert [one.write for one in found] == [4, 2]


def test_a_transaction_that_checks_or_updates_shrinks_nothing() -> None:
    key = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    entries = [{"ConditionCheck": {"TableName": "t", "Key": key}}, {"Update": {"TableName": "t", "Key": key}}]
    _, found, [again] = units(PLAIN, put(1500), ("TransactWriteItems", {"TransactItems": entries}, {}), put(1500))
    assert [(one.write, one.grown_bytes) for one in found] == [(4, 0), (4, 0)] and again.grown_bytes == 0


def test_reads_cost_by_four_kilobytes_and_half_when_they_may_be_old() -> None:
    items = [put(3000)[1]["Item"], put(3000)[1]["Item"]]
    query = {"TableName": "t", "KeyConditionExpression": "pk = :pk AND sk > :low",
             "ExpressionAttributeValues": {":pk": {"S": "a"}, ":low": {"S": "b"}}}
    [[old], [new], [none], [one]] = units(
        PLAIN, ("Query", query, {"Items": items}), ("Query", {**query, "ConsistentRead": True}, {"Items": items}),
        ("Query", query, {"Items": []}), ("GetItem", {"TableName": "t", "Key": {"pk": {"S": "a"}}}, {"Item": items[0]}))
    assert [(old.read, old.partition), new.read, none.read, one.read] == [(1.0, "a"), 2.0, 0.5, 0.5]


def test_a_condition_that_fails_costs_a_write() -> None:
    capacity = Capacity(lambda table: PLAIN)
    capacity.units(*put(2500))
    assert [one.write for one in capacity.refused("PutItem", put(100)[1])] == [3]
    assert capacity.refused("Query", {}) == []


def test_a_tables_description_says_its_shape() -> None:
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    index = {"IndexName": "i", "KeySchema": [{"AttributeName": "day", "KeyType": "HASH"}],
             "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["n"]}}
    assert Shape.of({"KeySchema": keys, "GlobalSecondaryIndexes": [index]}) == Shape(
        ("pk", "sk"), ((("day",), frozenset({"pk", "sk", "day", "n"})),))
