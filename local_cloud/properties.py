"""CloudFormation properties, as the services read them: intrinsics are resolved, numbers may still be strings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from local_cloud.errors import Unsupported


def refuse_unknown(where: str, properties: Mapping[str, Any], honoured: Collection[str]) -> None:
    """Raise Unsupported, naming the first member of a nested object that is not among `honoured`; a resource's own
    properties are checked by resources/registry.py, before anything is made."""
    for name in properties:
        if name not in honoured:
            raise Unsupported(f"{where}.{name}: not honoured by the local cloud; "
                              f"honoured are {', '.join(sorted(honoured))}")


def integer(where: str, value: Any, lowest: int, highest: int) -> int:
    """`value` (a number or its decimal text, as CloudFormation accepts both) as an int within the bounds."""
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"{where}: a whole number is expected, got {value!r}") from error
    if not lowest <= number <= highest:
        raise Unsupported(f"{where}: {number} is outside AWS's bounds {lowest}…{highest}")
    return number


def flag(where: str, value: Any) -> bool:
    """`value` (true, false, or their text) as a bool."""
    if value in (True, "true", "True"):
        return True
    if value in (False, "false", "False"):
        return False
    raise Unsupported(f"{where}: true or false is expected, got {value!r}")
