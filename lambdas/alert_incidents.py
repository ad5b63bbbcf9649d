"""Incidents: what the bridge says of them in its alerts goes to the incidents table, one item each.

The bridge decides (id, opened, closed, counts), and its newest word takes the place of the one before: newest by the
receive number of the reading that it came with, so that a repeat changes nothing and a late message takes nothing back.
alert.py brings the messages; watch.py closes what has fallen silent; alert_notices.py tells a person.
"""
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from contract import alerts, numbers, topics
from contract.errors import BadPayload
from lambdas import table, table_delivery, table_incidents, table_items
from lambdas.table_incidents import OPEN, TABLE

SILENCE_MS = 15 * 60 * 1000  # without a word of it an open incident is closed here: its bridge may be gone
BRIDGE, CLOUD = "bridge", "cloud"  # who closed it
log = logging.getLogger(__name__)


class News(NamedTuple):
    """What one message says of one incident. told: the last word on it (an alerts.Classified with `incident`);
    seen: the last anomaly of it in this message, None when the message only closes it."""

    site: str
    device: str
    told: Any
    seen: Any

    @property
    def id(self) -> str:
        """The incident's, as the bridge gave it."""
        return str(self.told.incident["id"])

    @property
    def rank(self) -> int:
        """Later words have a higher one; closing comes after what else is said with the same reading."""
        return rank(self.told)


def rank(told: Any) -> int:
    """Orders what a bridge says of an incident."""
    return 2 * int(told.number) + (told.incident["state"] == alerts.CLOSED)


def news(site: str, device: str, classified: Iterable[Any]) -> list[News]:
    """What a message says, one News per incident. Raises BadPayload for what is no incident of the bridge's."""
    told: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for one in (one for one in classified if one.incident is not None):
        incident_id = _checked(one.incident)
        table_items.check_moment(one.received_ms, "the receive time")
        if incident_id not in told or rank(told[incident_id]) <= rank(one):
            told[incident_id] = one
        if one.anomaly and (incident_id not in seen or seen[incident_id].number <= one.number):
            seen[incident_id] = one
    topics.check_device(device)
    return [News(site, device, one, seen.get(incident_id)) for incident_id, one in told.items()]


def _checked(incident: Any) -> str:
    """The id, if the incident has all that is stored of it."""
    try:
        table_delivery.check_id(incident["id"])
        table_items.check_moment(incident["opened"], "opened")
        numbers.check(incident["peak"], "peak")
        if isinstance(incident["count"], int) and incident["state"] in (alerts.OPENED, alerts.OPEN, alerts.CLOSED):
            return str(incident["id"])
    except (KeyError, TypeError) as error:
        raise BadPayload("broken incident", f"missing or wrong: {error}") from None
    raise BadPayload("broken incident", f"got {incident!r:.200}; expected count as a whole number, and state "
                     f"{alerts.OPENED}, {alerts.OPEN} or {alerts.CLOSED}")


def key(site: str, device: str, incident_id: str) -> dict[str, str]:
    """Key of an incident's item."""
    return {"pk": table.device_key(site, device), "sk": f"i#{incident_id}"}


def keep(one: News) -> table.Item:
    """Store this news unless later news is there; returns the item as it is then."""
    try:
        return update(_key(one), {**_told(one), **_seen(one)}, _gone(one),
                       "attribute_not_exists(#rank) OR #rank < :rank")
    except table.ConditionFailed as late:
        if one.seen is None or late.item.get("number", 0) >= one.seen.number:
            return late.item
    try:  # later news came first, but this anomaly is the latest that was heard of: it was last seen then
        return update(_key(one), _seen(one), (), "attribute_not_exists(#number) OR #number < :number")
    except table.ConditionFailed as later:
        return later.item


def _key(one: News) -> dict[str, str]:
    return key(one.site, one.device, one.id)


def _told(one: News) -> table.Item:
    said, pk = one.told.incident, table.device_key(one.site, one.device)
    closed = said["state"] == alerts.CLOSED
    item = {"site": one.site, "device": one.device, "incident": one.id, "rank": one.rank,
            "state": alerts.CLOSED if closed else alerts.OPEN, "opened": said["opened"], "count": said["count"],
            "peak": numbers.canonical(numbers.check(said["peak"], "peak")),
            "day": table.day_text(said["opened"]) if closed else OPEN,
            "recent": f"{said['opened']:013d}#{pk}#{one.id}",
            "expires_at": table.expires_at(said["opened"], table.ROLLUPS)}
    if said.get("reason") is not None:
        item["reason"] = said["reason"]
    if closed:
        item |= {"closed": one.told.received_ms, "closed_by": BRIDGE}
    return item


def _gone(one: News) -> tuple[str, ...]:
    """What an earlier closing left on the item, when this news opens it anew."""
    return () if one.told.incident["state"] == alerts.CLOSED else ("closed", "closed_by")


def _seen(one: News) -> table.Item:
    """The last anomaly: when, of which field, and what would have been normal."""
    if one.seen is None:
        return {}
    values = {name: getattr(one.seen, name) for name in ("value", "low", "high", "score")}
    return {"number": one.seen.number, "seen": one.seen.received_ms, "field": one.seen.field,
            **{name: numbers.canonical(numbers.check(value, name)) for name, value in values.items()
               if value is not None}}


def update(where: Mapping[str, Any], sets: table.Item, removes: Iterable[str], condition: str,
           **given: Any) -> table.Item:
    """One conditional update of the item whose key is in `where`; returns the item afterwards.

    Raises table.ConditionFailed with the item that stands there. In the condition each attribute that is set or removed
    stands as #name, and each value set or given as :name.
    """
    names = {f"#{name}": name for name in (*sets, *removes)}
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
    if removes:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in removes)
    values = {f":{name}": value for name, value in {**sets, **given}.items()}
    answer = table.write_if(
        condition, "update_item", TABLE, Key=table.to_attributes({"pk": where["pk"], "sk": where["sk"]}),
        UpdateExpression=expression, ExpressionAttributeNames=names,
        ExpressionAttributeValues=table.to_attributes(values),
        ReturnValues="ALL_NEW", ReturnValuesOnConditionCheckFailure="ALL_OLD")
    return table.from_attributes(answer["Attributes"])


# --- what watch.py does with them

def open_ones() -> Iterator[table.Item]:
    """Every open incident, latest opened first."""
    return table_incidents.latest_opened(OPEN)


def close_silent(item: table.Item, site_now_ms: int) -> bool:
    """Close an open incident that nothing was heard of for 15 min, by its site's clock; True when it was.

    What the bridge says later opens it again. `closed` is when the silence was full, whenever this is run.
    """
    last_ms = int(item["seen"] if "seen" in item else item["opened"])
    if site_now_ms - last_ms < SILENCE_MS:
        return False
    try:
        update(item, {"state": alerts.CLOSED, "closed": last_ms + SILENCE_MS, "closed_by": CLOUD, "rank": item["rank"],
                      "day": table.day_text(int(item["opened"]))}, (), "#rank = :rank AND #state <> :state")
    except table.ConditionFailed:
        log.debug("the bridge spoke of it meanwhile", extra={"incident": item["incident"]})
        return False
    log.info("incident closed: nothing was heard of it", extra={
        "incident": item["incident"], "site": item["site"], "device": item["device"]})
    return True
