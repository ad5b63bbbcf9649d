"""The contract character by character: JSON as it is written, and which characters a device's name may have."""
import json
from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from contract import numbers, topics
from contract.errors import BadPayload

LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Pair(NamedTuple):
    one: Any
    other: Any


@given(VALUES)
def test_what_has_no_fractions_is_written_as_json_writes_it(value: Any) -> None:
    assert numbers.dumps(value) == json.dumps(value, separators=(",", ":"))


@given(st.decimals(allow_nan=False, allow_infinity=False), LEAVES)
def test_fractions_are_written_digit_for_digit_wherever_they_are(number: Decimal, leaf: Any) -> None:
    beside = json.dumps(leaf)
    assert numbers.dumps(number) == str(number)
    assert numbers.dumps(Pair(number, (leaf, {1: number}))) == f'[{number},[{beside},{{"1":{number}}}]]'


def test_a_devices_name_has_none_of_the_characters_that_a_topic_cannot_bear() -> None:
    refused = []
    for code in range(0x110000):
        try:
            topics.check_device(f"pi{chr(code)}")
        except BadPayload:
            refused.append(code)
    assert refused == [*range(32), *map(ord, "#+/"), *range(127, 160), *range(0xD800, 0xE000)]
