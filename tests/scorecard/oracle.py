"""The oracle: what the publishers wrote down, against what DynamoDB holds; nothing here asks the bridge.

A reading is known by (device, spool, seq), its timestamp and its values: one that came back altered is lost. What a
foreign publisher made has no spool; what the bridge acknowledged of it comes from a recording proxy.
"""
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from contract import batch, numbers
from deploy.reconcile import exact, inversions, stamp

Identity = tuple[Any, ...]


@dataclass
class Count:
    """One run's outcome. published: made; missing: of those not in the cloud, though acknowledged; before_bridge: not
    in the cloud, and never acknowledged by the bridge; counted: readings in the roll-ups; alerts_differ: anomalies
    without an alert, and alerts without an anomaly."""

    published: int = 0
    stored: int = 0
    missing: int = 0
    doubled: int = 0
    misordered: int = 0
    counted: int = 0
    before_bridge: int = 0
    alerts_differ: int = 0

    def __add__(self, other: "Count") -> "Count":
        mine, theirs = asdict(self), asdict(other)
        return Count(**{name: mine[name] + theirs[name] for name in mine})


def made_reading(record: Mapping[str, Any]) -> Identity:
    """Identity of a line of a publisher's record."""
    return record["device"], record.get("spool"), record["seq"], stamp(record["timestamp"]), exact(record["values"])


def stored_readings(items: Iterable[Mapping[str, Any]]) -> list[tuple[int, Identity]]:
    """(receive number, identity) of every reading in a device's items."""
    return [(row.number, (item["device"], row.spool, row.seq, stamp(row.timestamp), exact(row.values)))
            for item in items if item.get("kind") == "readings" for row in batch.unpack(item["series"])]


def alerts_differ(items: Iterable[Mapping[str, Any]], alerts: Iterable[Mapping[str, Any]]) -> int:
    """How many of a device's readings are marked as anomalies without an alert, or have an alert without a mark."""
    marked = {row.number for item in items if item.get("kind") == "readings" for row in batch.unpack(item["series"])
              if row.mark == "anomaly"}
    return len(marked ^ {int(alert["number"]) for alert in alerts})


def made_event(record: Mapping[str, Any]) -> Identity:
    """Identity of a line of a camera's record."""
    return record["device_id"], record["timestamp"], Decimal(record["persons_detected"])


def stored_events(items: Iterable[Mapping[str, Any]]) -> list[tuple[int, Identity]]:
    """(receive number, identity) of every event in a device's items."""
    return [(int(item["event_number"]), (item["device"], item["timestamp"], item["values"]["persons_detected"]))
            for item in items if item.get("kind") == "event"]


def count(made: list[Identity], stored: list[tuple[int, Identity]], rollups: Iterable[Mapping[str, Any]],
          field: str, acknowledged: set[Identity] | None = None) -> Count:
    """Compare one device's readings (or events), made in this order, with what the cloud holds in its order.

    acknowledged: of a foreign publisher, what the bridge has acknowledged; None: our publisher, all of it is ours.
    """
    wanted, held = Counter(made), Counter(identity for _, identity in stored)
    places: dict[Identity, list[int]] = defaultdict(list)
    for index, identity in enumerate(made):
        places[identity].insert(0, index)  # two alike (events of one millisecond): in the order of making
    in_order = [places[identity].pop() for _, identity in sorted(stored, key=lambda one: one[0])
                if places.get(identity)]
    absent = wanted - held
    before_bridge = 0 if acknowledged is None else sum(n for one, n in absent.items() if one not in acknowledged)
    return Count(
        published=len(made), stored=len(stored), missing=absent.total() - before_bridge, before_bridge=before_bridge,
        doubled=(held - wanted).total(),
        misordered=inversions(in_order),
        counted=sum(int(entry[field][0]) for item in rollups for entry in item.values()
                    if isinstance(entry, dict) and field in entry))


def by_device(lines: Iterable[bytes], identity: Any) -> dict[str, list[Identity]]:
    """The records of a run, as their publishers wrote them, in the order of their making."""
    found: dict[str, list[Identity]] = defaultdict(list)
    for line in lines:
        known = identity(numbers.loads(line))
        found[known[0]].append(known)
    return dict(found)


@dataclass
class Verdict:
    """One run judged; broken: what ended it early. What is missing beyond the drops that someone owns up to is lost."""

    published: int
    stored: int
    lost: int
    doubled: int
    misordered: int
    dropped_counted: int
    lost_before_bridge: int
    recover_s: float
    failures: list[str]
    broken: str = ""


def judge(found: Count, *, dropped: int, bridge_counted: int, recover_s: float) -> Verdict:
    """dropped: what those that dropped it say they did, and at most that; bridge_counted: drops as the bridge shows
    them. A publisher may have dropped what the bridge had already: so missing <= shown <= dropped."""
    lost = max(0, found.missing - dropped)
    failures = []
    if lost:
        failures.append(f"{lost} lost")
    if found.doubled:
        failures.append(f"{found.doubled} doubled")
    if found.misordered:
        failures.append(f"{found.misordered} misordered")
    if not found.missing - lost <= bridge_counted <= dropped:
        failures.append(f"{found.missing} missing, {dropped} dropped, but the bridge counts {bridge_counted} drops")
    if found.counted != found.stored:
        failures.append(f"{found.stored} stored, but {found.counted} in the roll-ups")
    if found.alerts_differ:
        failures.append(f"{found.alerts_differ} anomalies and alerts do not go together")
    if not found.published:
        failures.append("nothing was published")
    return Verdict(found.published, found.stored, lost, found.doubled, found.misordered, bridge_counted,
                   found.before_bridge, round(recover_s, 1), failures)
