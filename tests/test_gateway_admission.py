"""The device gateway over real TLS: who gets in, and what its policy lets it say and hear, as on AWS IoT Core."""
import asyncio
import ssl

import pytest

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.pki import LocalCa, certificate_id
from tests.gateway_rig import AwsClient, RawClient, in_loop, make_device, running, until

ACCOUNT = "arn:aws:iot:eu-north-1:123456789012"
BRIDGE_POLICY = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{ACCOUNT}:client/${{iot:Connection.Thing.ThingName}}",
     "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}},
    {"Effect": "Allow", "Action": "iot:Publish", "Resource": [
        f"{ACCOUNT}:topic/$aws/rules/edgecloud_readings/${{iot:Connection.Thing.ThingName}}",
        f"{ACCOUNT}:topic/edgecloud/alerts"]},
    {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{ACCOUNT}:topicfilter/edgecloud/receipts/*"},
    {"Effect": "Allow", "Action": "iot:Receive",
     "Resource": f"{ACCOUNT}:topic/edgecloud/receipts/${{iot:Connection.Thing.ThingName}}"}]}


async def refused_at_the_door(port: int, device) -> bool:
    """Whether the connection ends without a CONNACK."""
    try:
        client = await RawClient.open(port, device)
        await client.greet(p.Connect("x", MQTT_5))
    except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        return True
    return False


@in_loop
async def test_only_active_registered_certificates_of_the_ca_get_in(ca: LocalCa, tmp_path) -> None:
    async with running(ca) as rig:
        device = rig.device("door")
        stranger = make_device(ca, "unregistered")
        other_ca = LocalCa(tmp_path / "other")
        foreign = make_device(other_ca, "foreign")
        foreign.ca_path = ca.certificate_path
        (await RawClient.connect(rig.port, device, "door")).close()
        for status in ("INACTIVE", "REVOKED"):
            other = make_device(ca, status)
            rig.registry.add_certificate(other.pem, status)
            assert await refused_at_the_door(rig.port, other), status
        assert await refused_at_the_door(rig.port, stranger)
        assert await refused_at_the_door(rig.port, foreign)
        await until(lambda: rig.gateway.counters.refused == 4, "four refusals")


@in_loop
async def test_no_client_certificate_no_handshake(ca: LocalCa) -> None:
    async with running(ca) as rig:
        context = ssl.create_default_context(cafile=str(ca.certificate_path))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            reader, _ = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context, server_hostname="localhost")
            if not await reader.read(1):  # TLS 1.3 tells at the first read
                raise ConnectionResetError
        await until(lambda: rig.gateway.counters.refused == 1, "the refusal")


@in_loop
async def test_old_tls_is_refused(ca: LocalCa) -> None:
    async with running(ca) as rig:
        context = rig.device("old").context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", rig.port, ssl=context, server_hostname="localhost")


@in_loop
async def test_deactivating_a_certificate_drops_its_connections(ca: LocalCa) -> None:
    async with running(ca) as rig:
        keep, drop = rig.device("keep"), rig.device("drop")
        kept = await RawClient.connect(rig.port, keep, "keep")
        dropped = await RawClient.connect(rig.port, drop, "drop")
        rig.registry.set_status(certificate_id(drop.pem), "INACTIVE")
        assert await dropped.disconnected() == p.ADMINISTRATIVE_ACTION
        await kept.quiet()
        assert rig.gateway.counters.connections == 1


@in_loop
async def test_connack_states_what_aws_offers(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = await RawClient.open(rig.port, rig.device("connack"))
        connack = await client.greet(p.Connect("connack", MQTT_5, keep_alive_s=5, properties={
            "session_expiry_interval": 100_000}))
        assert connack == p.Connack(False, 0, {
            "maximum_qos": 1, "retain_available": 1, "topic_alias_maximum": 8, "receive_maximum": 100,
            "wildcard_subscription_available": 1, "subscription_identifier_available": 0,
            "shared_subscription_available": 0, "maximum_packet_size": 149_504, "session_expiry_interval": 3600,
            "server_keep_alive": 30})


@in_loop
async def test_the_aws_sdk_delivers_to_the_rule_engine(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = AwsClient(rig.port, rig.device("EdgeCloudAWS", BRIDGE_POLICY), "EdgeCloudAWS")
        settings = (await AwsClient.next(client.connected)).negotiated_settings
        assert settings.receive_maximum_from_server == 100
        assert settings.maximum_packet_size_to_server == 149_504
        assert await client.publish("$aws/rules/edgecloud_readings/EdgeCloudAWS", b"batch") == 0
        assert await client.publish("edgecloud/alerts", b"alert") == 0
        batch, alert = rig.received
        assert (batch.topic, batch.rule_name, batch.payload) == ("EdgeCloudAWS", "edgecloud_readings", b"batch")
        assert (alert.topic, alert.rule_name) == ("edgecloud/alerts", None)
        assert batch.client_id == "EdgeCloudAWS" and batch.source_ip == "127.0.0.1" and batch.qos == 1
        assert batch.principal in rig.registry.certificates
        await client.stop()


@in_loop
async def test_connect_is_refused_without_a_matching_policy(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.open(rig.port, device)
        assert (await client.greet(p.Connect("someone-else", MQTT_5))).reason_code == p.NOT_AUTHORIZED
        client = await RawClient.open(rig.port, device, MQTT_3_1_1)
        assert (await client.greet(p.Connect("someone-else", MQTT_3_1_1))).reason_code == 5
        rig.registry.detach_thing("EdgeCloudAWS", next(iter(rig.registry.certificates)))
        client = await RawClient.open(rig.port, device)
        assert (await client.greet(p.Connect("EdgeCloudAWS", MQTT_5))).reason_code == p.NOT_AUTHORIZED


@in_loop
async def test_policies_see_how_a_client_connects(ca: LocalCa) -> None:
    attributes, topic = "iot:ConnectAttributes", f"{ACCOUNT}:topic/wills"
    policy = {"Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*",
         "Condition": {"ForAllValues:StringEquals": {attributes: []}}},
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": {
            "ForAllValues:StringEquals": {attributes: ["LastWill"]}, "ArnEquals": {"iot:LastWillTopic": topic}}}]}
    kept = {"clean_start": False, "properties": {"session_expiry_interval": 60}}
    async with running(ca) as rig:
        device = rig.device("odd", policy)
        for version, connect, code in (
                (MQTT_5, {}, 0), (MQTT_5, {"clean_start": False}, 0), (MQTT_5, kept, p.NOT_AUTHORIZED),
                (MQTT_3_1_1, {}, 0), (MQTT_3_1_1, {"clean_start": False}, 5),
                (MQTT_5, {"will": p.Will("wills", b"")}, 0), (MQTT_5, {"will": p.Will("other", b"")}, p.NOT_AUTHORIZED),
                (MQTT_5, {**kept, "will": p.Will("wills", b"")}, p.NOT_AUTHORIZED)):
            client = await RawClient.open(rig.port, device, version)
            assert (await client.greet(p.Connect("odd", version, **connect))).reason_code == code, connect
            client.close()


@in_loop
async def test_a_denied_publish(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS")
        assert (await client.publish("edgecloud/other")).reason_code == p.NOT_AUTHORIZED
        assert (await client.publish("$aws/rules/edgecloud_events/EdgeCloudAWS")).reason_code == p.NOT_AUTHORIZED
        assert (await client.publish("edgecloud/alerts")).reason_code == 0  # the connection stays
        client.send(p.Publish("edgecloud/other", b"", 0))  # nothing to acknowledge: disconnected
        assert await client.disconnected() == p.NOT_AUTHORIZED
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS", MQTT_3_1_1)
        client.send(p.Publish("edgecloud/other", b"", 1, packet_id=1))
        assert await client.disconnected() is None
        assert rig.payloads() == [b"x"]
        assert rig.gateway.counters.denied == 4


@in_loop
async def test_the_aws_sdk_sees_the_failing_puback(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = AwsClient(rig.port, rig.device("EdgeCloudAWS", BRIDGE_POLICY), "EdgeCloudAWS")
        await AwsClient.next(client.connected)
        assert await client.publish("edgecloud/other") == p.NOT_AUTHORIZED
        assert await client.subscribe("edgecloud/status/x") == [p.NOT_AUTHORIZED]
        assert await client.subscribe("edgecloud/receipts/EdgeCloudAWS") == [1]
        await client.stop()


@in_loop
async def test_denied_subscriptions_and_deliveries(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS")
        codes = await client.subscribe("edgecloud/receipts/#", "edgecloud/alerts", "#")
        assert codes == [1, p.NOT_AUTHORIZED, p.NOT_AUTHORIZED]
        await rig.gateway.publish("edgecloud/receipts/someone-else", b"not yours", 1)  # iot:Receive denies it
        await rig.gateway.publish("edgecloud/receipts/EdgeCloudAWS", b"yours", 1)
        assert (await client.message()).payload == b"yours"
        old = await RawClient.connect(rig.port, device, "EdgeCloudAWS", MQTT_3_1_1)
        assert await old.subscribe("edgecloud/alerts", "edgecloud/receipts/+") == [0x80, 1]


@in_loop
async def test_policies_change_under_a_live_connection(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("live"), "live")
        assert (await client.publish("a")).reason_code == 0
        certificate = next(iter(rig.registry.certificates))
        rig.registry.detach_policy("policy-live", certificate)
        assert (await client.publish("a")).reason_code == p.NOT_AUTHORIZED
        rig.registry.attach_policy("policy-live", certificate)
        assert (await client.publish("a")).reason_code == 0


@in_loop
async def test_retain_needs_its_own_permission(ca: LocalCa) -> None:
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": "*"}]}
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("retains", policy), "retains")
        assert (await client.publish("a")).reason_code == 0
        assert (await client.publish("a", retain=True)).reason_code == p.NOT_AUTHORIZED
