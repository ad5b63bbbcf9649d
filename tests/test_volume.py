"""The outbox's file system: which are refused, how the mounts of Linux and macOS are read; that the bridge minds."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_bridge import volume
from edge_bridge.volume import Mount
from tests.bridge_rig import ROOT

LINUX = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:50 / /data rw,nosuid - virtiofs mac rw
41 27 0:51 / /mnt/with\\040space rw - nfs4 server:/export rw
42 27 0:52 / /srv rw,relatime shared:5 master:1 - cifs //nas/share rw
43 42 254:1 / /srv/local rw - ext4 /dev/vdb rw
44 27 0:53 / /bind rw - fuse.grpcfuse grpcfuse rw
45 27 0:54 / /host rw - fakeowner /run/host_mark/Users rw
46 27 0:55 / /wsl rw - 9p C:\\134 rw
47 27 0:56 / /run rw - tmpfs tmpfs rw
48 27 254:2 / /over rw - ext4 /dev/vdc rw
49 48 0:57 / /over rw - nfs nas:/hidden rw
"""
MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect, root data)
//anna@nas/Site (data) on /Volumes/Site (data) (smbfs, nodev, nosuid, mounted by anna)
nas:/export on /Volumes/export (nfs, nodev, nosuid, mounted by anna)
me@host:/x on /Volumes/x (macfuse, nodev, nosuid, synchronous, mounted by anna)
"""


@pytest.mark.parametrize(("path", "kind"), [
    ("/data/outbox.db", "virtiofs"), ("/data", "virtiofs"), ("/mnt/with space/deep/outbox.db", "NFS"),
    ("/srv/outbox.db", "SMB"), ("/bind/outbox.db", "FUSE"), ("/host/o.db", "Docker Desktop bind mount"),
    ("/wsl/o.db", "9p"), ("/over/o.db", "NFS")])
def test_network_and_shared_file_systems_are_refused_on_linux(path: str, kind: str) -> None:
    line = volume.refused(path, volume.parse_mountinfo(LINUX))
    assert line and "\n" not in line
    assert line.startswith(path) and kind in line and "SQLite corrupts" in line and "named volume" in line


@pytest.mark.parametrize("path", ["/outbox.db", "/srv/local/outbox.db", "/datastore/outbox.db", "/run/outbox.db",
                                  "/not/there/yet/outbox.db"])
def test_local_disks_are_taken(path: str) -> None:
    assert volume.refused(path, volume.parse_mountinfo(LINUX)) is None


@pytest.mark.parametrize(("path", "kind"), [("/Volumes/Site (data)/o.db", "SMB"), ("/Volumes/export/o.db", "NFS"),
                                            ("/Volumes/x/o.db", "FUSE"), ("/Users/anna/o.db", None)])
def test_the_mounts_of_macos(path: str, kind: str | None) -> None:
    line = volume.refused(path, volume.parse_mount_output(MACOS))
    assert (kind in line) if kind and line else line is kind


def test_memory_is_told_apart() -> None:
    mounts = volume.parse_mountinfo(LINUX)
    line = volume.volatile("/run/outbox.db", mounts)
    assert line and "tmpfs" in line and "lost with the power" in line
    assert volume.volatile("/outbox.db", mounts) is None


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    share, link = tmp_path / "share", tmp_path / "link"
    share.mkdir()
    link.symlink_to(share)
    mounts = [Mount("/", "ext4", "/dev/vda"), Mount(os.path.realpath(share), "nfs4", "nas:/x")]
    assert volume.refused(str(link / "outbox.db"), mounts)
    assert volume.refused(str(tmp_path / "outbox.db"), mounts) is None


def test_the_mounts_of_this_machine_are_read(tmp_path: Path) -> None:
    mounts = volume.read_mounts()
    assert "/" in {mount.point for mount in mounts}
    assert all(mount.kind and mount.point.startswith("/") for mount in mounts)
    assert volume._mount_of(str(tmp_path), None) in mounts


def test_mounts_that_cannot_be_read_are_said_and_refuse_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(volume, "MOUNTINFO", tmp_path / "none")
    monkeypatch.setattr(volume, "MOUNT_COMMAND", str(tmp_path / "none"))
    assert volume.refused(str(tmp_path)) is None
    assert "is not checked" in caplog.text


# The bridge as its own process, its view of the mounts taken from a file: no test can mount a share.
STARTER = """
import sys
from pathlib import Path
from edge_bridge import __main__ as bridge, volume
volume.read_mounts = lambda: volume.parse_mountinfo(Path(sys.argv[1]).read_text())
sys.exit(bridge.main([]))
"""


@pytest.mark.parametrize("allowed", [False, True])
def test_the_bridge_does_not_start_on_a_share_unless_told_to(tmp_path: Path, allowed: bool) -> None:
    for name in ("AmazonRootCA1.pem", "device.crt", "device.key"):
        (tmp_path / name).write_text("no certificate: the start ends here at the latest")
    table = tmp_path / "mountinfo"
    table.write_text("1 1 0:1 / / rw - ext4 /dev/vda rw\n"
                     f"2 1 0:2 / {os.path.realpath(tmp_path)} rw - virtiofs mac rw\n")
    environment = {**os.environ, "IOT_ENDPOINT": "localhost", "CERTS": str(tmp_path), "METRICS_PORT": "",
                   "OUTBOX": str(tmp_path / "outbox.db"), **({"OUTBOX_ON_SHARE": "allow"} if allowed else {})}
    done = subprocess.run([sys.executable, "-c", STARTER, str(table)], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert ("virtiofs" in done.stderr) is not allowed
    assert ("no TLS identity" in done.stderr) is allowed
    assert not (tmp_path / "outbox.db").exists() or allowed
