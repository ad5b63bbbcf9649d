"""Jars from Maven Central for the engines that tests run: Maven copies them into .demo/ once, as a pom says."""
import re
import subprocess
from pathlib import Path

from deploy.processes import ROOT, PartFailed


def jars(pom: Path, artifact: str) -> Path:
    """The directory with the jars of this artifact of the pom, copied at first use. PartFailed: Maven's own words."""
    match = re.search(rf"{re.escape(artifact)}</artifactId>\s*<version>([\d.]+)<", pom.read_text())
    assert match, f"{pom} names no version of {artifact}"
    directory = ROOT / ".demo" / f"{artifact}-{match[1]}"
    if not (directory / "complete").exists():
        copied = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={directory}",
             "-DincludeScope=runtime"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        if copied.returncode:
            raise PartFailed(f"Maven could not copy the jars of {artifact}:\n{copied.stdout[-2000:]}")
        (directory / "complete").touch()
    return directory
