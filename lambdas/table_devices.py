"""The list of devices in the roll-ups table: entered by persist.py, aggregate.py and POST /data, read by the API.

A device has an entry for each kind of what it sends: readings, events, or both.
"""
from collections.abc import Iterator

from lambdas import table

PARTITION = "devices"
READINGS, EVENTS = "readings", "events"
KNOWN: set[str] = set()  # sort keys of the entries that this container has written; a test may clear it


def entry_of(item: table.Item) -> table.Item:
    """The entry that a readings or an event item asks for."""
    kind = READINGS if item["kind"] == "readings" else EVENTS
    return {"pk": PARTITION, "sk": _key(kind, item["site"], item["device"]), "kind": kind, "site": item["site"],
            "device": item["device"]}


def _key(kind: str, site: str, device: str) -> str:
    return f"{kind}#{table.device_key(site, device)}"


def note(entry: table.Item) -> None:
    """Enter a device (see entry_of), once per container."""
    if entry["sk"] not in KNOWN:
        table.put_all("ROLLUPS_TABLE", [entry])
        KNOWN.add(entry["sk"])


def listed() -> Iterator[table.Item]:
    """Every entry."""
    return table.query("ROLLUPS_TABLE", PARTITION, " ", "~", consistent=True)


def with_events() -> Iterator[table.Item]:
    """The entries of those that send events."""
    return table.query("ROLLUPS_TABLE", PARTITION, f"{EVENTS}#", f"{EVENTS}#~", consistent=True)


def is_known(site: str, device: str) -> bool:
    """Was this device ever heard of?"""
    keys = [_key(kind, site, device) for kind in (READINGS, EVENTS)]
    return any(list(table.query("ROLLUPS_TABLE", PARTITION, key, key)) for key in keys)
