"""`make provision`: the command line of provision_identity.py; ROTATE=1 and RETIRE=1 for the years after.

Without a thing or certificate of its own it makes them; what is there already is adopted after one question.
"""
import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from deploy import aws_cli, command
from deploy.provision_identity import Provision


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make provision", description=__doc__)
    command.where(parser)
    command.which_thing(parser)
    parser.add_argument("--adopt", action="store_true", help="answer every question with yes")
    parser.add_argument("--yes", action="store_true", help="a first deployment does not ask before granting rights")
    parser.add_argument("--rotate", action="store_true", help="a new key and certificate in place of the present ones")
    parser.add_argument("--retire", default="", metavar="1|A|B", help="delete the certificate that is INACTIVE")
    return parser.parse_args(argv)


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


def _deploy(yes: bool, words: Sequence[str]) -> int:
    return aws_cli.main([*words, *(["--yes"] if yes else [])])


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    asked = arguments(argv)
    place = command.target_of(asked)
    provision = Provision(place, command.thing_of(asked, place), command.certs_directory(asked),
                          ask=asks(asked.adopt), deploy=partial(_deploy, asked.yes))
    if asked.retire:
        provision.retire(asked.retire)
    elif asked.rotate:
        provision.rotate()
    else:
        provision.provision()
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, "provision"))
