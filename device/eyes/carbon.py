"""The bridge's carbon state (GET /carbon on its METRICS_PORT) -> at which share of its frames watch.py looks.

A thread of its own asks every minute. No answer, an old one or a wrong one: every frame is looked at.
"""
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

ASK_S, ANSWER_S = 60.0, 5.0
MOST_AGE_S = 180.0
MOST_BYTES = 4096
LEAST_SHARE = 0.1  # whatever is said, a camera is never blind
log = logging.getLogger("camera")


class Told:
    """What the bridge at `url` said last; asks at once, then every ask_s."""

    def __init__(self, url: str, ask_s: float = ASK_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._ask_s, self._clock = url.rstrip("/") + "/carbon", ask_s, clock
        self._share, self._at_s = 1.0, clock()
        self._fault = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carbon", daemon=True)
        self._thread.start()

    def share(self) -> float:
        """The share of frames to look at now, from 0.1 to 1."""
        return self._share if self._clock() - self._at_s <= MOST_AGE_S else 1.0

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = self._ask_s
            try:
                share = _asked(self._url)
            except (OSError, ValueError, HTTPException) as error:
                if not self._fault:
                    log.warning("%s does not say how many frames to look at (%s); until it does, all are", self._url,
                                error)
                self._fault, self._share = str(error) or repr(error), 1.0
                continue
            if share != self._share:
                log.info("from now on %.0f %% of the frames are looked at: the carbon intensity", 100 * share)
            self._share, self._at_s, self._fault = share, self._clock(), ""


def _asked(url: str) -> float:
    """The share that the bridge says. Raises OSError, ValueError, HTTPException."""
    with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
        said: Any = json.loads(answer.read(MOST_BYTES))
    share = said.get("frames") if isinstance(said, dict) else None
    if isinstance(share, bool) or not isinstance(share, int | float) or not LEAST_SHARE <= share <= 1:
        raise ValueError(f"got frames {share!r:.40}, expected {LEAST_SHARE} to 1")
    return float(share)
