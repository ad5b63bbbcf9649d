"""The upkeep of the outbox's file: it shrinks after a drain, and leaves the disk to others meanwhile."""
import os
import threading
from pathlib import Path

from edge_bridge.retention import SIZE
from edge_bridge.rows import EVERY_ID
from edge_bridge.upkeep import SLACK_PAGES, Shrinker
from tests.outbox_rig import Parts
from tests.outbox_rig import parts as parts
from tests.retention_rig import MB, fill


def test_the_file_shrinks_after_a_drain_in_short_steps(parts: Parts, tmp_path: Path) -> None:
    fill(parts, 9 * MB)
    shrinker = Shrinker(parts.store, parts.rows)
    parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
    assert shrinker.step() == 0.0, "a backlog waits: the pages are in use, or will be"
    while parts.rows.drop("readings", EVERY_ID, None, 10_000, SIZE):
        pass  # until nothing waits
    large = os.path.getsize(tmp_path / "outbox.db")
    steps = 0
    with parts.store._lock:  # another writer is at it
        held = threading.Thread(target=lambda: results.append(shrinker.step()))
        results: list[float] = []
        held.start()
        held.join()
    assert results[0] > 0 and large > 7 * MB
    while shrinker.step():
        steps += 1
    assert steps > 3
    parts.store.close()
    small = os.path.getsize(tmp_path / "outbox.db")
    assert small <= (SLACK_PAGES + 200) * 4096 + MB < large, (large, small)
