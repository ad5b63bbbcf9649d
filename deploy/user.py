"""`make user EMAIL=…`: a person who may use the HTTP API; `make token EMAIL=…`: an access token for the shell.

Both work on the user pool of a deployment, in AWS or in a local cloud, with the rights of who runs them (users.py). A
password goes to the terminal once or comes from it, and is never written down.
"""
import argparse
import getpass
import shlex
import sys
from collections.abc import Sequence

from deploy import command
from deploy.target import AWS, TargetFault
from deploy.users import new_password, users_of


def ask_secret(question: str) -> str:
    """From the terminal, unseen; a line of standard input where that is none."""
    if sys.stdin.isatty():
        return getpass.getpass(question)
    return sys.stdin.readline().rstrip("\n")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make user", description=__doc__)
    parser.add_argument("verb", choices=("create", "token"))
    command.where(parser)
    parser.add_argument("--email", default="")
    parser.add_argument("--ask", action="store_true", help="ask for the password instead of making a temporary one")
    parser.add_argument("--reset", action="store_true", help="a new temporary password for a user who is there")
    return parser.parse_args(argv)


def options_of(asked: argparse.Namespace) -> str:
    """What to give the next make command so that it works in the same place."""
    words = [f"TARGET={asked.target}"] if asked.target != AWS else []
    return shlex.join([*words, f"CLOUD={asked.cloud}"] if asked.cloud else words)


def main(argv: Sequence[str]) -> int:
    """Run it; the exit code."""
    asked = arguments(argv)
    if "@" not in asked.email.strip("@"):
        raise TargetFault(f"EMAIL is {asked.email!r}; expected an address: make {asked.verb.replace('create', 'user')} "
                          + " ".join(filter(None, ("EMAIL=you@example.org", options_of(asked)))))
    place = command.target_of(asked)
    users = users_of(place.parameter, place.client("cognito-idp"), options_of(asked))
    if asked.verb == "token":
        print(users.sign_in(asked.email, ask_secret(f"Password of {asked.email}: "), ask_secret))
        return 0
    password = ask_secret(f"Password for {asked.email}: ") if asked.ask else new_password()
    if not asked.reset:
        users.create(asked.email, password)
    if asked.ask or asked.reset:
        users.set_password(asked.email, password, permanent=asked.ask)
    print(f"{asked.email} may use the API of {place.settings.name}: {place.api_url()}")
    if not asked.ask:
        print(f"temporary password, shown this once, for a first sign-in within 3 days:\n    {password}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, "user"))
