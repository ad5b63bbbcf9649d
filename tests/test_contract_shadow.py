"""The contract of the shadow `bridge`: what may be desired, and that the bridge has a place for each key."""
import logging
from typing import Any

import pytest

from contract import shadow
from contract.errors import BadPayload
from edge_bridge import shadow_settings


@pytest.mark.parametrize(("desired", "said"), [
    ([], "expected an object"), ({"batch_age_s": 0}, "batch_age_s is 0; expected a number of seconds from 1 to 300"),
    ({"batch_age_s": True}, "batch_age_s is True"), ({"batch_age_s": "2"}, "batch_age_s is '2'"),
    ({"live_until": -1}, "live_until is -1"), ({"live_until": {"a": 1}}, "live_until is {'a': 1}"),
    ({"log_level": ["INFO"]}, "log_level is ['INFO']"), ({"detector": 1}, "detector is 1; expected the name"),
    ({"detector": "b"}, "detector is 'b'; expected one of a"), ({"carbon": {}}, "carbon is unknown; expected any of")])
def test_every_fault_of_a_desired_state_is_named(desired: Any, said: str) -> None:
    with pytest.raises(BadPayload) as refusal:
        shadow.check(desired, {"a"})
    assert said in refusal.value.detail
    assert shadow.check({"detector": "a", "batch_age_s": 1, "live_until": 0, "log_level": "INFO"}, {"a"})


def test_what_can_be_desired_can_be_set_here() -> None:
    in_force = set(shadow_settings.InForce._fields)
    assert in_force | {"live_until"} == set(shadow.NAMES), "a new key needs its place in shadow_settings.py"
    assert set(shadow.LOG_LEVELS) <= set(logging.getLevelNamesMapping())
