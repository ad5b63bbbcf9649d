"""The services of a running local cloud: the deployer's appliers make resources in them, the AWS endpoint uses them.

Emulated services live in this process; what moto serves is reached with boto3 clients, in threads.
"""

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local_cloud import ports
from local_cloud.actions import Actions
from local_cloud.alarms import Alarms
from local_cloud.auto_login import AutoLogin
from local_cloud.backend import client_factory
from local_cloud.cost.meter import IotMeter, Meter
from local_cloud.errors import DeployError, Unsupported
from local_cloud.firehose import FirehoseService
from local_cloud.functions import FunctionService
from local_cloud.gateway import Gateway, Limits, Publish, Registry
from local_cloud.http_api import HttpApi
from local_cloud.iam import Iam
from local_cloud.iam_services import rule_guard, shadow_reader
from local_cloud.options import Options
from local_cloud.peers import is_this_machine
from local_cloud.pki import LocalCa
from local_cloud.queue_poller import QueuePoller
from local_cloud.queues import QueueService
from local_cloud.rule_engine import RuleEngine
from local_cloud.schedule import Schedules
from local_cloud.sign_in_page import SignInPage
from local_cloud.stream_poller import StreamPoller
from local_cloud.subscriptions import Subscriptions
from local_cloud.web import Addresses, WebSite

log = logging.getLogger(__name__)

ACCOUNT_ID = "123456789012"
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION = "30"


@dataclass(frozen=True)
class Place:
    """Where the services run: region, directory for PKI and logs, URLs of moto and of the AWS endpoint before it."""

    options: Options
    region: str
    state: Path
    backend_url: str
    endpoint_url: str


