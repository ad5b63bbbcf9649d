"""The local cloud's control port: bill, alarms, notices and state come out, flush and fault switches go in.

Asked by the demo, the drill and the tests; local_cloud/control.py answers.
"""
import json
from typing import Any

from deploy.fetch import FetchFault, fetch
from deploy.processes import PartFailed


def ask(control_url: str, path: str, within_s: float = 60) -> Any:
    """The JSON that GET answers. Raises PartFailed with the local cloud's words."""
    return _call(control_url + path, "GET", None, within_s)


def tell(control_url: str, path: str, body: dict[str, Any] | None = None, within_s: float = 60) -> Any:
    """POST, and the JSON that is answered. Raises PartFailed with the local cloud's words."""
    return _call(control_url + path, "POST", json.dumps(body or {}).encode(), within_s)


def _call(url: str, method: str, body: bytes | None, within_s: float) -> Any:
    try:
        return json.loads(fetch(url, method, body, within_s=within_s) or b"{}")
    except FetchFault as fault:
        raise PartFailed(f"the local cloud's control port: {fault}") from None
