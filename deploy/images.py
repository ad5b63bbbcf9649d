"""The container images: their contents in, tags that are hashes of them out; built, loaded into a cluster, applied.

`python -m deploy.images build [NAME …] | k3d | minikube | secret`. A tag that exists is not built again, and a cluster
that runs it is not touched: the same tag is the same content.
"""
import argparse
import fnmatch
import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy import cluster
from deploy.faults import Fault
from deploy.processes import ROOT
from infra.settings import product_version

DOCKERFILES = {"edgecloud-bridge": "edge_bridge/Dockerfile", "edgecloud-camera": "device/Dockerfile",
               "edgecloud-local-cloud": "local_cloud/Dockerfile"}
TAG_DIGITS = 12
Execute = Callable[..., str]


class ImageFault(Fault):
    """What is missing or failed, and the next step."""


def context(dockerfile: str, root: Path = ROOT) -> list[str]:
    """The files that the build sees, by its .dockerignore: `**`, then `!path` lines, then `**/pattern` lines.

    Raises ImageFault for a line of another form: what Docker then makes of it, this would not know.
    """
    lines = (root / f"{dockerfile}.dockerignore").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    allowed = [line[1:].rstrip("/") for line in lines if line.startswith("!")]
    refused = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    if lines[:1] != ["**"] or lines != ["**", *(f"!{path}" for path in allowed), *(f"**/{name}" for name in refused)] \
            or any("/" in name for name in refused) or any("*" in path for path in allowed):
        raise ImageFault(f"{dockerfile}.dockerignore: expected `**`, then `!path` lines, then `**/pattern` lines")
    found = [path for start in allowed for path in _files(root / start)]
    names = (path.relative_to(root) for path in found)
    return sorted({name.as_posix() for name in names
                   if not any(fnmatch.fnmatchcase(part, pattern) for part in name.parts for pattern in refused)})


def _files(start: Path) -> list[Path]:
    if start.is_file():
        return [start]
    return [path for path in start.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def tag(name: str, root: Path = ROOT) -> str:
    """Hash of all that goes into an image: its Dockerfile, the version, every file of its context."""
    dockerfile = DOCKERFILES[name]
    digest = hashlib.sha256(product_version().encode() + (root / dockerfile).read_bytes())
    for path in context(dockerfile, root):
        digest.update(b"\0" + path.encode() + b"\0" + hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()[:TAG_DIGITS]


def execute(command: list[str], given: str | None = None, quiet: bool = False) -> str:
    """Run a command and return what it printed; quiet: "" when it fails. Raises ImageFault with its own words."""
    if not quiet:
        print("+ " + " ".join(command), flush=True)
    try:
        done = subprocess.run(command, input=given, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE if quiet else None)
    except FileNotFoundError:
        raise ImageFault(f"{command[0]} is not installed; docs/kubernetes.md says what is needed") from None
    if done.returncode and not quiet:
        raise ImageFault(f"{' '.join(command[:3])} … failed with exit code {done.returncode}; its words are above")
    return "" if done.returncode else done.stdout


def engine() -> str:
    """The program that builds: $CONTAINER_ENGINE, else docker."""
    return os.environ.get("CONTAINER_ENGINE", "docker")


def build(names: list[str], run: Execute = execute) -> dict[str, str]:
    """Build what does not exist yet; {name: tag}."""
    tags = {name: tag(name) for name in names}
    for name, its_tag in tags.items():
        if run([engine(), "image", "inspect", "--format", "{{.Id}}", f"{name}:{its_tag}"], quiet=True):
            print(f"{name}:{its_tag} is there")
            continue
        run([engine(), "build", "-f", DOCKERFILES[name], "--build-arg", f"VERSION={product_version()}",
             "-t", f"{name}:{its_tag}", "-t", f"{name}:dev", "."])
    return tags


def options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    building = actions.add_parser("build", help="build the images")
    building.add_argument("names", nargs="*", metavar="NAME", help="bridge, camera, local-cloud; default: all")
    for kind in cluster.KINDS:
        one = actions.add_parser(kind, help=f"build, load into {kind} and apply")
        one.add_argument("--cluster", default="")
        one.add_argument("--target", choices=("local", "aws"), default="local", help="where the cloud is")
        one.add_argument("--mosquitto", action="store_true", help="the LAN broker in the cluster, too")
    secret = actions.add_parser("secret", help="certificates and endpoint into the cluster")
    secret.add_argument("--certs", type=Path, default=ROOT / "certs")
    secret.add_argument("--context", default="", help="kubectl's context; default: the current one")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, run: Execute = execute) -> int:
    """Do what is asked; 1 with one line when it cannot be done."""
    chosen = options(arguments)
    try:
        if chosen.action == "build":
            names = [f"edgecloud-{name.removeprefix('edgecloud-')}" for name in chosen.names] or list(DOCKERFILES)
            unknown = sorted(set(names) - set(DOCKERFILES))
            if unknown:
                raise ImageFault(f"{', '.join(unknown)}: no such image; expected {', '.join(DOCKERFILES)}")
            for name, its_tag in build(names, run).items():
                print(f"{name}:{its_tag}")
        elif chosen.action == "secret":
            cluster.put_identity(chosen.certs, chosen.context, run)
        else:
            kind = cluster.KINDS[chosen.action](chosen.cluster)
            names = [name for name in DOCKERFILES if chosen.target == "local" or name != "edgecloud-local-cloud"]
            cluster.apply(kind, build(names, run), chosen.target, chosen.mosquitto, secrets.token_urlsafe(24), run)
    except Fault as fault:
        print(f"images: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
