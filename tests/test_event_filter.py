"""Filter criteria of event source mappings: patterns against records, and the patterns that are refused."""

import json
from typing import Any

import pytest

from local_cloud.errors import Unsupported
from local_cloud.event_filter import compile_criteria


@pytest.mark.parametrize(("pattern", "record", "kept"), [
    ({"eventName": ["INSERT", "MODIFY"]}, {"eventName": "MODIFY"}, True),
    ({"eventName": ["INSERT"]}, {"eventName": "REMOVE"}, False), ({"a": {"b": [{"exists": False}]}}, {"a": {}}, True),
    ({"a": {"b": [{"exists": True}]}}, {}, False), ({"a": [{"prefix": "x"}]}, {"a": "xy"}, True),
    ({"a": [{"suffix": "x"}]}, {"a": "xy"}, False), ({"a": [{"anything-but": ["x"]}]}, {"a": "y"}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": "x"}, False), ({"a": [{"numeric": [">", 1, "<=", 5]}]}, {"a": 5}, True),
    ({"a": [{"numeric": [">", 1]}]}, {"a": "5"}, False), ({"a": [None]}, {"a": None}, True),
    ({"a": [True]}, {"a": 1}, False), ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"b": "y"}, True),
    ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"a": "y", "b": "x"}, False),
    ({"a": ["x"], "$or": [{"b": ["y"]}, {"b": ["z"]}]}, {"a": "z", "b": "y"}, False),
    ({"a": {"$or": [{"b": ["x"]}, {"c": ["y"]}]}}, {"a": {"c": "y"}}, True)])
def test_filter_patterns(pattern: dict[str, Any], record: dict[str, Any], kept: bool):
    keep = compile_criteria({"Filters": [{"Pattern": json.dumps(pattern)}]})
    assert keep is not None and keep(record) is kept


def test_without_patterns_nothing_is_filtered():
    assert compile_criteria({}) is None and compile_criteria({"Filters": []}) is None


@pytest.mark.parametrize(("pattern", "named"), [
    ({"a": [{"cidr": "10.0.0.0/8"}]}, "cidr"), ({"a": [{"prefix": "x", "suffix": "y"}]}, "one comparison"),
    ({"a": [{"numeric": ["!=", 1]}]}, "numeric takes"), ({"a": "x"}, "a pattern is a JSON object"),
    ({"$or": {"a": ["x"]}}, r"\$or"), ({"$or": ["a"]}, "a pattern is a JSON object")])
def test_a_pattern_that_is_not_emulated_is_refused(pattern: dict[str, Any], named: str):
    with pytest.raises(Unsupported, match=named):
        compile_criteria({"Filters": [{"Pattern": json.dumps(pattern)}]})
