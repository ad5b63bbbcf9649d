"""Watches the cloud's tables while the demo runs: how many readings and alerts have arrived, and how late each did."""
import threading
import time
from decimal import Decimal
from typing import Any

from boto3.dynamodb.conditions import Key

from contract import batch

EVERY_S = 0.25


class Arrivals:
    """Polls the newest items by boto3 in a thread of its own; latencies in ms from `timestamp` to being seen."""

    def __init__(self, readings: Any, alerts: Any, rollups: Any, site: str) -> None:
        self.readings, self.alerts, self.rollups, self.site = readings, alerts, rollups, site
        self.devices: list[str] = []
        self.stored_ms: list[int] = []
        self.alert_ms: list[int] = []
        self.stored = self.alerts_stored = 0
        self.failed: Exception | None = None
        self._last: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def close(self) -> None:
        """Stop polling; raises what stopped it, if anything did."""
        self._stop.set()
        self._thread.join(10)
        if self.failed:
            raise self.failed

    def _run(self) -> None:
        try:
            while not self._stop.wait(EVERY_S):
                self._look_for_devices()
                for device in self.devices:
                    self._look_at_readings(device)
                    self._look_at_alerts(device)
        except Exception as error:  # handed to the caller by close(): a thread must not end unheard
            self.failed = error

    def _look_for_devices(self) -> None:
        """Every device whose readings have been rolled up, the user's own included."""
        prefix = f"readings#{self.site}#"
        wanted = Key("pk").eq("devices") & Key("sk").begins_with(prefix)
        found = self.rollups.query(KeyConditionExpression=wanted)["Items"]
        self.devices = [str(item["sk"]).removeprefix(prefix) for item in found]

    def _new(self, table: Any, device: str, prefix: str) -> list[dict[str, Any]]:
        key = f"{self.site}#{device}"
        after = self._last.get(prefix + device, prefix + "#")
        found = table.query(KeyConditionExpression=Key("pk").eq(key) & Key("sk").between(after, prefix + "$"))["Items"]
        found = [item for item in found if item["sk"] != after]
        if found:
            self._last[prefix + device] = found[-1]["sk"]
        return found

    def _look_at_readings(self, device: str) -> None:
        now_ms = int(time.time() * 1000)
        for item in self._new(self.readings, device, "r"):
            rows = batch.unpack(item["series"])
            self.stored += len(rows)
            self.stored_ms += [now_ms - row.at_ms for row in rows]

    def _look_at_alerts(self, device: str) -> None:
        now_ms = int(time.time() * 1000)
        for item in self._new(self.alerts, device, "a"):
            self.alerts_stored += 1
            self.alert_ms.append(now_ms - int(item["at"]))


def percentiles(latencies_ms: list[int]) -> dict[str, int | None]:
    """{"p50", "p95"} of a list of ms, None when it is empty."""
    ordered = sorted(latencies_ms)

    def at(share: Decimal) -> int | None:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None

    return {"p50": at(Decimal("0.5")), "p95": at(Decimal("0.95"))}
