"""The cloud side of a calculation: messages of one kind go in at their rule, the handlers run on them, and each hop is
metered; used by cost_site.py (readings) and cost_messages.py (status, alerts, events).
"""
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from deploy.cost_design import Design
from deploy.cost_meters import Lines, message, stored
from deploy.cost_tables import LogSize, Published, Tables
from local_cloud.cost.meter import IOT_STEP_BYTES, QUEUE_STEP_BYTES, steps
from local_cloud.cost.prices import Prices

SITE = "EdgeCloudAWS"
Change = tuple[float, tuple[str, dict[str, Any]]]  # when, which table, the new item (or its key)
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def grouped(arrived: list[tuple[float, Any]], window_s: float, most: int) -> Iterator[tuple[float, list[Any]]]:
    """(when, what) a batching window hands over: it opens with the first, closes after its time or when full."""
    group: list[Any] = []
    closes_s = 0.0
    for at_s, one in arrived:
        if group and (at_s >= closes_s or len(group) >= most):
            yield min(at_s, closes_s), group
            group = []
        if not group:
            closes_s = at_s + window_s
        group.append(one)
    if group:
        yield closes_s, group


def minutes(written: Iterable[Change]) -> list[Change]:
    """Those changes of the roll-ups table that are minutes: what `hours` is called for."""
    return [change for change in written if change[1][1]["sk"]["S"].startswith("m#")]


class Cloud:
    """One route of the design. line: whose costs these are; receipts: the line of what it publishes to the bridge.

    messages, message_bytes, and by function its invocations and the units it wrote are counted on the way.
    """

    def __init__(self, route: str, design: Design, prices: Prices, at: tuple[Tables, Published, LogSize], *,
                 lines: Lines, line: str, receipts: str) -> None:
        self._route, self._design, self._prices = route, design, prices
        self._store, self._published, self._log_size = at
        self._lines, self._line, self._receipts = lines, line, receipts
        self.messages = self.message_bytes = 0
        self.invocations: Counter[str] = Counter()
        self.writes: dict[str, float] = defaultdict(float)

    def through(self, name: str, handler: Handler, sent: Iterable[tuple[float, bytes]]) -> list[Change]:
        """(second, bytes) of messages by rule, archive and queue to a function; returns what it wrote."""
        handed = [(at_s, self.arrive(body)) for at_s, body in sent]
        written: list[Change] = []
        for at_s, bodies in grouped(handed, self._design.function(name).window_s, most=10):
            self.queued(bodies)
            records = [{"messageId": f"message-{n}", "body": body.decode()} for n, body in enumerate(bodies)]
            written += [(at_s, change) for change in self.invoke(name, handler, records)]
        return written

    def arrive(self, body: bytes) -> bytes:
        """A batch at its rule; returns what the rule hands on."""
        lines, handed = self._lines, body[:-1] + b',"site":"%s"}' % SITE.encode()
        self.messages += 1
        self.message_bytes += len(body)
        message(lines, self._line, len(body), self._design.actions(self._route))
        lines.add(self._line, "firehose.gb", steps(len(handed) + 1, IOT_STEP_BYTES) * IOT_STEP_BYTES / 1e9)
        lines.add(self._line, "s3.gb_month", len(gzip.compress(handed)) / 1e9)
        lines.add(self._line, "sqs.request", steps(len(handed), QUEUE_STEP_BYTES))
        return handed

    def queued(self, bodies: list[bytes]) -> None:
        """Messages received together and deleted together."""
        received = max(-(-len(bodies) // 10), steps(sum(map(len, bodies)), QUEUE_STEP_BYTES))
        self._lines.add(self._line, "sqs.request", received + -(-len(bodies) // 10))

    def follow(self, name: str, handler: Handler, where: str, written: list[Change], most: int) -> list[Change]:
        """Run a function on what was written to a table, as often as its window says; returns what it wrote."""
        made: list[Change] = []
        changes = [(at_s, item) for at_s, (name_of_table, item) in written if name_of_table == where]
        for at_s, items in grouped(changes, self._design.function(name).window_s, most):
            records = [{"eventName": "INSERT", "dynamodb": {
                "SequenceNumber": str(n), "NewImage": item, "Keys": {key: item[key] for key in ("pk", "sk")}}}
                for n, item in enumerate(items)]
            made += [(at_s, change) for change in self.invoke(name, handler, records)]
        return made

    def invoke(self, name: str, handler: Handler, records: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """One invocation: its request, its time, its calls and what it logs; returns what it wrote."""
        event = {"Records": records}
        self._log_size.setLevel(self._design.function(name).log_level)
        answer = handler(event, None)
        if answer.get("batchItemFailures"):
            raise RuntimeError(f"{name} did not take {answer['batchItemFailures']}; its log says why")
        calls, units, changed = self._store.take()
        (sizes_bytes, notices), lines = self._published.take(), self._lines
        memory_mb = self._design.function(name).memory_mb
        ms = self._prices.lambda_ms(invocations=1, event_bytes=len(json.dumps(event, default=str)), calls=calls,
                                    publishes=0, memory_mb=memory_mb)
        publishing_ms = self._prices.assumptions["publish_ms"] * (len(sizes_bytes) + notices)
        lines.add(self._line, "sns.request", notices)
        lines.add(self._line, "sns.email", notices)
        lines.add(self._line, "lambda.request", 1)
        lines.add(self._line, "lambda.gb_s", ms / 1000 * memory_mb / 1024)
        lines.add(self._receipts, "lambda.gb_s", publishing_ms / 1000 * memory_mb / 1024)
        lines.add(self._line, "logs.gb", self._log_size.take() / 1e9)
        for one in units:
            lines.add(self._line, "dynamodb.write_unit", one.write)
            lines.add(self._line, "dynamodb.read_unit", one.read)
            stored(lines, self._line, one.grown_bytes)
            self.writes[name] += one.write
        for size_bytes in sizes_bytes:  # in from the function, out to the bridge, and the bridge's PUBACK
            lines.add(self._receipts, "iot.message", 2 * steps(size_bytes, IOT_STEP_BYTES) + 1)
        self.invocations[name] += 1
        return changed
