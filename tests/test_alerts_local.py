"""From a bridge's alert to a person, in the very template on this machine: rule, queue, alert, topic, presence."""
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from contract import alerts, numbers, topics
from deploy import notices
from lambdas import table
from local_cloud.cloud import LocalCloud
from local_cloud.gateway import packets as p
from local_cloud.options import Options
from local_cloud.subscriptions import Notification
from tests.gateway_rig import RawClient, make_device
from tests.incidents_rig import told
from tests.local_cloud_rig import http
from tests.messages import EXAMPLES, OUTBOX, SITE
from tests.synthesized import assembly
from tests.waiting import until

DEADLINE_S = 60


class Running:
    """The deployment, a registered bridge's client in it, and what is asked of it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        names = cloud.deployer.physical_names()
        self.tables = {what: names["EdgeCloudStorage"][what.capitalize()] for what in ("incidents", "rollups")}
        self.schedule = next(name for name in cloud.services.schedules.names() if "WatchSchedule" in name)
        self.watch = next(name for name in cloud.services.functions.names() if "WatchFunction" in name)

    async def connect(self) -> RawClient:
        services = self.cloud.services
        device = make_device(services.pki, "bridge", ec.generate_private_key(ec.SECP256R1()))
        certificate = services.registry.add_certificate(device.pem)
        services.registry.attach_thing(SITE, certificate.arn)
        policy, = services.registry.policies
        services.registry.attach_policy(policy, certificate.arn)
        return await RawClient.connect(services.gateway.port, device, SITE)

    async def items(self, what: str, pk: str) -> list[dict[str, Any]]:
        found = await self.cloud.services.call(
            "dynamodb", "query", TableName=self.tables[what], KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}}, ConsistentRead=True)
        return [table.from_attributes(item) for item in found["Items"]]

    async def notices(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(notices.sent, self.cloud.endpoints()["endpoints"]["control"])

    async def notices_of(self, device: str) -> list[dict[str, Any]]:
        return [one for one in await self.notices() if f" {device} at " in one["Subject"]]

    async def told_of(self, device: str) -> list[dict[str, Any]]:
        """The device's incidents that are noted as told of."""
        return [one for one in await self.items("incidents", f"{SITE}#{device}") if one.get("notice") == "sent"]

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request to the control port."""
        address = self.cloud.endpoints()["endpoints"]["control"]
        return await asyncio.to_thread(http, method, address + path, body)

    async def watched(self) -> dict[str, Any]:
        """The figures of one run of watch."""
        assert await self.control("POST", f"/fire?rule={self.schedule}") == (200, {"invoked": [self.watch]})
        function = self.cloud.services.functions.by_name(self.watch)
        assert function is not None
        await function.drain()
        assert function.counters["errors"] == 0, function.last_error
        lines = [json.loads(line) for line in function.log_path.read_text().splitlines() if '"_aws"' in line]
        return dict(lines[-1])


def test_from_an_anomaly_to_a_person(tmp_path: Path) -> None:
    async def run() -> None:
        cloud = LocalCloud(Options(assembly(), gateway_port=0, api_port=0, web_port=0, quotas=False, state=tmp_path))
        await cloud.start()
        try:
            await scenario(Running(cloud))
        finally:
            await cloud.close()
    asyncio.run(asyncio.wait_for(run(), 4 * DEADLINE_S))


async def scenario(running: Running) -> None:
    client = await running.connect()
    assert (await client.publish(topics.status(SITE), golden_status())).reason_code == 0
    for one in (told(1, "opened", 1), told(4, "open", 2)):
        assert (await client.publish(topics.ALERTS, alerts.seal(OUTBOX, "pi-1", [one])[1])).reason_code == 0
    incident, = await until(lambda: incident_with(running, 2), "the incident")
    assert (incident["state"], incident["count"]) == ("open", 2)
    notice, = await until(running.notices, "the notice")
    assert notice["Subject"].startswith("[warning] pi-1 at EdgeCloudAWS: sensor2 = 1.9")
    assert notices.line([]) == "notices: none" and notices.line([notice]).endswith(notice["Subject"])
    assert notice["MessageAttributes"]["severity"] == {"Type": "String", "Value": "warning"}

    presence, = await until(lambda: running.items("rollups", "presence"), "the lifecycle event")
    assert (presence["site"], presence["connected"]) == (SITE, True)
    # The incident is of 2026-11-22 by the bridge's word; watch, which goes by the clock, finds it silent long since.
    assert (await running.watched())["bridges_silent"] == 0
    assert [one["closed_by"] for one in await running.items("incidents", f"{SITE}#pi-1")] == ["cloud"]

    await killed_between_publish_and_mark(running, client)
    client.send(p.Disconnect(p.SUCCESS))
    await until(lambda: gone(running), "the goodbye")
    status, answer = await running.control("POST", "/fire?rule=nightly")
    assert status == 409 and "no scheduled rule 'nightly'; there are EdgeCloudIngest-WatchSchedule" in answer["error"]


async def killed_between_publish_and_mark(running: Running, client: RawClient) -> None:
    """SIGKILL when SNS has the notice and the function has not noted that: the message comes again, and so does it."""
    services = running.cloud.services
    alert = services.functions.by_name(next(name for name in services.functions.names() if "AlertFunction" in name))
    assert alert is not None
    deliver, before = services.subscriptions.deliver, alert.counters["errors"]

    async def deliver_and_kill(notification: Notification) -> None:
        services.subscriptions.deliver = deliver  # type: ignore[method-assign]
        await deliver(notification)
        alert.kill()

    services.subscriptions.deliver = deliver_and_kill  # type: ignore[method-assign]
    one = told(7, "opened", 1, device="pi-2", opened=7)
    assert (await client.publish(topics.ALERTS, alerts.seal(OUTBOX, "pi-2", [one])[1])).reason_code == 0
    await until(lambda: changed(alert.counters["errors"], before), "the killed invocation")
    untold, = await running.items("incidents", f"{SITE}#pi-2")
    assert "notice" not in untold and len(await running.notices_of("pi-2")) == 1
    # In AWS the queue shows the message again after six minutes, and the lease is over after one.
    await services.call("dynamodb", "update_item", TableName=running.tables["incidents"],
                        UpdateExpression="REMOVE lease",
                        Key=table.to_attributes({"pk": untold["pk"], "sk": untold["sk"]}))
    await running.control("POST", "/faults", {"surface": True})
    await until(lambda: running.told_of("pi-2"), "the notice, noted this time")
    assert len(await running.notices_of("pi-2")) == 2


async def changed(value: float, before: float) -> bool:
    return value > before


async def incident_with(running: Running, count: int) -> list[dict[str, Any]]:
    """The incident of pi-1, once its count is told and it is noted as told of."""
    return [one for one in await running.told_of("pi-1") if one["count"] == count]


async def gone(running: Running) -> list[dict[str, Any]]:
    return [one for one in await running.items("rollups", "presence")
            if not one["connected"] and one["reason"] == "CLIENT_INITIATED_DISCONNECT"]


def golden_status() -> bytes:
    message = {**numbers.loads((EXAMPLES / "status.json").read_bytes()), "at": time.time_ns() // 1_000_000}
    return numbers.dumps(message).encode()

