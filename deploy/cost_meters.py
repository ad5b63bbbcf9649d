"""Usage on the lines of this product's bill, priced; and the naive design's, metered by the same arithmetic.

cost_site.py and cost_report.py put usage here (from driving the code, from a running local cloud); cost_page.py and
the demo print it.
"""
from collections import defaultdict
from collections.abc import Iterable

from contract import numbers
from local_cloud.cost.bill import LOG_LINE_BYTES
from local_cloud.cost.capacity import WRITE_STEP_BYTES
from local_cloud.cost.item_size import ITEM_OVERHEAD_BYTES, Attributes, item_bytes
from local_cloud.cost.meter import IOT_STEP_BYTES, steps
from local_cloud.cost.prices import Prices

# What is billed for what: the readings are the variable cost that the bar is about; all else has a line of its own.
READINGS, EVENTS, ALERTS, STATUS, RECEIPTS = "readings", "events", "alerts", "status", "receipts"
API, LINK, STANDING = "api", "connection", "standing"
NAIVE_MEMORY_MB = 128
# The three lines that Lambda itself writes for each invocation, unless told otherwise (START, END, REPORT).
LAMBDA_LOG_LINES_BYTES = (66, 51, 145)


class Lines:
    """Quantities by line and meter."""

    def __init__(self) -> None:
        self.by_line: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, line: str, meter: str, quantity: float) -> None:
        """Count a quantity of a meter (a key of the price file) on a line."""
        self.by_line[line][meter] += quantity

    def put(self, line: str, meter: str, quantity: float) -> None:
        """Set a quantity in place of what was counted."""
        self.by_line[line][meter] = quantity

    def usd(self, prices: Prices, line: str) -> float:
        """What a line costs."""
        return sum(self.parts(prices, line).values())

    def parts(self, prices: Prices, line: str) -> dict[str, float]:
        """{meter: dollars} of a line, dearest first."""
        found = {meter: prices.usd(meter, quantity) for meter, quantity in self.by_line[line].items() if quantity}
        return dict(sorted(found.items(), key=lambda one: -one[1]))


def message(lines: Lines, line: str, size_bytes: int, actions: int) -> None:
    """A message for a rule by Basic Ingest: free to send, the rule and its actions by 5 KB."""
    lines.add(line, "iot.rule", steps(size_bytes, IOT_STEP_BYTES))
    lines.add(line, "iot.action", actions * steps(size_bytes, IOT_STEP_BYTES))


def naive(prices: Prices, payloads: Iterable[bytes], site: str = "EdgeCloudAWS") -> Lines:
    """The plain design: each reading a message of its own, one rule, one invocation of a function, one item.

    payloads: readings as JSON objects with device_id, as they are published.
    """
    lines = Lines()
    for payload in payloads:
        size_bytes = len(payload)
        lines.add(READINGS, "iot.message", steps(size_bytes, IOT_STEP_BYTES))
        message(lines, READINGS, size_bytes, actions=1)
        lines.add(READINGS, "lambda.request", 1)
        ms = prices.lambda_ms(invocations=1, event_bytes=size_bytes, calls=1, publishes=0, memory_mb=NAIVE_MEMORY_MB)
        lines.add(READINGS, "lambda.gb_s", ms / 1000 * NAIVE_MEMORY_MB / 1024)
        lines.add(READINGS, "logs.gb", sum(size + LOG_LINE_BYTES for size in LAMBDA_LOG_LINES_BYTES) / 1e9)
        stored_bytes = item_bytes(_item(payload, site))
        lines.add(READINGS, "dynamodb.write_unit", steps(stored_bytes, WRITE_STEP_BYTES))
        lines.add(READINGS, "dynamodb.gb_month", (stored_bytes + ITEM_OVERHEAD_BYTES) / 1e9)
    return lines


def stored(lines: Lines, line: str, size_bytes: int) -> None:
    """Bytes in a table for a month, with its point-in-time recovery (which the plain design has not)."""
    lines.add(line, "dynamodb.gb_month", size_bytes / 1e9)
    lines.add(line, "dynamodb.backup_gb_month", size_bytes / 1e9)


def _item(payload: bytes, site: str) -> Attributes:
    """One reading as an item: its key, and its fields as they come."""
    reading = numbers.loads(payload)
    device = reading.pop("device_id")
    item = {"pk": {"S": f"{site}#{device}"}, "expires_at": {"N": "1797924240"}}
    return item | {name: {"S": value} if isinstance(value, str) else {"N": str(value)}
                   for name, value in reading.items()}
