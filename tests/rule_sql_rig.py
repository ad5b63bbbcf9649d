"""What the tests of the rule SQL evaluator share: evaluate a statement, and read JSON exactly."""

import json
from decimal import Decimal
from typing import Any

from local_cloud.rule_sql import Message, compile_statement


def exact(text: str) -> Any:
    """JSON with numbers as Decimals, so that == compares digits and not doubles."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def evaluate(sql: str, payload: Any, **about: Any) -> Any:
    """The output of a statement for a message on a/b; payload: bytes, or what becomes JSON; about: see Message."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return compile_statement(sql).evaluate(Message("a/b", text, **about))
