"""What the commands that work on a deployment share (provision, verify, shadow, user, web): the options TARGET, CERTS,
CLOUD and THING in, the target and its files out; a fault becomes one line."""
import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from deploy import aws_cli, target
from deploy.faults import Fault
from deploy.processes import ROOT, PartFailed
from infra.errors import SynthesisFault


def where(parser: argparse.ArgumentParser) -> None:
    """The options that say which cloud and which files; empty strings are what an unset make variable gives."""
    parser.add_argument("--target", default=target.AWS, help="aws or local")
    parser.add_argument("--certs", default="", help="default: certs, for the local cloud .cloud/certs")
    parser.add_argument("--cloud", default="", help="ready file of the local cloud; default: the one that runs")


def which_thing(parser: argparse.ArgumentParser) -> None:
    """The option that names a thing; see thing_of."""
    parser.add_argument("--thing", default="", help="default: the deployment's first")


def target_of(asked: argparse.Namespace) -> target.Target:
    """The target that was asked for, with the context of CDK_CONTEXT_JSON. Raises Fault."""
    settings = target.settings_of(aws_cli.context_of([], os.environ))
    return target.of(asked.target, settings, Path(asked.cloud) if asked.cloud else None)


def thing_of(asked: argparse.Namespace, place: target.Target) -> str:
    """The thing that was asked for, else the deployment's first."""
    return str(asked.thing or place.settings.things[0])


def certs_directory(asked: argparse.Namespace) -> Path:
    """Where the files are; a local cloud's lie beside its ready file, never in certs/, which is for AWS."""
    if asked.certs:
        return Path(asked.certs)
    beside = Path(asked.cloud) if asked.cloud else target.READY_FILE
    return beside.parent / "certs" if asked.target == target.LOCAL else ROOT / "certs"


def run(work: Callable[[Sequence[str]], int], name: str) -> int:
    """Run a command; what stands in its way becomes one line and exit code 1."""
    try:
        return work(sys.argv[1:])
    except (Fault, PartFailed, SynthesisFault) as fault:
        print(f"{name}: {fault}", file=sys.stderr)
    except (BotoCoreError, ClientError) as fault:
        print(f"{name}: AWS says: {fault}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1
