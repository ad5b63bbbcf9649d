"""The notices that a person would have got from the local cloud: asked at its control port, told when the demo ends."""
import json
import urllib.request
from typing import Any

WITHIN_S = 30


def sent(control_url: str) -> list[dict[str, Any]]:
    """Notices of incidents and bridges, oldest first: {"Subject", "Message", "MessageAttributes", ...}; no alarms."""
    with urllib.request.urlopen(f"{control_url}/notifications", timeout=WITHIN_S) as answer:
        return [one for one in json.load(answer) if "kind" in one.get("MessageAttributes", {})]


def line(found: list[dict[str, Any]]) -> str:
    """One line for a person: how many, and what the last one says."""
    if not found:
        return "notices: none"
    return f"notices: {len(found)}, one an incident; the last: {found[-1]['Subject']}"
