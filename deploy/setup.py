"""`make setup`: a fresh machine becomes .venv with every locked package, in seconds; idempotent.

Standard library only: it runs under whichever Python 3.11 or newer the Makefile found.
"""
import argparse
import hashlib
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "deploy" / "locks"


def python_of(venv: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / "bin" / "python"


def fingerprint(lock: Path) -> str:
    """What the environment depends on: this interpreter and the two locks."""
    parts = (sys.version.encode(), sys.executable.encode(), lock.read_bytes(), (LOCKS / "uv.lock").read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(step: str, *command: str) -> None:
    """Run one step; on failure say which, with the command's own words, and stop."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout.rstrip()}\nsetup: {step} failed (exit {done.returncode}). "
                 "Is the package index reachable? Then run `make setup` again.")


def create_venv(venv: Path) -> None:
    """Make the virtual environment, or say what the machine lacks."""
    try:
        import ensurepip  # noqa: F401  (Debian splits it off)
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"setup: Python {version} at {sys.executable} cannot make virtual environments; "
                 f"on Debian or Ubuntu run: apt-get install python{version}-venv")
    run("making the virtual environment", sys.executable, "-m", "venv", "--clear", str(venv))


def install(venv: Path, lock: Path) -> None:
    """Install uv from its hashed lock by pip, and everything else from its own by uv."""
    python = str(python_of(venv))
    run("installing uv", python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--require-hashes", "-r", str(LOCKS / "uv.lock"))
    run("installing the packages", str(venv / "bin" / "uv"), "pip", "sync", "--quiet", "--python", python,
        "--require-hashes", str(LOCKS / "uv.lock"), str(lock))


def main() -> int:
    """Bring .venv (or --venv) to what the lock says; prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--lock", default="base", choices=[path.stem for path in sorted(LOCKS.glob("*.lock"))])
    options = parser.parse_args()
    if sys.version_info < (3, 11):
        sys.exit(f"setup: got Python {sys.version.split()[0]}, expected 3.11 or newer; install one from python.org")
    started = time.monotonic()
    lock = LOCKS / f"{options.lock}.lock"
    stamp = options.venv / f"edgecloud-{options.lock}.stamp"
    if stamp.exists() and stamp.read_text() == fingerprint(lock):
        return 0
    wider = options.venv / "edgecloud-dev.stamp"
    if options.lock == "base" and wider.exists() and wider.read_text() == fingerprint(LOCKS / "dev.lock"):
        return 0  # the test environment holds all of the demo's
    if not python_of(options.venv).exists() or not list(options.venv.glob("edgecloud-*.stamp")):
        create_venv(options.venv)
    install(options.venv, lock)
    stamp.write_text(fingerprint(lock))
    print(f"setup: {options.venv.name} ready in {time.monotonic() - started:.0f} s ({options.lock}.lock)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
