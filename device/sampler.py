"""Asks the sensor by schedule, in a thread of its own: a slow or waiting sensor holds up neither disk nor network.

Events put: ("reading", text), ("failed", why), and at the end ("sampled all",).
"""
import itertools
import threading
import time

from contract.errors import BadPayload
from device import schedule
from device.message import reading_text
from device.sensors import SensorError

UNCOMMITTED_READINGS = 1000  # then the sensor waits for the disk


class Sampler(object):
    """Reads `sensor` at `rate` per second, `count` times or (None) until told; rate None: whenever it has something."""

    def __init__(self, sensor, device, rate, count, post):
        self._sensor, self._device, self._rate, self._count, self._post = sensor, device, rate, count, post
        self._slots = threading.Semaphore(UNCOMMITTED_READINGS)
        self._stopping = threading.Event()

    def start(self):
        """Begin; the thread is a daemon, since a sensor may wait for ever."""
        threading.Thread(target=self._run, name="sensor", daemon=True).start()

    def stop(self):
        """Ask for no further reading; one that is being taken may still come."""
        self._stopping.set()

    def committed(self, n):
        """n readings are on disk: there is room for as many."""
        for _ in range(n):
            self._slots.release()

    def _turns(self):
        if self._rate is None:
            endless = iter(self._stopping.is_set, True)
            return endless if self._count is None else itertools.islice(endless, self._count)
        return schedule.ticks(self._rate, self._count, self._stopping)

    def _run(self):
        for _ in self._turns():
            self._slots.acquire()
            try:
                event = ("reading", reading_text(self._sensor(), time.time(), self._device))
            except EOFError:
                break
            except (SensorError, BadPayload) as error:
                self._slots.release()
                event = ("failed", "no reading: %s" % error)
            self._post(event)
        self._post(("sampled all",))
