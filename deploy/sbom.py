"""`make sbom`: what is in each image, as CycloneDX 1.6, from the locks that the images are built from, to dist/.

The Debian packages of the base image are not in it: docs/compose.md says how to list those.
"""
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

from deploy.image_lock import runtime_lock
from deploy.processes import ROOT
from infra.settings import product_version

LOCKS = ROOT / "deploy" / "locks"
_LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*(.*?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(lock: str) -> list[dict[str, Any]]:
    """A component for each package of a lock; where its line has a condition, with that; hashes: of its archives."""
    found: list[dict[str, Any]] = []
    for line in lock.splitlines():
        package = _LINE.match(line)
        if package:
            name, number, condition = package.groups()
            purl = f"pkg:pypi/{name}@{number}"
            found.append({"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl,
                          "properties": [{"name": "edgecloud:condition", "value": condition}] if condition else [],
                          "externalReferences": []})
        elif found:
            found[-1]["externalReferences"] += [
                {"type": "distribution", "url": f"{found[-1]['purl']}#sha256={digest}",
                 "hashes": [{"alg": "SHA-256", "content": digest}]} for digest in _HASH.findall(line)]
    return found


def document(image: str, lock: str) -> dict[str, Any]:
    """The bill of materials of one image; the same lock and version give the same document."""
    parts = components(lock)
    version = product_version()
    purl = f"pkg:oci/{image}@{version}"
    serial = uuid.uuid5(uuid.NAMESPACE_URL, purl + json.dumps(parts, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1,
            "metadata": {"component": {"type": "container", "bom-ref": purl, "name": image, "version": version}},
            "components": parts,
            "dependencies": [{"ref": purl, "dependsOn": [part["bom-ref"] for part in parts]}]}


def locks() -> dict[str, str]:
    """{image: the lock that it installs}."""
    base = (LOCKS / "base.lock").read_text(encoding="utf-8")
    return {"edgecloud-bridge": (LOCKS / "bridge.lock").read_text(encoding="utf-8"),
            "edgecloud-camera": (LOCKS / "camera.lock").read_text(encoding="utf-8"),
            "edgecloud-local-cloud": runtime_lock(base, (ROOT / "pyproject.toml").read_text(encoding="utf-8"))}


def main(out: Path = ROOT / "dist") -> int:
    """Write every document."""
    out.mkdir(exist_ok=True)
    for image, lock in locks().items():
        path = out / f"{image}.cdx.json"
        path.write_text(json.dumps(document(image, lock), indent=1) + "\n", encoding="utf-8")
        print(f"{path}: {len(components(lock))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
