"""Functions that tell about the message: its topic, connection, MQTT 5 properties and time."""

from __future__ import annotations

import base64
import uuid
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.parser import VERSION
from local_cloud.rule_sql.values import UNDEFINED, to_index

_PROPERTIES = {"content_type": "contentType", "response_topic": "responseTopic", "correlation_data": "correlationData"}
_FORMATS = {0: "UNSPECIFIED_BYTES", 1: "UTF8_DATA"}


def _or_undefined(value: str | None) -> Any:
    return UNDEFINED if value is None else value


def topic(message: Message, *segment: Any) -> Any:
    """The topic (of Basic Ingest what follows the rule's name), or its segment by 1-based number."""
    if not segment:
        return message.topic
    number, levels = to_index(segment[0]), message.topic.split("/")
    return levels[number - 1] if number is not UNDEFINED and 1 <= number <= len(levels) else UNDEFINED


def client_id(message: Message) -> str:
    """The MQTT client id, n/a for a message that came otherwise."""
    return "n/a" if message.client_id is None else message.client_id


def mqtt_property(message: Message, name: Any) -> Any:
    """A property of an MQTT 5 publish by its name in SQL."""
    if name == "format_indicator":
        value = message.mqtt5.get("payloadFormatIndicator", 0)
        return _FORMATS.get(value, value) if value is not None else _FORMATS[0]
    value = message.mqtt5.get(_PROPERTIES.get(name, "")) if isinstance(name, str) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return _or_undefined(value)


def user_properties(message: Message, *key: Any) -> Any:
    """All user properties as objects of one pair, or the values under one key; UNDEFINED when there are none."""
    pairs = message.mqtt5.get("userProperties") or []
    found = [value for name, value in pairs if name == key[0]] if key else [{name: value} for name, value in pairs]
    return found or UNDEFINED


def _function(run: Any, fewest: int = 0, most: int = 0) -> Function:
    return Function(run, fewest, most, of_message=True)


FUNCTIONS = {
    "accountid": _function(lambda message: message.account_id),
    "clientid": _function(client_id),
    "get_mqtt_property": _function(mqtt_property, 1, 1),
    "get_user_properties": _function(user_properties, 0, 1),
    "newuuid": Function(lambda: str(uuid.uuid4()), 0, 0),
    "principal": _function(lambda message: _or_undefined(message.principal)),
    "sourceip": _function(lambda message: _or_undefined(message.source_ip)),
    "sql_version": Function(lambda: VERSION, 0, 0),
    "timestamp": _function(lambda message: message.received_ms),
    "topic": _function(topic, 0, 1),
    "traceid": _function(lambda message: _or_undefined(message.trace_id)),
}
