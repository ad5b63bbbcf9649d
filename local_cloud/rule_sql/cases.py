"""Batch mode: a JSON list of cases in, one JSON line for each out; an evaluator is judged by comparing the lines.

A case has `id`, `kind` (expr, rule, topic_filter, template) and what the kind needs: `expr`, `sql`, `filter`,
`template`, `topic`, `payload` (JSON) or `payload_raw` (text) or `payload_raw_hex`, `rule_name`, `sql_version` and
`context` (timestamp, clientId, accountId, traceId, sourceIp, principal, protocol, mqtt5). `expected` is not read.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from typing import Any

from local_cloud.rule_sql.errors import SqlError
from local_cloud.rule_sql.json_text import dumps, loads
from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.statement import VERSION, Statement, compile_statement
from local_cloud.rule_sql.topics import filter_fault, topic_matches
from local_cloud.rule_sql.values import NO_OUTPUT, UNDEFINED

NOTHING = {"$no_output": True}
_MQTT5 = {
    "contenttype": "contentType",
    "correlationdata": "correlationData",
    "formatindicator": "payloadFormatIndicator",
    "payloadformatindicator": "payloadFormatIndicator",
    "responsetopic": "responseTopic",
    "userproperties": "userProperties",
}


def run_cases(text: bytes) -> Iterator[str]:
    """The answers to the cases of a file, as JSON lines in its order. Raises ValueError when it is no list."""
    cases = loads(text)
    if isinstance(cases, dict):
        cases = cases.get("cases")
    if not isinstance(cases, list):
        raise ValueError("the file must hold a JSON list of cases (or an object with a list under `cases`)")
    for number, case in enumerate(cases):
        named = isinstance(case, dict) and "id" in case
        yield dumps({"id": case["id"] if named else number, "got": _answer(case)})


def _answer(case: Any) -> Any:
    """What the case gives; a faulty case answers {"$error": …} and does not end the run."""
    kind = case.get("kind") if isinstance(case, dict) else None
    run = _KINDS.get(kind) if isinstance(kind, str) else None
    if run is None:
        return {"$error": f"unknown kind {kind!r}; known are {', '.join(sorted(_KINDS))}"}
    try:
        return run(case)
    except SqlError as fault:
        return {"$error": str(fault)}
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        return {"$error": f"faulty case, {type(fault).__name__}: {fault}"}


def _expr(case: dict[str, Any]) -> Any:
    statement = compile_statement(f"SELECT VALUE {case['expr']}", case.get("sql_version") or VERSION)
    value = statement.evaluate(message_of(case))
    return {"$undefined": True} if value is UNDEFINED else _shown(value, case)


def _rule(case: dict[str, Any]) -> Any:
    statement, message = compile_statement(case["sql"], case.get("sql_version") or VERSION), message_of(case)
    if not fires(statement, message, case.get("rule_name")):
        return NOTHING
    value = statement.evaluate(message)
    if value is NO_OUTPUT:
        return NOTHING
    return "" if value is UNDEFINED else _shown(value, case)


def fires(statement: Statement, message: Message, rule_name: str | None = None) -> bool:
    """Whether the message reaches the rule: by name over Basic Ingest, else by its topic filter if it has one."""
    if message.rule_name is not None:
        return rule_name is None or message.rule_name == rule_name
    return statement.topic_filter is None or topic_matches(statement.topic_filter, message.topic)


def _topic_filter(case: dict[str, Any]) -> Any:
    fault = filter_fault(case["filter"])
    return {"$error": fault} if fault else topic_matches(case["filter"], case["topic"])


def _template(case: dict[str, Any]) -> Any:
    statement = compile_statement(case.get("sql") or "SELECT *", case.get("sql_version") or VERSION)
    return statement.render(case["template"], message_of(case))


_KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "expr": _expr,
    "rule": _rule,
    "template": _template,
    "topic_filter": _topic_filter,
}


def message_of(case: dict[str, Any]) -> Message:
    """The message that a case describes."""
    context = case.get("context") or {}
    over_mqtt = str(context.get("protocol", "MQTT")).upper().startswith(("MQTT", "WS", "WSS"))
    return Message(
        topic=case.get("topic") or "",
        payload=_payload(case),
        client_id=context.get("clientId") if over_mqtt else None,
        timestamp_ms=context.get("timestamp"),
        account_id=context.get("accountId") or "123456789012",
        trace_id=context.get("traceId") if over_mqtt else None,
        source_ip=context.get("sourceIp"),
        principal=context.get("principal"),
        mqtt5=_mqtt5(context.get("mqtt5") or {}),
    )


def _payload(case: dict[str, Any]) -> bytes:
    if case.get("payload_raw_hex") is not None:
        return binascii.unhexlify(case["payload_raw_hex"])
    if case.get("payload_raw") is not None:
        return str(case["payload_raw"]).encode()
    return b"" if case.get("payload") is None else dumps(case["payload"]).encode()


def _mqtt5(given: dict[str, Any]) -> dict[str, Any]:
    """The properties under Message's names; user properties as a list of pairs, however they are written."""
    properties = {_MQTT5.get(key.replace("_", "").lower(), key): value for key, value in given.items()}
    users = properties.get("userProperties") or []
    pairs = users.items() if isinstance(users, dict) else users
    properties["userProperties"] = [
        (pair["key"], pair["value"]) if isinstance(pair, dict) else tuple(pair) for pair in pairs
    ]
    return properties


def _shown(value: Any, case: dict[str, Any]) -> Any:
    """Raw bytes the way the case gave them: hex as {"$raw_hex": …}, text as a string."""
    if not isinstance(value, bytes):
        return value
    return {"$raw_hex": value.hex()} if case.get("payload_raw_hex") is not None else value.decode("utf-8", "replace")
