"""`make lock`: pyproject.toml's dependency groups become deploy/locks/*.lock, exact, hashed, for every platform."""
import subprocess
import sys
from pathlib import Path

from deploy.processes import ROOT

LOCKS = ROOT / "deploy" / "locks"
SETS = {"uv": ("setup",), "base": ("cloud", "bridge"), "bridge": ("bridge", "fast"), "camera": ("camera",),
        "dev": ("cloud", "bridge", "fast", "camera", "dev")}
COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
           "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")


def main() -> int:
    """Write every lock; `--upgrade` takes newer versions where the ranges allow them."""
    uv = str(Path(sys.executable).with_name("uv"))
    for name, groups in SETS.items():
        chosen = [word for group in groups for word in ("--group", group)]
        target = LOCKS / f"{name}.lock"
        subprocess.run([uv, *COMPILE, *sys.argv[1:], *chosen, "--output-file", str(target)], cwd=ROOT, check=True)
        print(f"{target.relative_to(ROOT)}: {target.read_text().count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
