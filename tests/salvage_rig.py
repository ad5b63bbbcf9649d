"""What the tests of damaged and of older outboxes share: a file with some of everything, damage, and what is left."""
import json
from pathlib import Path

from contract import batch
from contract.batch import ANOMALY
from edge_bridge.counters import Counters
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.rows import EVERY_ID, Rows
from edge_bridge.salvage import open_store
from edge_bridge.shipments import BACKFILL, Shipments
from tests.outbox_rig import Parts, classified

PAGE = 4096


def filled(path: Path, rows: int = 3000, sealed: int = 400) -> dict[str, bytes]:
    """An outbox with some of everything, closed; {name: bytes} of its sealed messages."""
    parts = Parts(path, scoring=True)
    for start in range(0, sealed, 100):
        parts.commit(*[(f"d{i % 3}", start + i) for i in range(100)])
        parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
        parts.packer.seal_rows(BACKFILL, everything=True)
    parts.outbox.turns.take("pi", "spool", 7, 7)
    for start in range(sealed, sealed + rows, 500):
        parts.commit(*[(f"d{i % 3}", start + i) for i in range(min(500, sealed + rows - start))])
    intake = Intake()
    intake.dead_letters.append((1, "broken JSON", "", '["sensor/data"]', 3, b"{x}"))
    parts.outbox.commit(intake)
    [first, *_] = parts.rows.unscored(1)
    parts.rows.mark(first.id, {first.id: ANOMALY}, [(first.id, "d0", classified(first))], {("d0", "sensor2"): "{}"})
    bytes_of = {s.name: parts.shipments.sealed(s) for s in parts.shipments.all()}
    parts.store.close()
    return bytes_of


class Reopened:
    """The outbox after `open_store`."""

    def __init__(self, path: Path, now_s: float = 1_800_000_001.0) -> None:
        self.store = open_store(str(path))
        self.counters = Counters(self.store)
        self.rows = Rows(self.store, self.counters, scoring=True)
        self.shipments = Shipments(self.store, self.counters, 5.0)
        self.outbox = Outbox(self.store, self.counters, lambda: now_s)

    def values(self) -> list[int]:
        """sensor2 of each row that waits, and of each sealed one."""
        found = [int(json.loads(row.payload)["sensor2"]) for row in self.rows.read("readings", 0, EVERY_ID, 1 << 30)]
        for shipment in self.shipments.all():
            if shipment.route == "readings":
                for series in batch.read(self.shipments.sealed(shipment)).series:
                    found += [int(row.values["sensor2"]) for row in batch.unpack(series)]
        return sorted(found)

    def in_the_ledger(self) -> int:
        """Committed, but neither delivered, lost nor waiting: must be 0."""
        now = self.store.witness.now
        held = sum(self.rows.waiting(route) for route in ("readings", "events"))
        held += sum(sum(s.counts.values()) for s in self.shipments.all() if s.route != "alerts")
        return now.rows - now.gone - held


def pages_of(path: Path, table: str) -> list[int]:
    """Numbers of the leaf pages of a table, told by their first byte and, for readings, by what stands in them."""
    raw = path.read_bytes()
    return [n for n in range(2, len(raw) // PAGE + 1) if raw[(n - 1) * PAGE] == 13
            and (b'"sensor2": ' in raw[(n - 1) * PAGE:n * PAGE]) == (table == "readings")]


def overwrite(path: Path, page: int, offset: int = 0, noise: bytes = b"\xff" * 64) -> None:
    """Damage this page."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + offset)
        file.write(noise)


def one_row(route: str = "readings") -> Intake:
    """A micro-batch of one message."""
    intake = Intake()
    intake.rows[route].append(("d0", 1, b'{"timestamp": 1, "sensor2": 1, "persons_detected": 1}', None))
    intake.counts["", f"{route}_in"] += 1
    return intake
