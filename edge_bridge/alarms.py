"""Alarms: what a person should look at, raised and cleared by the parts; to the log once a state, and to the status."""
import logging
import threading

log = logging.getLogger(__name__)

(CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES, CERTIFICATE_UNUSABLE, REFUSED, NO_RECEIPT, OUTBOX_FAILS,
 OUTBOX_FULL) = ALL = (
    "certificate_expired", "certificate_expires", "certificate_unusable", "cloud_refuses", "no_receipt", "outbox_fails",
    "outbox_full")


class Alarms:
    """Which of ALL are up now. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up: dict[str, str] = {}

    def raised(self, alarm: str, text: str) -> None:
        """The alarm is up: logged when it was not, once per state."""
        with self._lock:
            was_up, self._up[alarm] = alarm in self._up, text
        log.log(logging.DEBUG if was_up else logging.WARNING, "alarm %s: %s", alarm, text)

    def cleared(self, alarm: str) -> None:
        """All is well again; logged when the alarm was up."""
        with self._lock:
            was_up = self._up.pop(alarm, None) is not None
        if was_up:
            log.info("alarm %s is over", alarm)

    def up(self) -> dict[str, str]:
        """{alarm: what is the matter and what to do} of those that are up."""
        with self._lock:
            return dict(sorted(self._up.items()))
