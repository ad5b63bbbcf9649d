"""Where a command works: your AWS account, or a local cloud that runs on this machine. Commands and the demo ask it for
clients, names and addresses, and need not know which it is."""
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from contract import numbers
from deploy.aws_cli import account_of
from deploy.faults import Fault
from deploy.fetch import FetchFault, fetch
from deploy.processes import ROOT
from infra.errors import SynthesisFault
from infra.settings import Settings, product_version, read

LOCAL, AWS = "local", "aws"
READY_FILE = ROOT / ".cloud" / "cloud.json"
DEMO_READY_FILES = ".demo/*/cloud.json"
AWS_DEADLINE_S, LOCAL_DEADLINE_S = 180.0, 60.0
AWS_POLL_S, LOCAL_POLL_S = 2.0, 0.2


class TargetFault(Fault):
    """A deployment that is not there, does not answer, or refuses."""


@dataclass(frozen=True)
class Target:
    """One deployment in one place. ready: what the local cloud says of itself; None means AWS."""

    settings: Settings
    ready: dict[str, Any] | None = None
    token: str = field(default="", repr=False)  # for the HTTP API; a local cloud needs none from this machine
    _clients: dict[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        return self.ready is not None

    @property
    def device_stack(self) -> str:
        """Name of the stack with things and certificates."""
        return f"{self.settings.title}Device"

    @property
    def deadline_s(self) -> float:
        """How long to wait for what should take seconds."""
        return LOCAL_DEADLINE_S if self.is_local else AWS_DEADLINE_S

    @property
    def poll_s(self) -> float:
        """How often to look whether something is there yet: on AWS each look is paid for."""
        return LOCAL_POLL_S if self.is_local else AWS_POLL_S

    def client(self, service: str) -> Any:
        """A boto3 client, made once."""
        if service not in self._clients:
            self._clients[service] = boto3.client(service, **self._options())
        return self._clients[service]

    def table(self, which: str) -> Any:
        """The DynamoDB table `readings`, `rollups` or `alerts`."""
        if which not in self._clients:
            resource = boto3.resource("dynamodb", **self._options())
            self._clients[which] = resource.Table(self.parameter(f"{which}-table"))
        return self._clients[which]

    def _options(self) -> dict[str, str]:
        place = {"region_name": self.settings.region}
        if self.ready is None:
            return place
        return {**place, "endpoint_url": self.ready["endpoints"]["aws"], "aws_access_key_id": "local",
                "aws_secret_access_key": "local"}

    def parameter(self, what: str) -> str:
        """The value of `/<name>/<what>`; TargetFault when the deployment has none."""
        name = f"/{self.settings.name}/{what}"
        try:
            return str(self.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
        except (ClientError, BotoCoreError) as error:
            raise TargetFault(f"no SSM parameter {name} ({error}); is `{self.settings.name}` deployed? run "
                              "`make deploy`, or give its name: CONTEXT=\"name=…\"") from None

    def gateway(self) -> tuple[str, int]:
        """Host and port that a bridge connects to."""
        address = self.client("iot").describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        host, _, port = address.partition(":")
        return host, int(port or 8883)

    def api_url(self) -> str:
        """Address of the HTTP API, without a slash at the end."""
        if self.ready is not None:
            return str(self.ready["endpoints"]["api"]).rstrip("/")
        return self.parameter("api-url").rstrip("/")

    def get(self, path: str) -> Any:
        """What the HTTP API answers to GET, with the token. Raises TargetFault."""
        return ask(self.api_url() + path, token=self.token)

    def flush(self) -> None:
        """Have the local cloud deliver what batching windows and Firehose hold; AWS does so by itself in 5 minutes."""
        if self.ready is not None:
            ask(self.ready["endpoints"]["control"] + "/flush", "POST")


def ask(url: str, method: str = "GET", body: bytes | None = None, within_s: float = 60, token: str = "") -> Any:
    """The JSON that an HTTP address answers, its numbers exact. Raises TargetFault with its words for a failure."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return numbers.loads(fetch(url, method, body, headers, within_s) or b"{}")
    except FetchFault as fault:
        raise TargetFault(str(fault)) from None
    except ValueError as error:
        raise TargetFault(f"{method} {url}: {error}") from None


def settings_of(context: Mapping[str, Any]) -> Settings:
    """The deployment that a CDK context describes. Raises TargetFault with all that is wrong in it."""
    try:
        return read(context, product_version())
    except SynthesisFault as fault:
        raise TargetFault(str(fault)) from None


def local(settings: Settings, ready_file: Path | None = None) -> Target:
    """The running local cloud: of the given ready file, else of `make cloud`, else of the newest `make demo`.

    TargetFault when none answers."""
    files = [ready_file] if ready_file else [READY_FILE, *sorted(ROOT.glob(DEMO_READY_FILES), reverse=True)]
    for path in files:
        if path.is_file():
            try:
                control = json.loads(path.read_text(encoding="utf-8"))["endpoints"]["control"]
                ready = ask(f"{control}/endpoints", within_s=10)
            except (TargetFault, ValueError, KeyError):
                continue  # left behind by one that was killed
            return Target(settings, ready)
    raise TargetFault(f"no local cloud is running (looked at {', '.join(str(path) for path in files)}); start one in "
                      "another terminal: make cloud")


def aws(settings: Settings) -> Target:
    """Your AWS account; raises CliFault (see aws_cli.account_of) when there are no credentials that it accepts."""
    account_of(settings.region)
    return Target(settings)


def of(kind: str, settings: Settings, ready_file: Path | None = None) -> Target:
    """The target by its name: "local" or "aws"."""
    if kind == LOCAL:
        return local(settings, ready_file)
    if kind == AWS:
        return aws(settings)
    raise TargetFault(f"TARGET is {kind!r}; expected {LOCAL} or {AWS}")
