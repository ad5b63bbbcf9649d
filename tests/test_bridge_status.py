"""The ledger, its file, and the health that a container reads from it."""
import json
import time
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import status
from edge_bridge.shipments import BACKFILL, LIVE
from edge_bridge.status import STALE_S, STALLED_S, Ledger
from tests.test_outbox import Parts


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


def ledger(parts: Parts, clock: Clock | None = None) -> Ledger:
    return Ledger(parts.counters, parts.rows, parts.shipments, parts.live, thing="T", version="1",
                  now_s=lambda: parts.now_s, connected=lambda: {"cloud": True}, clock=clock or Clock())


def test_what_waits_is_told_per_lane_and_adds_up(parts: Parts) -> None:
    one = ledger(parts)
    assert sum(one.status()["waiting"].values()) == 0 and one.status()["oldest_unsent_s"] == 0.0
    parts.commit(("a", 1), ("b", 2))
    parts.live.connected(True)
    parts.commit(("a", 3))
    parts.now_s += 3
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 2, "unreceipted": 0}
    assert one.status()["oldest_unsent_s"] == 3.0
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.packer.seal_rows(LIVE, everything=True)
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 2, "unreceipted": 0}
    parts.shipments.sent(parts.shipments.all()[:1])
    parts.shipments.all()[0].state = "sent"
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 0, "unreceipted": 2}
    parts.shipments.delivered([s.name for s in parts.shipments.all()])
    done = one.status()
    assert (done["committed"], done["sent"], done["delivered"], sum(done["waiting"].values())) == (3, 3, 3, 0)
    assert done["devices"]["a"] == {"committed": 2, "sent": 2, "delivered": 2}


def test_health_is_that_the_oldest_unsent_gets_younger(parts: Parts, tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "status.json")
    one = ledger(parts, clock)
    parts.commit(("a", 1))
    one.status()
    clock.now_s += STALLED_S + 1
    status.write_file(path, one.status())
    healthy, line = status.health(path, parts.now_s)
    assert not healthy and "nothing went out for 61 s" in line
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.shipments.delivered([s.name for s in parts.shipments.all()])
    parts.commit(("a", 2))
    clock.now_s += 3600  # the newer one waits since now, whatever went before
    status.write_file(path, one.status())
    assert status.health(path, parts.now_s)[0]


def test_health_of_a_bridge_that_hangs_or_never_ran(parts: Parts, tmp_path: Path) -> None:
    path = str(tmp_path / "status.json")
    assert "no status in" in status.health(path)[1] and "STATUS_FILE is not set" in status.health("")[1]
    status.write_file(path, ledger(parts).status())
    healthy, line = status.health(path, parts.now_s + STALE_S + 1)
    assert not healthy and "hangs or has ended" in line
    Path(path).write_text("{")
    assert not status.health(path, time.time())[0]


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for n in range(3):
        status.write_file(str(path), {"at": n})
    assert json.loads(path.read_text()) == {"at": 2} and list(tmp_path.iterdir()) == [path]
