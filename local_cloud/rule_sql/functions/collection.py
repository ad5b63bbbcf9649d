"""Functions on arrays and objects, and on the absence of a value."""

from __future__ import annotations

from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.json_text import dumps
from local_cloud.rule_sql.values import UNDEFINED, to_index

MAX_TRANSFORMED_BYTES = 128 * 1024


def get(collection: Any, key: Any) -> Any:
    """An element by index, a character by index, or a member by String key; UNDEFINED when there is none."""
    if type(collection) is dict:
        return collection.get(key, UNDEFINED) if type(key) is str else UNDEFINED
    if type(collection) is not list and type(collection) is not str:
        return UNDEFINED
    index = to_index(key)
    if index is UNDEFINED or not 0 <= index < len(collection):
        return UNDEFINED
    return collection[index]


def get_or_default(value: Any, default: Any = UNDEFINED) -> Any:
    """`value`, or `default` in place of Null and Undefined."""
    return default if value is None or value is UNDEFINED else value


def nanvl(value: Any, default: Any) -> Any:
    """`value`, or `default` in place of Null and Undefined (JSON has no NaN)."""
    return default if value is None or value is UNDEFINED else value


def transform(mode: Any, attributes: Any, elements: Any) -> Any:
    """Each object of `elements` with the members of `attributes` added; `mode` must be enrichArray."""
    if mode != "enrichArray" or type(attributes) is not dict or type(elements) is not list:
        return UNDEFINED
    if not all(type(element) is dict for element in elements):
        return UNDEFINED
    enriched = [{**element, **attributes} for element in elements]
    return enriched if len(dumps(enriched).encode()) <= MAX_TRANSFORMED_BYTES else UNDEFINED


FUNCTIONS = {
    "get": Function(get, 2, 2),
    "get_or_default": Function(get_or_default, 1, 2),
    "isnull": Function(lambda value: value is None, 1, 1),
    "isundefined": Function(lambda value: value is UNDEFINED, 1, 1),
    "nanvl": Function(nanvl, 2, 2),
    "transform": Function(transform, 3, 3),
}
