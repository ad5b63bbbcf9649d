"""The embedded LAN broker as a process: MQTT by the standard, for paho and for what a raw client can see."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.gateway.state import StateError
from local_cloud.lan_broker import LanBroker
from tests.gateway_rig import DEADLINE_S, PahoClient, RawClient, in_loop, until
from tests.test_mqtt_codec import every_packet

ROOT = Path(__file__).parents[1]
KEPT_5 = {"clean_start": False, "properties": {"session_expiry_interval": 0xFFFFFFFF}}
KEPT_3 = {"clean_start": False}


@asynccontextmanager
async def broker(*options: str, port: int = 0) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """A running broker's port and process; SIGTERM at the end, and a clean exit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "local_cloud.lan_broker", "--port", str(port), *options,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    assert process.stdout and process.stderr
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode()
        assert line.startswith("listening on 127.0.0.1:"), (line, await process.stderr.read())
        yield int(line.rpartition(":")[2]), process
        if process.returncode is None:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
            assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
@in_loop
async def test_paho_talks_to_it(version: int) -> None:
    async with broker() as (port, _):
        client = await PahoClient(port, None, "pi", version).ready()
        client.client.subscribe([("sensor/#", 1), ("other/+/x", 2)])
        await until(lambda: bool(client.subscribed), "the SUBACK")
        assert client.subscribed == [["Granted QoS 1", "Granted QoS 1"]]  # QoS 2 is granted as 1
        for topic in ("sensor", "sensor/data", "sensor/data/pi", "other/a/x", "other/a/b/x", "elsewhere"):
            client.client.publish(topic, topic, qos=1)
        await until(lambda: len(client.acknowledged) == 6, "six PUBACKs")
        await until(lambda: len(client.messages) == 4, "four messages")
        topics = [topic for topic, _, _ in client.messages]
        assert topics == ["sensor", "sensor/data", "sensor/data/pi", "other/a/x"]
        client.stop()


@in_loop
async def test_retained_messages_come_to_wildcards_too() -> None:
    async with broker() as (port, _):
        client = await RawClient.connect(port, None, "bridge")
        await client.publish("sensor/ack/pi-1", b"old", retain=True)
        await client.publish("sensor/ack/pi-1", b"new", retain=True)
        await client.publish("sensor/ack/pi-2", b"two", retain=True)
        reader = await RawClient.connect(port, None, "pi", MQTT_3_1_1)
        await reader.subscribe("sensor/ack/+")
        messages = [await reader.message() for _ in range(2)]
        assert [(one.payload, one.retain) for one in messages] == [(b"new", True), (b"two", True)]
        await client.publish("sensor/ack/pi-2", b"", 2, retain=True)
        late = await RawClient.connect(port, None, "late")
        await late.subscribe("#", retain_handling=0)
        assert (await late.message()).payload == b"new"
        await late.quiet()
        await late.subscribe("#", retain_handling=1)  # it existed: nothing again
        await late.quiet()


