"""The notices that a person would have got from the local cloud: asked at its control port, told when the demo ends."""
from typing import Any

from deploy import control


def sent(control_url: str) -> list[dict[str, Any]]:
    """Notices of incidents and bridges, oldest first: {"Subject", "Message", "MessageAttributes", ...}; no alarms."""
    return [one for one in control.ask(control_url, "/notifications") if "kind" in one.get("MessageAttributes", {})]


def line(found: list[dict[str, Any]]) -> str:
    """One line for a person: how many, and what the last one says."""
    if not found:
        return "notices: none"
    return f"notices: {len(found)}, one an incident; the last: {found[-1]['Subject']}"