@dataclass
class LocalServices:
    """Every service; `start` opens the gateway, `close` ends all of them."""

    place: Place
    account_id: str = ACCOUNT_ID
    apis: dict[str, HttpApi] = field(default_factory=dict)
    pollers: dict[str, QueuePoller | StreamPoller] = field(default_factory=dict)
    swept_buckets: set[str] = field(default_factory=set)
    sites: dict[str, tuple[str, WebSite | SignInPage]] = field(default_factory=dict)
    header_policies: dict[str, dict[str, str]] = field(default_factory=dict)
    addresses: Addresses = field(default_factory=Addresses)

    def __post_init__(self) -> None:
        place, options, account_id = self.place, self.place.options, self.account_id
        self.region = place.region
        elsewhere = options.dynamodb_endpoint
        dynamodb = dict.fromkeys(("dynamodb", "dynamodbstreams"), elsewhere) if elsewhere else {}
        self._client = client_factory(place.backend_url, place.region, dynamodb)
        self._front = client_factory(place.endpoint_url, place.region)
        self.pki = LocalCa(place.state / "pki", options.names)
        self.iam = Iam(account_id, place.region, options.iam)
        self.meter = Meter()
        self.iot_meter = IotMeter(self.meter, time.monotonic)
        self.registry = Registry(account_id, place.region)
        self.queues = QueueService(account_id, place.region, place.endpoint_url)
        self.firehose = FirehoseService(account_id, place.region, self._s3_put)
        self.functions = FunctionService(
            account_id,
            place.region,
            {"AWS_ENDPOINT_URL": place.endpoint_url, "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled"},
            place.state / "logs",
            self._send_to,
        )
        self.subscriptions = Subscriptions(self.queues, self.functions)
        self.alarms = Alarms(self, self._notify, options.alarm_speed)
        self.schedules = Schedules(account_id, place.region, self.functions)
        self.gateway = Gateway(
            self.registry, Limits() if options.quotas else Limits.lifted(), self._on_publish, self.pki
        )
        self.gateway.broker.metered = self.iot_meter.note
        self.rules = RuleEngine(
            account_id,
            place.region,
            Actions(
                self.queues,
                self.firehose,
                self.functions,
                self._s3_put,
                self._client("dynamodb"),
                self._sns_publish,
                self.gateway.publish,
            ),
        )
        self.rules.guard = rule_guard(self.iam)
        self.rules.read_shadow = shadow_reader(self.iam, self.gateway.shadows)
        self.addresses.put(f"https://*.execute-api.{place.region}.amazonaws.com",
                           lambda: " ".join(api.endpoint for api in self.apis.values()))

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """One AWS API call at moto, in a thread."""
        method = getattr(self._client(service), operation)
        answer: dict[str, Any] = await asyncio.to_thread(lambda: method(**parameters))
        return answer

    async def describe_table(self, name: str) -> dict[str, Any]:
        """A DynamoDB table's description: its keys and indexes."""
        return dict((await self.call("dynamodb", "describe_table", TableName=name))["Table"])

    def ssm_value(self, name: str) -> str:
        """The value of an SSM String parameter (blocking); DeployError when there is none."""
        try:
            return str(self._client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as fault:
            if fault.response["Error"]["Code"] != "ParameterNotFound":
                raise
            raise DeployError(
                f"SSM parameter {name} does not exist; is the stack that writes it deployed before?"
            ) from None

    async def bootstrap(self) -> None:
        """Write the parameter that `cdk bootstrap` would have left in the account."""
        await self.call(
            "ssm", "put_parameter", Name=BOOTSTRAP_PARAMETER, Value=BOOTSTRAP_VERSION, Type="String", Overwrite=True
        )

    async def open_api(self, api_id: str, properties: Mapping[str, Any]) -> None:
        """Serve an HTTP API on --api-port or the next free port."""
        options = self.place.options
        auto_login = AutoLogin(self.call, self.region, trust_published_port=options.trust_published_port)
        properties = json.loads(self.addresses.localized(json.dumps(properties)))  # who may call it from a page
        api = HttpApi(api_id, properties, self.functions, fetch_keys=self._fetch_keys,
                      auto_login=auto_login if options.auto_login else None)
        await ports.listen("HTTP API", options.api_port, lambda port: api.start(port, options.host))
        self.apis[api_id] = api

    async def close_api(self, api_id: str) -> None:
        """Stop serving it."""
        await self.apis.pop(api_id).close()

    async def open_site(self, site_id: str, aws_url: str, site: WebSite | SignInPage) -> None:
        """Serve a web page, or a pool's sign-in page, on --web-port or the next free port, to this machine only.

        Wherever it listens: the addresses that it and its sign-in name lead nowhere from another machine.
        """
        options = self.place.options
        admits = partial(is_this_machine, trust_private=options.trust_published_port)
        await ports.listen("web page", options.web_port, lambda port: site.server.start(port, options.host, admits))
        self.sites[site_id] = aws_url, site
        self.addresses.put(aws_url, lambda: site.server.endpoint)

    async def close_site(self, site_id: str) -> None:
        """Stop serving it."""
        aws_url, site = self.sites.pop(site_id)
        self.addresses.drop(aws_url)
        await site.server.close()

    async def add_poller(self, mapping_id: str, properties: Mapping[str, Any]) -> None:
        """Begin to feed a function from a queue or a stream."""
        function = self.functions.existing("FunctionName", str(properties["FunctionName"]))
        source = str(properties.get("EventSourceArn", ""))
        poller: QueuePoller | StreamPoller
        if source.startswith("arn:aws:sqs:"):
            poller = QueuePoller(self.queues.existing("EventSourceArn", source), function, properties)
        elif source.startswith("arn:aws:dynamodb:"):
            poller = StreamPoller(self._client("dynamodbstreams"), function, properties, send_to=self._send_to)
        else:
            raise Unsupported(f"EventSourceArn: {source!r} is not emulated; SQS queues and DynamoDB streams are")
        self.pollers[mapping_id] = poller
        await poller.start()

    async def remove_poller(self, mapping_id: str) -> None:
        """Stop feeding."""
        await self.pollers.pop(mapping_id).close()

    def nudge(self) -> None:
        """Something was written to DynamoDB: streams are read at once."""
        for poller in self.pollers.values():
            if isinstance(poller, StreamPoller):
                poller.nudge()

    async def close(self) -> None:
        """End pollers, APIs, the gateway and every worker process, in the order in which data flows."""
        await self.schedules.close()
        await self.alarms.close()
        await self.gateway.close()
        await self.rules.close()
        for api_id in list(self.apis):
            await self.close_api(api_id)
        for site_id in list(self.sites):
            await self.close_site(site_id)
        for mapping_id in list(self.pollers):
            await self.remove_poller(mapping_id)
        await self.functions.close()
        await self.firehose.close()

    async def _on_publish(self, publish: Publish) -> None:
        await self.rules.handle(publish)

    def _fetch_keys(self, issuer: str) -> Any:
        """An issuer's JWKS (blocking): a Cognito pool's from moto, any other's by OpenID discovery."""
        pool = issuer.removeprefix(f"https://cognito-idp.{self.region}.amazonaws.com/")
        if pool != issuer:
            return _get_json(f"{self.place.backend_url}/{pool}/.well-known/jwks.json")
        return _get_json(_get_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")["jwks_uri"])

    def _s3_put(self, bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        self._client("s3").put_object(Bucket=bucket, Key=key, Body=body, **extra)

    def _sns_publish(self, topic_arn: str, message: str, message_format: str = "RAW") -> None:
        structure = {"MessageStructure": "json"} if message_format == "JSON" else {}
        self._front("sns").publish(TopicArn=topic_arn, Message=message, **structure)

    def _notify(self, topic_arn: str, subject: str, message: str) -> None:
        self._front("sns").publish(TopicArn=topic_arn, Subject=subject, Message=message)

    async def _send_to(self, arn: str, body: str) -> None:
        service = arn.split(":")[2]
        if service == "sqs":
            self.queues.by_arn(arn).send(body)
        elif service == "sns":
            await asyncio.to_thread(self._sns_publish, arn, body)
        elif service == "lambda" and (function := self.functions.by_name(arn)) is not None:
            await function.invoke_async(body.encode())
        else:
            raise Unsupported(f"destination {arn}: only existing queues, topics and functions are emulated")


def _get_json(url: str) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http address")
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
