"""A deployer for tests: the emulated services are real, moto's calls are recorded and answered from a table."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_cloud.actions import Actions
from local_cloud.assembly import Assembly, Stack
from local_cloud.deployer import Deployer
from local_cloud.errors import DeployError
from local_cloud.firehose import FirehoseService
from local_cloud.functions import FunctionService
from local_cloud.gateway import Registry
from local_cloud.iam import Iam
from local_cloud.pki import LocalCa
from local_cloud.queues import QueueService
from local_cloud.rule_engine import RuleEngine
from local_cloud.subscriptions import Subscriptions

ACCOUNT, REGION = "123456789012", "eu-north-1"
QUEUE = {"Type": "AWS::SQS::Queue"}


class RecordedServices:
    """The services that the deployer fills: ours are real, moto's calls are recorded and answered from `answers`."""

    def __init__(self, directory: Path) -> None:
        self.region, self.account_id = REGION, ACCOUNT
        self.queues = QueueService(ACCOUNT, REGION, "http://127.0.0.1:1")
        self.firehose = FirehoseService(ACCOUNT, REGION, lambda bucket, key, body, extra: None)
        self.functions = FunctionService(ACCOUNT, REGION, {}, directory / "logs")
        self.subscriptions = Subscriptions(self.queues, self.functions)
        self.registry = Registry(ACCOUNT, REGION)
        self.pki = LocalCa(directory / "pki")
        self.rules = RuleEngine(ACCOUNT, REGION, Actions(
            self.queues, self.firehose, self.functions, lambda *_: None, None, lambda *_: None, self._publish))
        self.apis: dict[str, Any] = {}
        self.pollers: dict[str, Any] = {}
        self.swept_buckets: set[str] = set()
        self.iam = Iam(ACCOUNT, REGION, enforced=False)
        self.parameters: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "put_parameter": self._put_parameter,
            "create_role": lambda given: {"Role": {"Arn": f"arn:aws:iam:::role/{given['RoleName']}", "RoleId": "R"}},
            "list_role_policies": lambda given: {"PolicyNames": []},
            "list_object_versions": lambda given: {}}

    def ssm_value(self, name: str) -> str:
        if name not in self.parameters:
            raise DeployError(f"SSM parameter {name} does not exist")
        return self.parameters[name]

    def _put_parameter(self, given: dict[str, Any]) -> dict[str, Any]:
        self.parameters[given["Name"]] = given["Value"]
        return {}

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        raise AssertionError("no rule publishes here")

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.calls.append((f"{service}.{operation}", parameters))
        return self.answers.get(operation, lambda given: {})(parameters)

    async def open_api(self, api_id: str, properties: dict[str, Any]) -> None:
        raise AssertionError("no API here")

    close_api = add_poller = remove_poller = open_api

    def called(self) -> list[str]:
        return [operation for operation, _ in self.calls]


def stack(resources: dict[str, Any], name: str = "S", **sections: Any) -> Stack:
    return Stack(name, {"Resources": resources, **sections}, {"code.zip": Path(__file__).parent})


def deployer(services: RecordedServices, *stacks: Stack, **given: dict[str, str]) -> Deployer:
    return Deployer(Assembly(Path(), stacks), services, given)


def deploy(services: RecordedServices, *stacks: Stack, **given: dict[str, str]) -> Deployer:
    made = deployer(services, *stacks, **given)
    asyncio.run(made.deploy())
    return made
