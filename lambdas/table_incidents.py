"""What the writer of the incidents table (alert_incidents.py) and its reader in the API both know of its items."""
from collections.abc import Iterator

from contract import incidents
from lambdas import table

TABLE = "INCIDENTS_TABLE"
OPEN = "open"  # partition of the index by_day that holds the open ones; a closed one is under the day it was opened on


def latest_opened(day: str, before: str = "~") -> Iterator[table.Item]:
    """The incidents of a partition of the index by_day (OPEN, or a UTC day), latest opened first.

    before: only those whose `recent` sorts before it.
    """
    return table.query_index(TABLE, table.BY_DAY, ("day", "recent"), (day, before))


def severity(item: table.Item) -> str:
    """How grave the stored incident is (contract.incidents.SEVERITIES)."""
    found: str = incidents.severity(item["count"], item.get("reason"), item["peak"], item.get("low"), item.get("high"))
    return found
