"""What a rebuild does with the archive's messages: it makes the items that the functions make of them, compares these
with what the tables hold, and writes what is missing or different; used by rebuild.py.

The items come from the functions' own modules. An item that is there already is not written, so that a rebuild over
live data changes nothing and costs reads alone.
"""
import logging
import time
from collections import Counter
from typing import Any

from contract import numbers, rollups
from deploy.rebuild_compare import CHUNK, Key, alike, items_of, readable
from lambdas import (
    aggregate,
    alert,
    alert_incidents,
    alert_notices,
    hours,
    persist,
    status,
    table,
    table_devices,
    table_rollups,
)

log = logging.getLogger(__name__)


class Pace:
    """At most so many writes a second, so that a rebuild leaves the live data their share of the tables."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._free_at_s = per_s, 0.0

    def take(self, writes: int) -> None:
        """Wait until these writes may be made."""
        now_s = time.monotonic()
        if self._free_at_s > now_s:
            time.sleep(self._free_at_s - now_s)
        self._free_at_s = max(now_s, self._free_at_s) + writes / self._per_s


class Rebuilder:
    """Applies messages to the tables that the environment names (as for the functions); counts what it found.

    site: only messages of this site; dry_run: compare and count, write nothing. Counted: items `same`, `missing`,
    `different`, `expired` (not written any more) by table, `minutes` and `incidents` likewise, hours `made`.
    """

    def __init__(self, pace: Pace, site: str | None = None, dry_run: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.failed_hours: list[tuple[str, int]] = []
        self._pace, self._site, self._dry_run = pace, site, dry_run
        self._waiting: dict[str, list[tuple[table.Item, int]]] = {"READINGS_TABLE": [], "ALERTS_TABLE": []}
        self._minutes: aggregate.Minutes = {}
        self._devices: dict[str, table.Item] = {}  # entries of the list of devices by their sort key
        self._statuses: dict[str, table.Item] = {}  # the newest by site

    def apply(self, route: str, text: str, arrived_ms: int) -> None:
        """One message of the archive; raises what its route's function raises for a message that it cannot read."""
        if route == "status":
            self._status(text, arrived_ms)
            return
        message = (alert if route == "alerts" else persist).opened(text)
        if self._site not in (None, table.site_of(message.thing)):
            return
        self.counts["messages"] += 1
        waiting = self._waiting[message.table]
        waiting += [(item, arrived_ms) for item in message.items]
        for news in message.news:
            self._incident(news)
        if len(waiting) >= CHUNK:
            self._settle(message.table)

    def finish(self) -> None:
        """Apply what waits, then the minutes that all of it belongs to, their hours and days, and the devices."""
        for setting in self._waiting:
            self._settle(setting)
        self._settle_minutes()
        self._settle_devices()
        for item in self._statuses.values():
            self._newest_status(item)
        self._statuses.clear()

    # --- readings, events, anomalies

    def _settle(self, setting: str) -> None:
        waiting, self._waiting[setting] = self._waiting[setting], []
        for start in range(0, len(waiting), CHUNK):
            chunk = waiting[start:start + CHUNK]
            there = items_of(setting, {(item["pk"], item["sk"]) for item, _ in chunk})
            wanted: dict[Key, table.Item] = {}
            for item, arrived_ms in chunk:
                key = item["pk"], item["sk"]
                before = wanted.get(key, there.get(key))
                kept = self._decide(setting, item, before, arrived_ms)
                if kept is item:
                    wanted[key] = item
                if setting == "READINGS_TABLE":
                    self._count_in(kept or item, before, arrived_ms)
            self._put(setting, list(wanted.values()))

    def _decide(self, setting: str, item: table.Item, before: table.Item | None, arrived_ms: int) -> table.Item | None:
        """The item that is to stand in the table: that before, this one, or none of them since its time is over."""
        what = setting.partition("_")[0].lower()
        if before is not None and alike(before, item):
            self.counts[f"{what} same"] += 1
            return before
        item["expires_at"] = table.expires_at(item["received"], table.READINGS, arrived_ms / 1000)
        if item["expires_at"] <= time.time():
            self.counts[f"{what} expired"] += 1
            return None
        self.counts[f"{what} {'missing' if before is None else 'different'}"] += 1
        return item

    def _count_in(self, item: table.Item, before: table.Item | None, arrived_ms: int) -> None:
        now_s = time.time()
        for minute in aggregate.enter(self._minutes, item, before if readable(before) else None, arrived_ms / 1000):
            if minute.expires_at <= now_s:  # a roll-up is made although its time is over
                minute.expires_at = table.expires_at(0, table.MINUTES)
        entry = table_devices.entry_of(item)
        self._devices[entry["sk"]] = entry

    def _put(self, setting: str, items: list[table.Item]) -> None:
        if items and not self._dry_run:
            self._pace.take(len(items))
            table.put_all(setting, items)

    # --- minutes, hours, days

    def _settle_minutes(self) -> None:
        keys, minutes = list(self._minutes), self._minutes
        self._minutes = {}
        for start in range(0, len(keys), CHUNK):
            there = items_of("ROLLUPS_TABLE", set(keys[start:start + CHUNK]))
            for key in keys[start:start + CHUNK]:
                self._minute(key, minutes[key], there.get(key, {}))
        if not self._dry_run:
            made = {(pk, table_rollups.start_of(table_rollups.HOUR, hours.moment_of(sk))) for pk, sk in keys}
            self.failed_hours += hours.recompute(made)
            self.counts["hours checked"] += len(made)

    def _minute(self, key: Key, minute: aggregate.Minute, there: table.Item) -> None:
        """Set the entries that are missing or different, take away those that are too many."""
        if there.get("untrusted") or not minute.untrusted:
            minute.entries = {name: entry for name, entry in minute.entries.items() if there.get(name) != entry}
        if not minute.entries:
            self.counts["minutes same"] += 1
            return
        self.counts["minutes different" if there else "minutes missing"] += 1
        if not self._dry_run:
            self._pace.take(1)
            aggregate.store(*key, minute)

    def _settle_devices(self) -> None:
        entries = list(self._devices.values())
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start:start + CHUNK]
            there = items_of("ROLLUPS_TABLE", {(entry["pk"], entry["sk"]) for entry in chunk})
            for entry in chunk:
                if (entry["pk"], entry["sk"]) not in there and not self._dry_run:
                    table_devices.note(entry)
        self._devices.clear()

    # --- incidents, status

    def _incident(self, news: Any) -> None:
        """Store an incident unless later news of it is there; of one that is new here nobody is told a second time."""
        key = alert_incidents.key(news.site, news.device, news.id)
        before = items_of(alert_incidents.TABLE, {(key["pk"], key["sk"])}).get((key["pk"], key["sk"]))
        if before is not None and before.get("rank", -1) >= news.rank:
            self.counts["incidents same"] += 1
            return
        self.counts["incidents different" if before else "incidents missing"] += 1
        if not self._dry_run:
            self._pace.take(2)
            kept = alert_incidents.keep(news)
            if before is None:
                alert_notices.spare(kept)

    def _status(self, text: str, arrived_ms: int) -> None:
        """Keep the newest status of each site; one from the future (a clock set back since) gives way."""
        item = status.opened(numbers.loads(text), arrived_ms)
        if self._site not in (None, item["site"]):
            return
        self.counts["messages"] += 1
        before = self._statuses.get(item["site"])
        if before is None or before["at"] < item["at"] or before["at"] > arrived_ms + rollups.AHEAD_MS:
            self._statuses[item["site"]] = item

    def _newest_status(self, item: table.Item) -> None:
        """Put a status where none is, or one made before it."""
        key = item["pk"], item["sk"]
        before = items_of("ROLLUPS_TABLE", {key}).get(key)
        if before is not None and before.get("at", -1) >= item["at"]:
            self.counts["statuses same"] += 1
            return
        self.counts["statuses different" if before else "statuses missing"] += 1
        if self._dry_run:
            return
        self._pace.take(1)
        try:
            table.write_if("attribute_not_exists(pk) OR #at < :at", "put_item", "ROLLUPS_TABLE",
                           Item=table.to_attributes(item), ExpressionAttributeNames={"#at": "at"},
                           ExpressionAttributeValues=table.to_attributes({":at": item["at"]}))
        except table.ConditionFailed:
            log.debug("the bridge's next status came in between", extra={"site": item["site"]})
