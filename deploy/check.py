"""`make check`: style, types, imports, templates, cdk-nag, wheels; `make test` adds the tests. Writes nothing here."""
import itertools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from deploy.processes import ROOT
from deploy.synth import synthesize

BIN = Path(sys.executable).parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
SOURCE_ONLY = {"apple": "awslambdaric"}  # its wheels are Linux only; elsewhere our stand-in replaces its native module


def run(title: str, *command: str) -> bool:
    """Run one check; print its words only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"check: {title}: {'ok' if done.returncode == 0 else 'FAILED'}")
    if done.returncode:
        print(done.stdout)
    return done.returncode == 0


def templates() -> bool:
    """cfn-lint over every synthesized template: no error and no warning."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "cdk.out"
        synthesize(out)
        found = sorted(str(path) for path in out.glob("*.template.json"))
        return run(f"cfn-lint ({len(found)} templates)", str(BIN / "cfn-lint"), "--non-zero-exit-code", "warning",
                   "--regions", "eu-north-1", "--", *found)


def wheels(platform: str, python: str) -> bool:
    """The base lock installs from wheels alone there (cryptography once had none for Intel Macs)."""
    build = [word for part, name in SOURCE_ONLY.items() if part in platform for word in ("--no-binary", name)]
    return run(f"wheels for {platform}, Python {python}", str(BIN / "uv"), "pip", "compile", "--quiet", "--no-header",
               "--only-binary", ":all:", *build, "--python-platform", platform, "--python-version", python,
               "--output-file", "/dev/null", "deploy/locks/base.lock")


def wheel_checks(pool: Executor) -> list[Future[bool]]:
    """Every platform that the project promises; beside the other checks, since each mostly waits for the index."""
    return [pool.submit(wheels, platform, python) for platform, python in itertools.product(PLATFORMS, PYTHONS)]


def tests() -> bool:
    """The whole test-suite, its words as they come; one worker more than cores, since many tests wait for a process.

    What fails beside other tests (they share this machine's ports) is run once more, alone; failing again fails.
    """
    workers = str(min(6, (os.cpu_count() or 1) + 1))
    pytest = [sys.executable, "-m", "pytest", "-q"]
    if subprocess.run([*pytest, "-n", workers, "--dist", "loadfile"], cwd=ROOT).returncode == 0:
        return True
    print("check: what failed is run once more, alone", flush=True)
    return subprocess.run([*pytest, "--last-failed", "--last-failed-no-failures", "none"], cwd=ROOT).returncode == 0


def main() -> int:
    """Exit 0 when every check passes; with --tests the test-suite is one of them, with --tests-only all of them."""
    if "--tests-only" in sys.argv[1:]:
        return 0 if tests() else 1
    with ThreadPoolExecutor(8) as pool:
        waiting = wheel_checks(pool)
        results = [
            run("ruff", str(BIN / "ruff"), "check", "."),
            run("mypy", sys.executable, "-m", "mypy"),
            run("imports", sys.executable, "-m", "pytest", "-q", "tests/test_architecture.py"),
            templates(),
            run("cdk-nag", sys.executable, "-m", "deploy.nag"),
        ]
        if "--tests" in sys.argv[1:] and all(results):
            results.append(tests())
        results += [future.result() for future in waiting]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
