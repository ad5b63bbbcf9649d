"""Where the outbox lies: the mounts of this machine in, a refusal out, for __main__.py before store.py opens the file.

SQLite needs locks and flushes that hold. On a network share, or on a folder that a virtual machine shares with its host
(what Docker Desktop's bind mounts are), they do not, and the file is damaged sooner or later.
"""
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

MOUNTINFO = Path("/proc/self/mountinfo")
MOUNT_COMMAND = "/sbin/mount"
COMMAND_TIMEOUT_S = 10
# What the kernel calls them: Linux in mountinfo, macOS in the output of mount(8).
SHARED = {
    "nfs": "NFS", "nfs4": "NFS", "cifs": "SMB", "smb3": "SMB", "smbfs": "SMB", "afpfs": "AFP", "webdav": "WebDAV",
    "davfs": "WebDAV", "9p": "9p", "drvfs": "9p", "virtiofs": "virtiofs", "vboxsf": "VirtualBox shared folder",
    "vmhgfs": "VMware shared folder", "prl_fs": "Parallels shared folder", "fakeowner": "Docker Desktop bind mount",
    "ceph": "CephFS", "lustre": "Lustre", "gpfs": "GPFS", "beegfs": "BeeGFS", "afs": "AFS", "coda": "Coda",
    "ncpfs": "NCP", "macfuse": "FUSE", "osxfuse": "FUSE", "fusefs": "FUSE", "autofs": "automounter, not mounted yet",
}
IN_MEMORY = ("tmpfs", "ramfs")


class Mount(NamedTuple):
    """One mounted file system: where, its kernel type, what is mounted there."""

    point: str
    kind: str
    source: str


def refused(path: str, mounts: Sequence[Mount] | None = None) -> str | None:
    """None when an outbox may lie at this path; else one line: what is wrong, why, the next step.

    mounts: default, those of this machine. What cannot be told is not refused, and logged.
    """
    mount = _mount_of(path, mounts)
    name = _shared_name(mount.kind) if mount else None
    if mount is None or name is None:
        return None
    return (f"{path} lies on {mount.point} ({mount.kind}: {name}, {mount.source}): SQLite corrupts on network and "
            "shared file systems; put the outbox on a local disk or in a named volume (OUTBOX), or, if you are sure "
            "that its locks and flushes hold, set OUTBOX_ON_SHARE=allow")


def volatile(path: str, mounts: Sequence[Mount] | None = None) -> str | None:
    """None when what is written here outlives a power cut; else one line about the file system in memory."""
    mount = _mount_of(path, mounts)
    if mount is None or mount.kind not in IN_MEMORY:
        return None
    return (f"{path} lies on {mount.point} ({mount.kind}), that is in memory: what it holds is lost with the power; "
            "put the outbox on a disk (OUTBOX)")


def _shared_name(kind: str) -> str | None:
    return "FUSE" if kind.startswith("fuse") else SHARED.get(kind)


def _mount_of(path: str, mounts: Sequence[Mount] | None) -> Mount | None:
    """The mount that holds the path (or what there is of it); of two at one place the later, which hides the other."""
    real = os.path.realpath(path)
    try:
        known = read_mounts() if mounts is None else mounts
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the file system of %s is not checked: the mounts cannot be read (%s)", path, error)
        return None
    holding = [mount for mount in known if (real + "/").startswith(mount.point.rstrip("/") + "/")]
    return max(enumerate(holding), key=lambda item: (len(item[1].point.rstrip("/")), item[0]))[1] if holding else None


def read_mounts() -> list[Mount]:
    """Every mount that this process sees. Raises OSError or SubprocessError when the system does not tell."""
    if sys.platform.startswith("linux"):
        return parse_mountinfo(MOUNTINFO.read_text(errors="surrogateescape"))
    done = subprocess.run([MOUNT_COMMAND], capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S)
    return parse_mount_output(done.stdout)


def parse_mountinfo(text: str) -> list[Mount]:
    """Linux, proc(5): `id parent major:minor root point options [tags …] - kind source options`."""
    mounts = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        if dash:
            kind, source = after.split(" ")[:2]
            mounts.append(Mount(_unescaped(before.split(" ")[4]), kind, _unescaped(source)))
    return mounts


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def parse_mount_output(text: str) -> list[Mount]:
    """macOS, mount(8): `source on point (kind, flag, …)`."""
    found = (re.fullmatch(r"(.*?) on (/.*) \(([^,()]+)[^()]*\)", line) for line in text.splitlines())
    return [Mount(line[2], line[3].strip(), line[1]) for line in found if line]
