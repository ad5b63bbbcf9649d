"""get_thing_shadow(): the device shadow that a rule's SQL names; the rule engine hands in what reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.json_text import loads
from local_cloud.rule_sql.values import UNDEFINED

NAME = "get_thing_shadow"
# (thing, its named shadow or None for the classic one, ARN of the role that may read it): the shadow's JSON document,
# None when it cannot be read.
ReadShadow = Callable[[str, str | None, str], bytes | None]


def get_thing_shadow(read: ReadShadow) -> Function:
    """The function over the shadows that `read` reads: (thing, role) or (thing, shadow, role), all of them Strings."""

    def shadow_of(*names: Any) -> Any:
        if not all(type(name) is str for name in names):
            return UNDEFINED
        thing, *shadow, role_arn = names
        document = read(thing, shadow[0] if shadow else None, role_arn)
        return UNDEFINED if document is None else loads(document)

    return Function(shadow_of, 2, 3)
