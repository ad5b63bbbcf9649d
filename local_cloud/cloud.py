"""A running local cloud: an assembly in; a device gateway, an AWS endpoint, HTTP APIs and a control port out.

Usable inside an event loop (tests) and as a process (`python -m local_cloud DIR`).
"""

import asyncio
import logging
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from local_cloud import assembly, firehose_api, log_lines, ports, shadow_api, sqs_api
from local_cloud.aws_api import AwsApi
from local_cloud.backend import Backends, MotoProcess
from local_cloud.cloudformation_api import CloudFormationApi
from local_cloud.control import ControlPort
from local_cloud.cost import prices
from local_cloud.cost.bill import bill
from local_cloud.cost.calls import FunctionCalls
from local_cloud.deployer import Deployer, check
from local_cloud.fault_switches import switch
from local_cloud.http_wire import Request, Response, Server
from local_cloud.iot_api import IotApi
from local_cloud.observation import describe, flush
from local_cloud.options import LOOPBACK, Options
from local_cloud.services import LocalServices, Place

log = logging.getLogger(__name__)

DEFAULT_REGION = "eu-north-1"


class LocalCloud:
    """One assembly, deployed and running between `start` and `close`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.assembly = assembly.load(options.directory)
        self.region = self.assembly.region(options.region, DEFAULT_REGION)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._moto: MotoProcess | None = None
        self._backends: Backends | None = None
        self._aws: AwsApi | None = None
        self._calls: FunctionCalls | None = None
        self._began_s = time.monotonic()
        self._aws_server = Server(self._handle_aws)
        self._control = ControlPort(self)
        self._services: LocalServices | None = None
        self._deployer: Deployer | None = None
        self._changing = asyncio.Lock()
        self.running = False

    async def start(self) -> None:
        """Deploy and run everything; DeployError or Unsupported when it cannot be, and then nothing is left running."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        check(self.assembly, self.options.parameters)
        await ports.listen("control", self.options.control_port, self._control.start, move=False)
        await ports.listen(
            "AWS endpoint", self.options.aws_port, lambda port: self._aws_server.start(LOOPBACK, port), move=False
        )
        state = self._state_directory()
        backend_url = await self._backend_url(state)
        self._backends = Backends(backend_url, self.options.dynamodb_endpoint)
        services = self._services = LocalServices(
            Place(self.options, self.region, state, backend_url=backend_url, endpoint_url=self.aws_url))
        self._aws = self._aws_api(self._backends)
        self._calls = FunctionCalls(services.meter, services.describe_table)
        await services.bootstrap()
        self._deployer = Deployer(self.assembly, services, self.options.parameters)
        await self._deploy()
        await ports.listen(
            "device gateway",
            self.options.gateway_port,
            lambda port: services.gateway.start(self.options.host, port),
        )
        services.alarms.start()
        self.running = True

    async def _deploy(self) -> None:
        """Deploy, and start a worker of each function so that its first event does not wait for imports."""
        await self.deployer.deploy()
        await asyncio.gather(*(function.start() for function in self.services.functions.all()))

    def _state_directory(self) -> Path:
        state = self.options.state
        if state is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="local-cloud-", ignore_cleanup_errors=True)
            state = Path(self._temporary.name)
        state.mkdir(parents=True, exist_ok=True)
        return state.resolve()

    @property
    def services(self) -> LocalServices:
        """Every service; only between `start` and `close`."""
        assert self._services is not None, "the local cloud is not started"
        return self._services

    @property
    def deployer(self) -> Deployer:
        """What is deployed; only between `start` and `close`."""
        assert self._deployer is not None, "the local cloud is not started"
        return self._deployer

    async def _backend_url(self, state: Path) -> str:
        if self.options.aws_endpoint:
            return self.options.aws_endpoint.rstrip("/")
        self._moto = MotoProcess(state / "moto.log")
        return await self._moto.start()

    def _aws_api(self, backends: Backends) -> AwsApi:
        services = self.services
        iot = IotApi(services.registry, lambda: f"localhost:{services.gateway.port}", services.pki, services.rules)
        targets = {
            "AmazonSQS": partial(sqs_api.handle, services.queues),
            "Firehose_20150804": partial(firehose_api.handle, services.firehose),
        }
        return AwsApi(
            targets,
            lambda request: shadow_api.handle(services.gateway.shadows, request) or iot.handle(request),
            services.gateway.publish,
            services.functions,
            services.subscriptions,
            backends,
            services.nudge,
            CloudFormationApi(lambda: self.deployer, self._changing).handle,
        )

    async def _handle_aws(self, request: Request) -> Response:
        if self._aws is None:
            return Response(503, b"the local cloud is starting\n")
        if (refusal := self.services.iam.refusal(request)) is not None:
            return refusal
        return await self._calls.handle(request, self._aws.handle) if self._calls else await self._aws.handle(request)

    @property
    def aws_url(self) -> str:
        """What AWS_ENDPOINT_URL is to be."""
        return f"http://{LOOPBACK}:{self._aws_server.port}"

    async def close(self) -> None:
        """Stop everything; no process stays behind. Safe to call twice."""
        self.running = False
        await self._control.close()
        if self._services is not None:
            await self._services.close()
        await self._aws_server.close()
        if self._backends is not None:
            await self._backends.close()
        if self._moto is not None:
            await self._moto.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def deploy(self) -> None:
        """Deploy the stacks that are not deployed (all, after a destroy)."""
        async with self._changing:
            await self._deploy()

    async def destroy(self) -> list[str]:
        """Delete every resource in reverse order; returns what its DeletionPolicy retains, one line each."""
        async with self._changing:
            return [f"{one.where}: {one.ref}" for one in await self.deployer.destroy()]

    def endpoints(self) -> dict[str, Any]:
        """What the ready file says: pid, ports, endpoints, CA file, outputs, physical names, resources."""
        services, deployer = self.services, self.deployer
        apis = {api_id: api.endpoint for api_id, api in services.apis.items()}
        return {
            "pid": os.getpid(),
            "region": self.region,
            "ports": {
                "gateway": services.gateway.port,
                "aws": self._aws_server.port,
                "control": self._control.port,
                "api": next((api.port for api in services.apis.values()), None),
            },
            "endpoints": {
                "pages": {aws_url: site.server.endpoint for aws_url, site in services.sites.values()},
                "gateway": {"host": "localhost", "port": services.gateway.port},
                "api": next(iter(apis.values()), None),
                "apis": apis,
                "aws": self.aws_url,
                "control": f"http://{LOOPBACK}:{self._control.port}",
            },
            "ca_file": str(services.pki.certificate_path),
            "outputs": self._outputs(apis),
            "physical_names": deployer.physical_names(),
            "resources": {"applied": deployer.applied_count(), "refused": 0},
            "not_emulated": deployer.not_emulated(),
        }

    def _outputs(self, apis: dict[str, str]) -> dict[str, dict[str, str]]:
        """The outputs, AWS addresses of APIs and pages replaced by their local ones so that they can be used."""
        outputs = self.deployer.outputs()
        for values in outputs.values():
            for name, value in values.items():
                for api_id, url in apis.items():
                    value = value.replace(f"https://{api_id}.execute-api.{self.region}.amazonaws.com", url)
                value = self.services.addresses.localized(value)
                values[name] = value
        return outputs

    async def flush(self, deadline_s: float) -> dict[str, Any]:
        """Deliver what Firehose and batching windows hold, wait until nothing waits: {"idle", "waiting", "seconds"}."""
        return await flush(self.services, deadline_s)

    async def state(self) -> dict[str, Any]:
        """Counters by service, queue depths, and what is not idle."""
        return describe(self.services, self._aws.counters if self._aws else {})

    async def bill(self) -> dict[str, Any]:
        """What AWS would have billed since the start, and what the template costs each month: see cost/bill.py."""
        assert self._calls is not None, "the local cloud is not started"
        deployed = [one for stack in self.deployer.stacks.values() for one in stack.resources.values()]
        return bill(self.services, self._calls, deployed, prices.load(), time.monotonic() - self._began_s)

    def notifications(self) -> list[dict[str, Any]]:
        """The latest messages of all SNS topics, newest last."""
        return list(self.services.subscriptions.published)

    async def fire(self, rule: str) -> list[str]:
        """Let a scheduled rule's time come now; returns the functions that it invoked."""
        return await self.services.schedules.fire(rule)

    async def alarms(self) -> list[dict[str, Any]]:
        """Every alarm, evaluated now."""
        return await self.services.alarms.evaluate()

    def logs(self, text: str) -> list[dict[str, Any]]:
        """Lines of the functions' logs that hold this text, by time: [{"function", "at", "line"}]."""
        return log_lines.holding(self.services.functions, text)

    async def faults(self, switches: dict[str, Any]) -> dict[str, Any]:
        """Set fault switches (see fault_switches.py); returns their state."""
        return switch(self.services, switches)
