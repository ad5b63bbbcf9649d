"""The doctor's look at this machine: the settings, and the outbox's file system, room and file; findings out.

The outbox is opened read-only, beside a running bridge too: SQLite readers of a write-ahead log hold up nobody.
"""
import difflib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from edge_bridge import volume
from edge_bridge.doctor_case import Case, Finding, fault, not_applicable, ok, shown
from edge_bridge.schema import SCHEMA_VERSION
from edge_bridge.settings import TABLE, default
from edge_bridge.store import is_damage, marker_path

MEBIBYTE = 1024 * 1024
_SALVAGE = "start the bridge anew: it sets the file aside and recovers what can be read (docs/runbook.md)"
_STEPS = 100_000  # of SQLite's virtual machine between two looks at the clock


def settings(case: Case) -> Iterator[Finding]:
    """settings; files that are missing are the matter of the checks that read them."""
    faults = [text for text in case.faults if "no file" not in text]
    names = [setting.name for setting in TABLE]
    for written in case.written:
        near = difflib.get_close_matches(written, names, 1, 0.85)
        if written not in names and near:
            faults.append(f"{written} is no setting; {near[0]} is")
    if faults:
        yield fault("settings", "; ".join(faults), "python -m edge_bridge --help explains every setting")
    else:
        yield ok("settings", f"{len(names)} settings, no fault")


def disk(case: Case) -> Iterator[Finding]:
    """volume, disk, outbox."""
    if case.settings.outbox == default("OUTBOX") and not Path(case.settings.outbox).parent.is_dir():
        for check in ("volume", "disk", "outbox"):
            yield not_applicable(check, f"no {Path(case.settings.outbox).parent} here, it is the container's: run the "
                                 "doctor there (docker compose exec bridge python -m edge_bridge doctor)")
        return
    yield _volume(case)
    yield _room(case)
    yield _outbox(case)


def _volume(case: Case) -> Finding:
    path = case.settings.outbox
    refusal, in_memory = volume.refused(path, case.mounts), volume.volatile(path, case.mounts)
    found, _, step = (refusal or in_memory or "").rpartition("; ")
    if refusal and case.settings.outbox_on_share == "allow":
        return ok("volume", f"{found}; allowed by OUTBOX_ON_SHARE")
    if refusal or in_memory:
        return fault("volume", found, step)
    directory = _nearest_directory(path)
    if not os.access(directory, os.W_OK | os.X_OK):
        return fault("volume", f"{directory} cannot be written by user {os.getuid()}",
                     f"give it to the bridge's user (chown {os.getuid()} {directory}), or set OUTBOX")
    return ok("volume", f"{shown(directory)}: a local file system that can be written")


def _nearest_directory(path: str) -> Path:
    directory = Path(path).absolute().parent
    while not directory.is_dir():
        directory = directory.parent
    return directory


def _room(case: Case) -> Finding:
    """Is there room for all that RETENTION_BYTES lets the outbox hold?"""
    path, limit_bytes = case.settings.outbox, case.settings.retention_bytes
    free_bytes = shutil.disk_usage(_nearest_directory(path)).free
    used_bytes = sum(os.path.getsize(path + tail) for tail in ("", "-wal") if os.path.exists(path + tail))
    told = f"{_mib(free_bytes)} free, {_mib(used_bytes)} used of RETENTION_BYTES={_mib(limit_bytes)}"
    if free_bytes + used_bytes < limit_bytes:
        fits = max(1, int((free_bytes + used_bytes) * 0.9) // MEBIBYTE)
        return fault("disk", f"the disk is full before the outbox is: {told}",
                     f"free space, or set RETENTION_BYTES={fits}M")
    return ok("disk", told)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MEBIBYTE:,.0f} MiB" if size_bytes >= MEBIBYTE else f"{size_bytes / 1024:,.0f} KiB"


def _outbox(case: Case) -> Finding:
    path = case.settings.outbox
    if marker_path(path).exists():
        return fault("outbox", f"{path} was found damaged", _SALVAGE)
    if not Path(path).exists():
        return not_applicable("outbox", f"no file {path} yet; the bridge makes it at its first start")
    try:
        return _quick_check(case, path)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return not_applicable("outbox", f"{_mib(os.path.getsize(path))} were not read to the end in "
                                  f"{case.timeout_s:g} s, and no damage met; doctor --timeout 600 reads on")
        if is_damage(error):
            return fault("outbox", f"{path} is damaged: {error}", _SALVAGE)
        return fault("outbox", f"{path} cannot be read: {error}", "run the doctor as the bridge's user, on its machine")


def _quick_check(case: Case, path: str) -> Finding:
    # With no log beside it nobody writes; and a reader would leave an empty log, which may not be the bridge's user's.
    how = "mode=ro" if os.path.exists(path + "-wal") else "mode=ro&immutable=1"
    db = sqlite3.connect(f"file:{quote(os.path.abspath(path))}?{how}", uri=True, timeout=2.0, isolation_level=None)
    try:
        until_s = time.monotonic() + case.left_s() - 0.5
        db.set_progress_handler(lambda: time.monotonic() > until_s, _STEPS)
        schema = db.execute("PRAGMA user_version").fetchone()[0]
        broken = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    finally:
        db.close()
    if broken:
        return fault("outbox", f"{path} is damaged: {'; '.join(broken)[:200]}", _SALVAGE)
    if schema > SCHEMA_VERSION:
        return fault("outbox", f"{path} has schema {schema}, this version knows {SCHEMA_VERSION}",
                     "start the newer version of the bridge that wrote it")
    aside = sorted(found.name for found in Path(path).parent.glob(Path(path).name + ".corrupt-*")
                   if not found.name.endswith(("-wal", "-shm")))
    return ok("outbox", f"whole, schema {schema}, {_mib(os.path.getsize(path))}"
              + (f"; set aside earlier: {', '.join(aside)}" if aside else ""))
