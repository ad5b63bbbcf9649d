"""cdk.out for the demo: app.py is run only when what it reads has changed since the last time."""
import hashlib
import subprocess
import sys
from pathlib import Path

from deploy.processes import ROOT, PartFailed, clean_environment

SOURCES = ("app.py", "cdk.json", "infra", "contract", "lambdas", "pyproject.toml", "deploy/locks/base.lock")


def fingerprint(context_json: str) -> str:
    """Hash of every file that goes into the templates, and of the context."""
    digest = hashlib.sha256(context_json.encode())
    for name in SOURCES:
        start = ROOT / name
        files = [start] if start.is_file() else sorted(p for p in start.rglob("*") if p.suffix in (".py", ".json"))
        for path in files:
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def synthesize(out: Path, context_json: str = "{}") -> bool:
    """Bring `out` up to date; True when app.py was run. Raises PartFailed with app.py's own words."""
    stamp, current = out / "edgecloud.fingerprint", fingerprint(context_json)
    if stamp.exists() and stamp.read_text() == current:
        return False
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**clean_environment(), "CDK_OUTDIR": str(out), "CDK_CONTEXT_JSON": context_json})
    if done.returncode:
        raise PartFailed(f"the templates could not be synthesized:\n{done.stdout.rstrip()}")
    stamp.write_text(current)
    return True
