"""Packs contract/, device/ and paho-mqtt 1.6.1 into dist/edgecloud-pi.pyz: one file for the Pi, no pip there.

`python -m deploy.pi_bundle [FILE]`, which `make pi` calls. The same sources give the same bytes: fixed order, times
and modes, and no compression, whose output differs between zlib versions.
"""
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from deploy.faults import Fault
from deploy.processes import ROOT
from infra.settings import product_version

BUNDLE = ROOT / "dist" / "edgecloud-pi.pyz"
CACHE = ROOT / "dist" / "sdists"
# The last paho-mqtt that runs on Python 3.5; published as a source archive only.
PAHO = "paho-mqtt==1.6.1"
PAHO_FILE = "paho-mqtt-1.6.1.tar.gz"
PAHO_SHA256 = "2a8291c81623aec00372b5a85558a372c747cbca8e9934dfe218638b8eefc26f"
NOT_FOR_THE_PI = {"camera.py"}
_LICENCES = ("LICENSE.txt", "edl-v10", "epl-v20")
_MAIN = "import sys\n\nfrom device.publisher import main\n\nsys.exit(main())\n"


class BundleError(Fault):
    """The bundle cannot be made: what, and the next step."""


def _is_paho(path: Path) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == PAHO_SHA256


def paho_sdist(cache: Path = CACHE) -> Path:
    """Path of paho-mqtt's source archive: fetched by pip, checked by its hash, kept in `cache`."""
    archive = cache / PAHO_FILE
    if _is_paho(archive):
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{PAHO} --hash=sha256:{PAHO_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-binary", ":all:", "--require-hashes", "--dest", scratch, "--requirement", str(wanted)]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not _is_paho(Path(scratch, PAHO_FILE)):
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BundleError(f"cannot fetch {PAHO}: {reason}; check the network (and that this Python has pip), or "
                              f"put {PAHO_FILE} into {cache}")
        archive.write_bytes(Path(scratch, PAHO_FILE).read_bytes())
    return archive


def _from_sdist(archive: Path) -> dict[str, bytes]:
    """paho's package, and its licences, which have to travel with it."""
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = member.name.partition("/")[2]
            data = tar.extractfile(member) if member.isfile() else None
            if data is None:
                continue
            if name.startswith("src/paho/") and name.endswith(".py"):
                files[name.removeprefix("src/")] = data.read()
            elif name in _LICENCES:
                files[f"paho/{name}"] = data.read()
    return files


def contents(archive: Path) -> dict[str, bytes]:
    """Everything in the bundle: {name in the zip: bytes}."""
    files = {"__main__.py": _MAIN.encode(), "device/VERSION": f"{product_version()}\n".encode()}
    for package in ("contract", "device"):
        for source in sorted((ROOT / package).glob("*.py")):
            if source.name not in NOT_FOR_THE_PI:
                files[f"{package}/{source.name}"] = source.read_bytes()
    return files | _from_sdist(archive)


def build(target: Path = BUNDLE, cache: Path = CACHE) -> Path:
    """Write the bundle and return its path."""
    files = contents(paho_sdist(cache))
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as bundle:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                bundle.writestr(entry, files[name])
    target.chmod(0o755)
    return target


def main() -> int:
    """Build, say where it is and how to start it."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLE
    try:
        build(target)
    except BundleError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{target} ({target.stat().st_size // 1000} kB): copy it to the Pi, there run\n"
          f"  python3 {target.name} --broker ADDRESS-OF-THIS-MACHINE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
