"""Docker or Podman, whichever runs here: builds the images, runs containers; proof.py uses it.

Podman as root with runc needs neither a daemon, cgroups of its own nor a network of its own, so it runs inside most
sandboxes. Where the base image cannot be pulled, debootstrap makes one of the same Debian, with its Python.
"""
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STORE = Path(tempfile.gettempdir()) / "edgecloud-containers"  # not in here: tests walk through it
PYTHON_IMAGE = "docker.io/library/python:3.13-slim"
DEBIAN = "trixie"  # what python:3.13-slim is made of; its own Python is 3.13, too
OWN_BASE = "localhost/edgecloud-python:debian"
MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILD_S, PULL_S, COMMAND_S = 1500, 120, 120


class EngineFailed(Exception):
    """A command of the engine failed; carries its own words."""


@dataclass(frozen=True)
class Engine:
    """program: with its global options; building, running: options of those commands; network: None is the host's."""

    program: tuple[str, ...]
    building: tuple[str, ...]
    running: tuple[str, ...]
    network: str | None

    def call(self, *arguments: str, within_s: float = COMMAND_S, check: bool = True) -> str:
        """Run a command of the engine; what it printed. Raises EngineFailed."""
        done = subprocess.run([*self.program, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=within_s)
        if done.returncode and check:
            raise EngineFailed(f"{' '.join(arguments[:3])} … ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def build(self, dockerfile: str, name: str, base: str) -> None:
        """Build an image of this repository."""
        ignore = () if self.is_docker else ("--ignorefile", f"{dockerfile}.dockerignore")
        self.call("build", *self.building, *ignore, "--build-arg", f"PYTHON_IMAGE={base}", "--build-arg",
                  "VERSION=0.0.0-proof", "-f", dockerfile, "-t", name, ".", within_s=BUILD_S)

    @property
    def is_docker(self) -> bool:
        return Path(self.program[0]).name == "docker"

    def run(self, image: str, *command: str, entrypoint: str = "") -> str:
        """Run to the end; what it printed."""
        changed = ("--entrypoint", entrypoint) if entrypoint else ()
        return self.call("run", "--rm", *self.running, *changed, image, *command)

    def start(self, name: str, image: str, *command: str, environment: Mapping[str, str] | None = None,
              volumes: Mapping[str, str] | None = None, ports: tuple[int, ...] = (), entrypoint: str = "") -> None:
        """Start in the background, as compose.yaml does: read-only, without capabilities."""
        options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp"]
        for key, value in (environment or {}).items():
            options += ["-e", f"{key}={value}"]
        for volume, place in (volumes or {}).items():
            options += ["-v", f"{volume}:{place}"]
        if self.network:
            options += ["--network", self.network]
            for port in ports:
                options += ["-p", f"127.0.0.1:{port}:{port}"]
        if entrypoint:
            options += ["--entrypoint", entrypoint]
        self.call("run", "-d", "--name", name, *self.running, *options, image, *command)

    def address(self, name: str) -> str:
        """What another container calls this one."""
        return name if self.network else "localhost"

    def size_bytes(self, image: str) -> int:
        """All layers, as they lie on the disk."""
        return int(self.call("image", "inspect", "--format", "{{.Size}}", image))

    def base(self) -> str:
        """The Python image: pulled, else made of Debian's packages. Raises EngineFailed when neither can be had."""
        try:
            self.call("pull", "-q", PYTHON_IMAGE, within_s=PULL_S)
            return PYTHON_IMAGE
        except (EngineFailed, subprocess.TimeoutExpired) as refusal:
            if shutil.which("debootstrap") is None:
                raise EngineFailed(f"{PYTHON_IMAGE} cannot be pulled ({refusal}), and debootstrap is not installed to "
                                   "make one") from None
        if not self.call("images", "-q", OWN_BASE).strip():
            archive = debian(STORE / f"{DEBIAN}.tar")
            self.call("import", "--change", f"ENV PATH={PATH}", str(archive), OWN_BASE, within_s=300)
        return OWN_BASE


def debian(archive: Path) -> Path:
    """A Debian with Python and pip where the official image has them, as an archive; kept for the next time."""
    if archive.exists():
        return archive
    rootfs = archive.with_suffix(".rootfs")
    shutil.rmtree(rootfs, ignore_errors=True)
    done = subprocess.run(["debootstrap", "--variant=minbase",
                           "--include=python3,python3-pip,python3-venv,ca-certificates", DEBIAN, str(rootfs), MIRROR],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=BUILD_S)
    if done.returncode:
        raise EngineFailed(f"debootstrap failed:\n{done.stdout[-2000:]}")
    for name in ("python", "python3"):
        (rootfs / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    for mark in rootfs.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        mark.unlink()
    for known in rootfs.glob("usr/lib/python3/dist-packages/*.dist-info"):
        shutil.rmtree(known)  # pip would try to remove what Debian installed before it puts its own beside it
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as made:
        made.add(rootfs, arcname=".")
    partial.rename(archive)
    shutil.rmtree(rootfs)
    return archive


def find() -> Engine | None:
    """The engine of this machine; None when there is none that works."""
    if _answers("docker", "info"):
        return Engine(("docker",), (), (), "edgecloud-proof")
    podman = shutil.which("podman")
    if podman and sys.platform.startswith("linux") and shutil.which("runc"):
        STORE.mkdir(parents=True, exist_ok=True)
        policy = STORE / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        program = (podman, "--root", str(STORE / "storage"), "--runroot", str(STORE / "run"),
                   "--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime", "runc")
        building = ("--isolation", "chroot", "--format", "docker", "--signature-policy", str(policy),
                    "-v", "/etc/ssl/certs:/etc/ssl/certs:ro")
        running = ("--network", "host", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit",
                   "nproc=1024:1024")
        return Engine(program, building, running, None)
    return None


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
