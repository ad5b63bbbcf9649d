"""`python -m local_cloud DIR`: runs an assembly until SIGINT or SIGTERM, and says where everything is.

Exit 0 after a clean stop, 2 when the template or an option is refused, 1 for any other fault.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from local_cloud import parameters
from local_cloud.cloud import HOST, LocalCloud, Options
from local_cloud.errors import DeployError, Unsupported


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_cloud", description="Runs a CDK assembly without an AWS account."
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="cloud assembly (cdk.out)")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="STACK:NAME=VALUE|@FILE",
        help="a stack's parameter; @FILE takes the file's content",
    )
    parser.add_argument("--region", help="default: the assembly's, else eu-north-1")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="keeps the CA and logs; default: a temporary directory"
    )
    parser.add_argument(
        "--gateway-port", type=int, default=8883, help="MQTT over mutual TLS; the next free one when taken"
    )
    parser.add_argument("--api-port", type=int, default=5000, help="HTTP API; the next free one when taken")
    parser.add_argument(
        "--host", default=HOST, metavar="ADDRESS", help="where the device gateway and the HTTP API listen; 0.0.0.0 in "
        "a container. AWS endpoint and control port stay on %(default)s, the default"
    )
    parser.add_argument(
        "--no-auto-login", action="store_true", help="a token for each request to an HTTP API with a JWT authorizer, "
        "also from this machine, whose owner otherwise needs none"
    )
    parser.add_argument(
        "--trust-published-port", action="store_true", help="what comes from a private network counts as this machine: "
        "in a container whose API port is published on 127.0.0.1 alone"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME", help="a further host name or address that devices know "
        "the gateway by; it goes on the gateway's certificate"
    )
    parser.add_argument("--web-port", type=int, default=8080, help="web and sign-in pages, on this machine only; the "
                        "next free one when taken")
    parser.add_argument("--aws-port", type=int, default=0, help="AWS_ENDPOINT_URL; default: any")
    parser.add_argument("--control-port", type=int, default=0, help="control port; default: any")
    parser.add_argument("--aws-endpoint", metavar="URL", help="another AWS emulator in place of moto")
    parser.add_argument("--dynamodb-endpoint", metavar="URL", default=os.environ.get("LOCAL_CLOUD_DYNAMODB_ENDPOINT"),
                        help="another engine for DynamoDB and its streams, such as DynamoDB Local with -sharedDb; "
                        "default: LOCAL_CLOUD_DYNAMODB_ENDPOINT")
    parser.add_argument("--alarm-speed", type=float, default=1.0, metavar="N", help="an alarm's periods pass N "
                        "times faster than on AWS")
    parser.add_argument("--quotas", choices=("enforced", "lifted"), default="enforced", help="IoT Core's limits")
    parser.add_argument("--iam", choices=("enforced", "lifted"), default="enforced", help="whether functions, rules "
                        "and streams may do only what their roles allow")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="JSON, written when everything runs")
    parser.add_argument("--verbose", action="store_true", help="log every resource and request")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        directory=arguments.directory,
        parameters=parameters.parse_options(arguments.parameter),
        region=arguments.region,
        state=arguments.state,
        gateway_port=arguments.gateway_port,
        api_port=arguments.api_port,
        aws_port=arguments.aws_port,
        control_port=arguments.control_port,
        quotas=arguments.quotas == "enforced",
        iam=arguments.iam == "enforced",
        web_port=arguments.web_port,
        aws_endpoint=arguments.aws_endpoint,
        dynamodb_endpoint=arguments.dynamodb_endpoint,
        host=arguments.host,
        names=tuple(arguments.name),
        auto_login=not arguments.no_auto_login,
        trust_published_port=arguments.trust_published_port,
        alarm_speed=arguments.alarm_speed,
    )


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader finds the whole of it or nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _announce(endpoints: dict[str, Any]) -> None:
    where = endpoints["endpoints"]
    print(f"local cloud ready: {endpoints['resources']['applied']} resources applied, 0 refused")
    print(f"  device gateway  mqtts://localhost:{where['gateway']['port']}  (CA {endpoints['ca_file']})")
    for url in where["apis"].values():
        print(f"  HTTP API        {url}")
    for url in where["pages"].values():
        print(f"  page            {url}")
    print(f"  AWS endpoint    AWS_ENDPOINT_URL={where['aws']}")
    print(f"  control         {where['control']}")
    for stack, values in endpoints["outputs"].items():
        for name, value in values.items():
            print(f"  {stack}.{name} = {value}")
    if endpoints["not_emulated"]:
        listed = ", ".join(name.removeprefix("AWS::") for name in endpoints["not_emulated"])
        print(f"  accepted, not emulated (local_cloud/COVERAGE.md): {listed}")
    sys.stdout.flush()


async def run(options: Options, ready_file: Path | None) -> None:
    """Start, announce, wait for SIGINT or SIGTERM, stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    cloud = LocalCloud(options)
    starting, stopping = asyncio.create_task(cloud.start()), asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await asyncio.gather(starting, return_exceptions=stop.is_set())
        if not stop.is_set():
            _announce(cloud.endpoints())
            if ready_file is not None:
                write_atomically(ready_file, cloud.endpoints())
            await stopping
    finally:
        stopping.cancel()
        await cloud.close()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def main() -> int:
    """Parse the command line and run."""
    arguments = _parser().parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("uvicorn", "botocore", "boto3", "urllib3", "asyncio", "s3transfer"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(run(_options(arguments), arguments.ready_file))
    except (Unsupported, DeployError) as refusal:
        kind = "not emulated" if isinstance(refusal, Unsupported) else "cannot deploy"
        print(f"local cloud: {kind}: {refusal}", file=sys.stderr)
        return 2
    except OSError as fault:
        print(f"local cloud: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
