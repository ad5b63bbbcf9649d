"""How to run a local cloud: the command line in, Options for cloud.py out. Every default stands in Options alone."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from local_cloud import parameters
from local_cloud.parameters import Given

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Options:
    """How to run; ports 0 mean any free one, `state` None a temporary directory, `aws_endpoint` None our own moto,
    `dynamodb_endpoint` None the same for DynamoDB.

    host: where the device gateway, the HTTP APIs and the web pages listen; no other port does. names: further ones of
    the gateway. auto_login: whether requests of this machine's owner need no token (auto_login.py).
    trust_published_port: whether what comes from a private network counts as this machine (peers.py).
    quotas: whether IoT Core's limits hold. iam: whether functions, rules and streams may do only what their roles
    allow.
    alarm_speed: how many times faster than on AWS an alarm's periods pass.
    """

    directory: Path
    parameters: Given = field(default_factory=dict)
    region: str | None = None
    state: Path | None = None
    gateway_port: int = 8883
    api_port: int = 5000
    web_port: int = 8080
    aws_port: int = 0
    control_port: int = 0
    quotas: bool = True
    iam: bool = True
    aws_endpoint: str | None = None
    dynamodb_endpoint: str | None = None
    host: str = LOOPBACK
    names: tuple[str, ...] = ()
    auto_login: bool = True
    trust_published_port: bool = False
    alarm_speed: float = 1.0


@dataclass(frozen=True)
class Command:
    """A whole command line: the options, the ready file to write, and whether to log every resource and request."""

    options: Options
    ready_file: Path | None
    verbose: bool


def read(arguments: Sequence[str] | None = None) -> Command:
    """The command line (None: this process's); SystemExit for one that is wrong, DeployError for a parameter."""
    given = vars(_parser().parse_args(arguments))
    given["parameters"] = parameters.parse_options(given["parameters"])
    given["names"] = tuple(given["names"])
    for name in ("quotas", "iam"):
        given[name] = given[name] == "enforced"
    options = Options(**{one.name: given[one.name] for one in fields(Options)})
    return Command(options, given["ready_file"], given["verbose"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_cloud", description="Runs a CDK assembly without an AWS account.")
    add = parser.add_argument
    add("directory", type=Path, metavar="DIR", help="cloud assembly (cdk.out)")
    add("--parameter", action="append", default=[], dest="parameters", metavar="STACK:NAME=VALUE|@FILE",
        help="a stack's parameter; @FILE takes the file's content")
    add("--region", help="default: the assembly's, else eu-north-1")
    add("--state", type=Path, metavar="DIR", help="keeps the CA and logs; default: a temporary directory")
    add("--ready-file", type=Path, metavar="FILE", help="JSON, written when everything runs")
    add("--verbose", action="store_true", help="log every resource and request")
    _add_ports(parser)
    _add_backends(parser)
    _add_rights(parser)
    add("--alarm-speed", type=float, default=Options.alarm_speed, metavar="N", help="an alarm's periods pass N times "
        "faster than on AWS")
    return parser


def _add_ports(parser: argparse.ArgumentParser) -> None:
    for name, default, what in (
            ("--gateway-port", Options.gateway_port, "MQTT over mutual TLS; the next free one when taken"),
            ("--api-port", Options.api_port, "HTTP API; the next free one when taken"),
            ("--web-port", Options.web_port, "web and sign-in pages, for this machine only; the next free one when "
             "taken"),
            ("--aws-port", Options.aws_port, "AWS_ENDPOINT_URL; default: any"),
            ("--control-port", Options.control_port, "control port; default: any")):
        parser.add_argument(name, type=int, default=default, help=what)
    parser.add_argument("--host", default=Options.host, metavar="ADDRESS", help="where the device gateway, the HTTP "
                        "API and the pages listen; 0.0.0.0 in a container. AWS endpoint and control port stay on "
                        "%(default)s, the default")
    parser.add_argument("--name", action="append", default=[], dest="names", metavar="NAME", help="a further host name "
                        "or address that devices know the gateway by; it goes on the gateway's certificate")


def _add_backends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--aws-endpoint", metavar="URL", help="another AWS emulator in place of moto")
    parser.add_argument("--dynamodb-endpoint", metavar="URL", default=os.environ.get("LOCAL_CLOUD_DYNAMODB_ENDPOINT"),
                        help="another engine for DynamoDB and its streams, such as DynamoDB Local with -sharedDb; "
                        "default: LOCAL_CLOUD_DYNAMODB_ENDPOINT")


def _add_rights(parser: argparse.ArgumentParser) -> None:
    for name, what in (("--quotas", "IoT Core's limits"), ("--iam", "whether functions, rules and streams may do only "
                                                           "what their roles allow")):
        parser.add_argument(name, choices=("enforced", "lifted"), default="enforced", help=what)
    parser.add_argument("--no-auto-login", action="store_false", dest="auto_login", help="a token for each request to "
                        "an HTTP API with a JWT authorizer, also from this machine, whose owner otherwise needs none")
    parser.add_argument("--trust-published-port", action="store_true", help="what comes from a private network counts "
                        "as this machine: in a container whose API and page ports are published on 127.0.0.1 alone")
