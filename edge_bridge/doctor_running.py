"""The bridge that runs with the doctor's settings: found by its lock, status file or HTTP port; read, never disturbed.

Whether a bridge runs decides how the cloud is tried: AWS IoT ends the connection of a client id when another one comes
with it, so that beside a running bridge the doctor takes the bridge's word instead of connecting (doctor_policy.py).
"""
import fcntl
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from edge_bridge.metrics import PREFIX
from edge_bridge.settings import Settings
from edge_bridge.status import STALE_S

HTTP_TIMEOUT_S = 2.0
_NUMBERS = {  # field of the status: metric
    "committed": "committed_total", "sent": "sent_total", "delivered": "delivered_total",
    "publishes": "publishes_total", "not_accepted": "not_accepted_total", "connects": "connects_total",
    "receipts_overdue": "receipts_overdue", "takeovers": "takeovers_total", "stalled_s": "stalled_seconds",
    "oldest_unsent_s": "oldest_unsent_age_seconds"}


class Running(NamedTuple):
    """A running bridge. status: its newest one (from /metrics: the part that is there), {} when it tells none; age_s:
    of the status; where: what told."""

    status: dict[str, Any]
    age_s: float
    where: str

    @property
    def tells(self) -> bool:
        """Is there a status that is of now?"""
        return bool(self.status) and self.age_s <= STALE_S


def look(settings: Settings) -> Running | None:
    """The bridge that uses this outbox; None when none does, or none is seen.

    A lock that is free is the last word: whoever answers on the HTTP port then is another bridge.
    """
    is_locked = holds_lock(settings.outbox)
    if is_locked is False:
        return None
    from_file = _from_file(settings)
    if from_file and from_file.tells:
        return from_file
    from_http = _from_http(settings)
    if from_http or not is_locked:
        return from_http
    return from_file or Running({}, 0.0, f"the lock on {settings.outbox}")


def holds_lock(outbox: str) -> bool | None:
    """Does a process hold <outbox>.lock? None: there is no such file here. Tried for a moment, and let go at once."""
    try:
        with open(outbox + ".lock") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _from_file(settings: Settings) -> Running | None:
    try:
        status = json.loads(Path(settings.status_file).read_text()) if settings.status_file else {}
        age_s = time.time() - status["at"] / 1000
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Running(status, age_s, settings.status_file) if status.get("thing") == settings.thing else None


def _from_http(settings: Settings) -> Running | None:
    if not settings.metrics_port:
        return None
    host = "127.0.0.1" if settings.metrics_host in ("", "0.0.0.0") else settings.metrics_host
    base = f"http://{host}:{settings.metrics_port}"
    try:
        status = _status_of(_get(base + "/metrics").decode())
        health = json.loads(_get(base + "/healthz"))
    except (OSError, ValueError, http.client.HTTPException):
        return None  # another program's port
    if not status:
        return None
    status["alarms"] = health.get("alarms", {})
    return Running(status, 0.0 if health.get("ok") else 2 * STALE_S, base + "/metrics")


def _get(url: str) -> bytes:
    """The body of an answer, whatever its code. Raises OSError, HTTPException."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=HTTP_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as answer:
        return bytes(answer.read())


def _status_of(text: str) -> dict[str, Any]:
    """What /metrics says, under the names of the status; {} when it is another program's. Raises ValueError."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {sample.name.removeprefix(PREFIX): sample.value for sample in samples if sample.name.startswith(PREFIX)}
    if "connects_total" not in values:
        return {}
    status: dict[str, Any] = {name: values.get(metric, 0) for name, metric in _NUMBERS.items()}
    status["connected"] = {sample.labels["link"]: bool(sample.value) for sample in samples
                           if sample.name == PREFIX + "connected"}
    status["version"] = next((s.labels["version"] for s in samples if s.name == PREFIX + "info"), "unknown")
    return status
