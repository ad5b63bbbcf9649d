"""What the local cloud's alarms say: asked at its control port, told by the demo when it ends."""
from typing import Any

from deploy import control


def states(control_url: str) -> list[dict[str, Any]]:
    """Every alarm, evaluated now: {"logical_id", "state", "reason", "description", ...}."""
    return list(control.ask(control_url, "/alarms"))


def up(found: list[dict[str, Any]]) -> list[str]:
    """The names of those that are up, sorted."""
    return sorted(one["logical_id"] for one in found if one["state"] == "ALARM")


def line(found: list[dict[str, Any]]) -> str:
    """One line for a person: none is up, or which and why."""
    told = "; ".join(f"{one['logical_id']} ({one['description']})" for one in found if one["state"] == "ALARM")
    return f"alarms: none of {len(found)} is up" if not told else f"alarms that are up: {told}"
