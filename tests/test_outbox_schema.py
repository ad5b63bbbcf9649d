"""The schema's versions: older files are brought forward whole or not at all, whatever kills it on the way."""
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import schema
from edge_bridge.schema import SCHEMA_VERSION
from edge_bridge.store import Store
from tests.bridge_rig import ROOT
from tests.outbox_rig import Parts

MADE_UP = {SCHEMA_VERSION: "ALTER TABLE readings ADD COLUMN colour TEXT NOT NULL DEFAULT 'none';\n"
           "CREATE TABLE colours (name TEXT PRIMARY KEY);\n"
           "INSERT INTO colours SELECT DISTINCT device FROM readings"}


def version_1(path: Path) -> None:
    """An outbox as the first version left it, with three readings."""
    parts = Parts(path)
    parts.commit(("a", 1), ("a", 2), ("b", 3))
    with parts.store.write() as db:
        db.execute("DROP TABLE replays")
        db.execute("PRAGMA user_version = 1")
    parts.store.close()


def shape(path: Path) -> tuple[Any, ...]:
    with sqlite3.connect(path) as db:
        tables = sorted(row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))
        found = db.execute("PRAGMA user_version").fetchone(), tables, db.execute(
            "SELECT device, number, payload FROM readings ORDER BY id").fetchall()
    db.close()
    return found


def test_the_first_version_is_brought_forward_and_equals_a_new_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    version_1(old)
    rows = shape(old)[2]
    Store(str(old)).close()
    Store(str(new)).close()
    assert shape(old)[:2] == shape(new)[:2] and shape(old)[0] == (SCHEMA_VERSION,) and shape(old)[2] == rows


def test_every_step_between_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.db"
    version_1(path)
    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, **MADE_UP})
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    store = Store(str(path))
    assert store.read().execute("SELECT * FROM colours ORDER BY name").fetchall() == [("a",), ("b",)]
    assert {row[0] for row in store.read().execute("SELECT colour FROM readings")} == {"none"}
    store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.db"
    version_1(path)
    before = shape(path)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: schema.MIGRATIONS[1] + ";\nCREATE TABLE readings (id)"})
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Store(str(path))
    assert shape(path) == before


KILLER = """
import os, signal, sys
sys.path.insert(0, {root!r})
from edge_bridge import schema, store
schema.MIGRATIONS.update({made_up!r})
schema.SCHEMA_VERSION += 1
left, execute = int(sys.argv[2]), store._Connection.execute
def counted(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(*arguments)
store._Connection.execute = counted
store.Store(sys.argv[1]).close()
"""


def test_sigkill_at_every_statement_of_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tmp_path / "original"
    original.mkdir()
    version_1(original / "outbox.db")
    old = shape(original / "outbox.db")
    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, **MADE_UP})
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    outcomes = []
    for step in range(6, 20):
        directory = tmp_path / str(step)
        shutil.copytree(original, directory)
        done = subprocess.run([sys.executable, "-c", KILLER.format(root=str(ROOT), made_up=MADE_UP),
                               str(directory / "outbox.db"), str(step)], capture_output=True, timeout=60)
        assert done.returncode in (0, -9), done.stderr.decode()
        after = shape(directory / "outbox.db")
        assert after[0] in ((1,), (SCHEMA_VERSION + 1,)) and after[2] == old[2]
        assert after[1] == old[1] or after[0] != (1,)
        outcomes.append((done.returncode, after[0][0]))
        store = Store(str(directory / "outbox.db"))
        assert store.read().execute("SELECT count(*) FROM colours").fetchone() == (2,)
        store.close()
    assert (-9, 1) in outcomes and (-9, SCHEMA_VERSION + 1) in outcomes, outcomes