@pytest.mark.parametrize(("version", "kept"), [(MQTT_3_1_1, KEPT_3), (MQTT_5, KEPT_5)])
@in_loop
async def test_a_session_keeps_thousands_in_order(version: int, kept: dict) -> None:
    async with broker() as (port, _):
        reader = await RawClient.connect(port, None, "bridge", version, **kept)
        await reader.subscribe("sensor/data")
        reader.close()
        sender = await RawClient.connect(port, None, "pi")
        count = 5000
        for start in range(0, count, 1000):
            numbers = range(start, start + 1000)
            sender.send(*(p.Publish("sensor/data", b"%d" % n, 1, packet_id=n + 1) for n in numbers))
            for n in numbers:
                assert await sender.receive() == p.Ack(p.PUBACK, n + 1, 0)
        reader = await RawClient.connect(port, None, "bridge", version, **kept)
        assert reader.connack and reader.connack.session_present
        half = [await reader.message() for _ in range(count // 2)]
        assert [int(one.payload) for one in half] == list(range(count // 2))
        await reader.message(acknowledge=False)
        reader.close()  # some of the last PUBACKs may be lost with it
        reader = await RawClient.connect(port, None, "bridge", version, **kept)
        rest = [await reader.message()]
        while int(rest[-1].payload) < count - 1:
            rest.append(await reader.message())
        again = int(rest[0].payload)
        assert again <= count // 2 and [int(one.payload) for one in rest] == list(range(again, count))
        assert rest[0].dup and not rest[-1].dup
        assert rest[0].packet_id == (half[again].packet_id if again < len(half) else again + 1)


@in_loop
async def test_qos_2_is_refused_clearly() -> None:
    async with broker() as (port, _):
        client = await RawClient.connect(port, None, "two")
        assert client.connack and client.connack.properties["maximum_qos"] == 1
        client.send(p.Publish("a", b"", 2, packet_id=1))
        assert await client.disconnected() == p.QOS_NOT_SUPPORTED


@in_loop
async def test_aws_limits_do_not_hold_here() -> None:
    async with broker() as (port, _):
        client = await RawClient.connect(port, None, "x" * 200)
        assert await client.subscribe(*[f"{n}/2/3/4/5/6/7/8/9/10" for n in range(20)], "$SYS/x") == [1] * 21
        payload = b"x" * 10_000_000
        client.send(p.Publish("0/2/3/4/5/6/7/8/9/10", payload, 1, packet_id=1))
        packets = [await client.receive() for _ in range(2)]
        assert [one.payload == payload for one in packets if isinstance(one, p.Publish)] == [True]
        client.send(*(p.Publish("elsewhere", b"", 1, packet_id=n) for n in range(2, 1002)))
        for n in range(2, 1002):
            assert await client.receive() == p.Ack(p.PUBACK, n)


@in_loop
async def test_takeover_will_and_no_local() -> None:
    async with broker() as (port, _):
        watcher = await RawClient.connect(port, None, "watcher")
        await watcher.subscribe("#", no_local=True)
        first = await RawClient.connect(port, None, "bridge", MQTT_5, will=p.Will("gone", b"first", 1))
        await RawClient.connect(port, None, "bridge", MQTT_3_1_1)
        assert await first.disconnected() == p.SESSION_TAKEN_OVER
        assert (await watcher.message()).payload == b"first"
        await watcher.publish("own", b"not for me")
        await watcher.quiet()


@in_loop
async def test_login(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret pässword\n", encoding="utf-8")
    async with broker("--username", "edgecloud", "--password-file", str(secret)) as (port, process):
        good = await PahoClient(port, None, "good", login=("edgecloud", "s3cret pässword")).ready()
        assert good.codes == ["Success"]
        good.stop()
        for login in (("edgecloud", b"wrong"), ("other", "s3cret pässword".encode()), (None, None)):
            client = await RawClient.open(port, None)
            connack = await client.greet(p.Connect("bad", MQTT_5, username=login[0], password=login[1]))
            assert connack.reason_code == p.BAD_USER_NAME_OR_PASSWORD
        client = await RawClient.open(port, None, MQTT_3_1_1)
        assert (await client.greet(p.Connect("bad", MQTT_3_1_1))).reason_code == 4
        assert process.stderr
        process.kill()
        refusals = (await process.stderr.read()).decode()
        assert refusals.count("connect refused") == 4 and "s3cret" not in refusals
        await process.wait()


@in_loop
async def test_state_outlives_the_process(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    async with broker("--state", str(state)) as (port, _):
        reader = await RawClient.connect(port, None, "bridge", MQTT_5, **KEPT_5)
        await reader.subscribe("sensor/data")
        sender = await RawClient.connect(port, None, "pi")
        await sender.publish("sensor/data", b"in flight")
        await reader.message(acknowledge=False)
        reader.close()
        await sender.publish("sensor/data", b"\xff\x00 waits", properties={
            "correlation_data": b"\x01", "user_property": [("k", "v")]})
        await sender.publish("config", b"kept", retain=True)
        await (await RawClient.connect(port, None, "brief")).subscribe("sensor/data")
    async with broker("--state", str(state)) as (port, _):
        reader = await RawClient.connect(port, None, "bridge", MQTT_5, **KEPT_5)
        assert reader.connack and reader.connack.session_present
        messages = [await reader.message() for _ in range(2)]
        assert [one.payload for one in messages] == [b"in flight", b"\xff\x00 waits"]
        assert messages[1].properties == {"correlation_data": b"\x01", "user_property": [("k", "v")]}
        await reader.subscribe("config")
        assert (await reader.message()).payload == b"kept"
        brief = await RawClient.connect(port, None, "brief", clean_start=False)
        assert brief.connack and not brief.connack.session_present


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@in_loop
async def test_signals_end_it_cleanly(number: signal.Signals) -> None:
    async with broker() as (port, process):
        client = await RawClient.connect(port, None, "c")
        process.send_signal(number)
        assert await client.disconnected() == p.SERVER_SHUTTING_DOWN
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        assert process.stderr and await process.stderr.read() == b""


@pytest.mark.parametrize(("text", "says"), [
    (b"{", "no broker state"), (b"\xff", "no broker state"), (b'{"format": 2}', "format 2, 1 expected"),
    (b'{"format": 1, "retained": [{"topic": "a", "payload": "x", "qos": 1, "retain": true, "client_id": null, '
     b'"properties": {}, "expires_epoch_s": null}], "sessions": []}', "no broker state")])
@in_loop
async def test_a_damaged_state_file_is_named(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(text)

    with pytest.raises(StateError, match=f"{re.escape(str(path))}.*{says}.*move it away"):
        await LanBroker("127.0.0.1", 0, state=path).start()


@settings(max_examples=60, deadline=None)
@given(st.lists(every_packet(MQTT_5), max_size=12), st.binary(max_size=60), st.booleans())
def test_no_packets_break_it(packets: list[p.Packet], garbage: bytes, greet: bool) -> None:
    failures: list[dict] = []

    @in_loop
    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        lan = LanBroker("127.0.0.1", 0)
        port = await lan.start()
        client = await RawClient.open(port, None)
        client.send(*([p.Connect("odd", MQTT_5)] if greet else []), *packets)
        client.send_bytes(garbage)
        client.end()
        await client.drained()
        await (await RawClient.connect(port, None, "well")).quiet()  # others are served
        await lan.close()
    scenario()
    assert not failures


@in_loop
async def test_a_topic_too_long_for_a_reason_string_is_refused_all_the_same() -> None:
    async with broker() as (port, _):
        client = await RawClient.connect(port, None, "long")
        client.send(p.Publish("+" * 65_535, b"", 0))
        assert await client.disconnected() == p.TOPIC_NAME_INVALID


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "local_cloud.lan_broker", *options], cwd=ROOT, capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False)


@in_loop
async def test_a_port_in_use_is_one_clear_line() -> None:
    async with broker() as (port, _):
        result = await asyncio.to_thread(run, "--port", str(port))
        assert result.returncode == 1 and result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert f"cannot listen on 127.0.0.1:{port}" in result.stderr and "--port" in result.stderr


def test_bad_options_are_one_clear_line(tmp_path: Path) -> None:
    broken, empty = tmp_path / "broken.json", tmp_path / "empty"
    broken.write_text('{"format": 1}')
    empty.write_text("\n")
    for options, says in ((["--state", str(broken)], f"{broken} is no broker state"),
                          (["--username", "u", "--password-file", str(empty)], "is empty"),
                          (["--username", "u", "--password-file", str(tmp_path / "no")], "cannot read")):
        result = run("--port", "0", *options)
        assert result.returncode == 1 and result.stderr.count("\n") == 1 and says in result.stderr, result.stderr
    assert run("--username", "u").returncode == 2
