"""`make provision`: the command line of provision_identity.py; ROTATE=1 and RETIRE=1 for the years after.

Without a thing or certificate of its own it makes them; what is there already is adopted after one question.
"""
import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from deploy import aws_cli, target
from deploy.device_connection import ConnectionFault
from deploy.processes import ROOT
from deploy.provision_files import FileFault
from deploy.provision_identity import Provision
from deploy.provision_stack import StackFault
from deploy.target import TargetFault
from infra.errors import SynthesisFault
from infra.settings import product_version, read

FAULTS = (FileFault, StackFault, ConnectionFault, TargetFault, aws_cli.CliFault, SynthesisFault)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make provision", description=__doc__)
    where(parser)
    parser.add_argument("--thing", default="", help="default: the deployment's first")
    parser.add_argument("--adopt", action="store_true", help="answer every question with yes")
    parser.add_argument("--yes", action="store_true", help="a first deployment does not ask before granting rights")
    parser.add_argument("--rotate", action="store_true", help="a new key and certificate in place of the present ones")
    parser.add_argument("--retire", default="", metavar="1|A|B", help="delete the certificate that is INACTIVE")
    return parser.parse_args(argv)


def where(parser: argparse.ArgumentParser) -> None:
    """The options that say which cloud and which files; verify.py has the same."""
    parser.add_argument("--target", default=target.AWS, help="aws or local")
    parser.add_argument("--certs", default="", help="default: certs, for the local cloud .cloud/certs")
    parser.add_argument("--cloud", default="", help="ready file of the local cloud; default: the one that runs")


def certs_directory(asked: argparse.Namespace) -> Path:
    """Where the files are; a local cloud's lie beside its ready file, never in certs/, which is for AWS."""
    if asked.certs:
        return Path(asked.certs)
    beside = Path(asked.cloud) if asked.cloud else target.READY_FILE
    return beside.parent / "certs" if asked.target == target.LOCAL else ROOT / "certs"


def target_of(asked: argparse.Namespace) -> target.Target:
    """The target that was asked for, with the context of CDK_CONTEXT_JSON."""
    settings = read(aws_cli.context_of([], os.environ), product_version())
    return target.of(asked.target, settings, Path(asked.cloud) if asked.cloud else None)


def asks(adopt: bool) -> Callable[[str], bool]:
    """Ask the person at the terminal; with ADOPT=1 the answer is yes, without a terminal no."""
    def ask(question: str) -> bool:
        if adopt:
            print(f"{question} yes (ADOPT=1)")
            return True
        if not sys.stdin.isatty():
            print(f"{question} no (there is no terminal to ask; ADOPT=1 says yes)")
            return False
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    return ask


def _deploy(yes: bool, command: Sequence[str]) -> int:
    return aws_cli.main([*command, *(["--yes"] if yes else [])])


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    asked = arguments(argv)
    place = target_of(asked)
    provision = Provision(place, asked.thing or place.settings.things[0], certs_directory(asked),
                          ask=asks(asked.adopt), deploy=partial(_deploy, asked.yes))
    if asked.retire:
        provision.retire(asked.retire)
    elif asked.rotate:
        provision.rotate()
    else:
        provision.provision()
    return 0


def run(work: Callable[[Sequence[str]], int], name: str) -> int:
    """Run a command; what stands in its way becomes one line and exit code 1."""
    try:
        return work(sys.argv[1:])
    except FAULTS as fault:
        print(f"{name}: {fault}", file=sys.stderr)
    except (BotoCoreError, ClientError) as fault:
        print(f"{name}: AWS says: {fault}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(run(main, "provision"))
