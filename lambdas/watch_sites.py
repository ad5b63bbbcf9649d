"""Which bridges are silent: each site's newest status and lifecycle event in, its silence and its ledger's losses out.

A bridge that has been disconnected, or told no status, for SILENT_MINUTES is silent: a person is told once, and once
more when it is back. What was told is an item of its own, so that no restart tells it again.
"""
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from contract import numbers
from lambdas import alert_notices, alert_words, table
from lambdas.table_rollups import LANES, PRESENCE, STATUS, WATCHED

TABLE = "ROLLUPS_TABLE"
MINUTE_MS, DAY_MS = 60_000, 24 * 3600 * 1000
ACCURACY_MS = 2 * MINUTE_MS  # of the time that a lifecycle event tells
LOSSES = ("lost", "dropped", "unaccounted")
WHY = {"CLIENT_INITIATED_DISCONNECT": "it took its leave, so somebody or an update stopped it",
       "CONNECTION_LOST": "its connection broke", "MQTT_KEEP_ALIVE_TIMEOUT": "its connection went dead",
       "DUPLICATE_CLIENTID": "another client connected under its name",
       "AUTH_ERROR": "AWS IoT refused its certificate or policy", "FORBIDDEN_ACCESS": "its policy forbade what it did",
       "THROTTLED": "it went beyond AWS IoT's limits", "SERVER_INITIATED_DISCONNECT": "AWS IoT ended its connection",
       "API_INITIATED_DISCONNECT": "its connection was ended from outside"}
log = logging.getLogger(__name__)


class Site(NamedTuple):
    """What is known of one, by its bridge, whose thing is `name`. stored_ms: when its newest status came; clock_ms: how
    far the site's clock is behind ours; gone: its lifecycle event, if that says it is disconnected; seen: our own item;
    told: the status itself."""

    name: str
    stored_ms: int
    clock_ms: int
    gone: table.Item | None
    seen: table.Item
    told: dict[str, Any]

    def silent_since(self, now_ms: int) -> int | None:
        """Since when it is silent; None while it is not."""
        signs = [self.stored_ms] if self.gone is None else [self.stored_ms, int(self.gone["at"])]
        since_ms = min(signs)
        return since_ms if now_ms - since_ms >= int(os.environ.get("SILENT_MINUTES", "10")) * MINUTE_MS else None

    def why(self) -> str:
        """What is known of the cause, for a person."""
        if self.gone is None:
            return "AWS IoT has not seen it go, but it tells no status; it hangs, or its statuses do not get through"
        return WHY.get(str(self.gone.get("reason")), "it disconnected")


def sites(now_ms: int) -> Iterator[Site]:
    """Every site of this deployment that ever told a status: one that did not is not expected to."""
    things = set(filter(None, os.environ.get("THINGS", "").split(",")))
    presence, seen = ({item["sk"]: item for item in table.query(TABLE, partition, " ", "~")}
                      for partition in (PRESENCE, WATCHED))
    for item in table.query(TABLE, STATUS, " ", "~"):
        if not things or item["site"] in things:
            stored_ms = int(item["stored"])
            gone = presence.get(item["site"])
            # A status that came well after the event is the later sign: the event of its connection has not come.
            if gone is not None and (gone["connected"] or stored_ms > int(gone["at"]) + ACCURACY_MS):
                gone = None
            yield Site(item["site"], stored_ms, stored_ms - int(item["at"]), gone, seen.get(item["site"], {}),
                       numbers.loads(item["status"]))


def clocks(found: Iterable[Site]) -> dict[str, int]:
    """How far each site's clock is behind ours, in ms; of two bridges at one site, that of the slower."""
    behind_ms: dict[str, int] = {}
    for one in found:
        name = table.site_of(one.name)
        behind_ms[name] = max(one.clock_ms, behind_ms.get(name, one.clock_ms))
    return behind_ms


def watch(site: Site, now_ms: int) -> table.Item:
    """Tell a person what is new of this site; returns our item of it as it is now. Raises what SNS or DynamoDB raise:
    it is told again then."""
    since_ms, before = site.silent_since(now_ms), site.seen
    after = {**_ledger(site, now_ms), "pk": WATCHED, "sk": site.name, "site": site.name,
             "expires_at": table.expires_at(site.stored_ms, table.ROLLUPS)}
    if since_ms is not None:
        after["silent"] = before.get("silent", since_ms)
    if since_ms is not None and "silent" not in before:
        alert_notices.publish(alert_words.of_silence(site.name, since_ms, site.why()))
    elif since_ms is None and "silent" in before:
        alert_notices.publish(alert_words.of_return(site.name, int(before["silent"]), site.stored_ms))
    if _differ(before, after):
        table.put_all(TABLE, [after])
    return after


def _differ(before: table.Item, after: table.Item) -> bool:
    """Is there anything to write? When the item may be deleted changes by the day, and is left as it was."""
    return {**before, "expires_at": 0} != {**after, "expires_at": 0} or (
        after["expires_at"] - before.get("expires_at", 0) > 30 * table.DAY_S)


def _ledger(site: Site, now_ms: int) -> table.Item:
    """The losses that the ledger counts, and when they last grew; those from before the first look are not news."""
    losses = {"lost": int(site.told.get("lost", 0)), "dropped": int(site.told.get("dropped", 0)),
              "unaccounted": unaccounted(site.told)}
    grew = any(losses[name] > site.seen.get(name, losses[name]) for name in LOSSES)
    grown_ms = now_ms if grew else site.seen.get("grown")
    return losses | ({"grown": grown_ms} if grown_ms is not None else {})


def unaccounted(told: dict[str, Any]) -> int:
    """Readings and events of a ledger that were committed and are neither delivered nor dropped nor waiting.

    The devices' `waiting` is what their counters leave open, the lanes' what lies in the outbox. Accepted alerts count
    in the lanes too, so this finds a hole late, never one that is none.
    """
    if told.get("devices_left_out") or "waiting" not in told:
        return 0
    open_in_counters = sum(counts.get("waiting", 0) for counts in told.get("devices", {}).values())
    held = sum(told["waiting"].get(lane, 0) for lane in LANES)
    return max(0, int(open_in_counters - held))


def mismatch(seen: table.Item, now_ms: int) -> bool:
    """Did this site's ledger count a loss within the last day?"""
    return "grown" in seen and now_ms - int(seen["grown"]) < DAY_MS


def certificate_days(told: dict[str, Any]) -> float | None:
    """Days that the bridge's certificate is still good for; None when its status does not say."""
    days = told.get("certificate_days")
    return None if days is None else float(days)
