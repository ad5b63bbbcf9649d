"""The packet codec: every packet comes back as it went, in any pieces, and no bytes do more than MalformedPacket."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.gateway import packets as p
from local_cloud.gateway.codec import Parser, encode
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5, MalformedPacket, PacketTooLarge
from local_cloud.gateway.wire import ALLOWED, IDS, NEVER_ZERO, Reader, encode_varint

VERSIONS = [MQTT_3_1_1, MQTT_5]
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
blobs = st.binary(max_size=300)
packet_ids = st.integers(1, 0xFFFF)
codes = st.integers(0, 0xFF)


def values_of(name: str) -> st.SearchStrategy[object]:
    low = 1 if name in NEVER_ZERO else 0
    return {"flag": st.integers(0, 1), "u16": st.integers(low, 0xFFFF), "u32": st.integers(low, 0xFFFFFFFF),
            "text": texts, "binary": blobs,
            "pairs": st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
            "varints": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=1)}[IDS[name][1]]


def properties(packet: str, version: int) -> st.SearchStrategy[dict[str, object]]:
    if version != MQTT_5:
        return st.just({})
    return st.fixed_dictionaries({}, optional={name: values_of(name) for name in sorted(ALLOWED[packet])})


def wills(version: int) -> st.SearchStrategy[p.Will | None]:
    return st.none() | st.builds(p.Will, texts, blobs, st.integers(0, 2), st.booleans(), properties("WILL", version))


def connects(version: int) -> st.SearchStrategy[p.Connect]:
    logins = st.one_of(st.just((None, None)), st.tuples(texts, st.none() | blobs),
                       *([st.tuples(st.none(), blobs)] if version == MQTT_5 else []))
    return st.builds(
        lambda client_id, clean, keep_alive, login, will, given: p.Connect(
            client_id, version, clean, keep_alive, login[0], login[1], will, given),
        texts, st.booleans(), st.integers(0, 0xFFFF), logins, wills(version), properties("CONNECT", version))


def publishes(version: int) -> st.SearchStrategy[p.Publish]:
    def build(topic: str, payload: bytes, qos: int, retain: bool, dup: bool, packet_id: int, given: dict) -> p.Publish:
        return p.Publish(topic, payload, qos, retain, dup and qos > 0, packet_id if qos else 0, given)

    return st.builds(build, texts, blobs, st.integers(0, 2), st.booleans(), st.booleans(), packet_ids,
                     properties("PUBLISH", version))


def subscriptions(version: int) -> st.SearchStrategy[p.Subscription]:
    if version != MQTT_5:
        return st.builds(p.Subscription, texts, st.integers(0, 2))
    return st.builds(p.Subscription, texts, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2))


def every_packet(version: int) -> st.SearchStrategy[p.Packet]:
    v5 = version == MQTT_5
    reason = codes if v5 else st.just(0)
    acks = [st.builds(p.Ack, st.just(kind), packet_ids, reason, properties("ACK", version))
            for kind in (p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP)]
    return st.one_of(
        connects(version), publishes(version), *acks,
        st.builds(p.Connack, st.booleans(), codes, properties("CONNACK", version)),
        st.builds(p.Subscribe, packet_ids, st.lists(subscriptions(version), min_size=1, max_size=4),
                  properties("SUBSCRIBE", version)),
        st.builds(p.Suback, packet_ids, st.lists(codes, max_size=4), properties("ACK", version)),
        st.builds(p.Unsubscribe, packet_ids, st.lists(texts, min_size=1, max_size=4),
                  properties("UNSUBSCRIBE", version)),
        st.builds(p.Unsuback, packet_ids, st.lists(codes, max_size=4) if v5 else st.just([]),
                  properties("ACK", version)),
        st.builds(p.Pingreq), st.builds(p.Pingresp),
        st.builds(p.Disconnect, reason, properties("DISCONNECT", version)),
        *([st.builds(p.Auth, codes, properties("AUTH", version))] if v5 else []))


def packets_and_version() -> st.SearchStrategy[tuple[int, list[p.Packet]]]:
    return st.sampled_from(VERSIONS).flatmap(
        lambda version: st.tuples(st.just(version), st.lists(every_packet(version), min_size=1, max_size=4)))


@settings(max_examples=120, deadline=None)
@given(packets_and_version(), st.data())
def test_every_packet_comes_back_from_its_bytes_in_any_pieces(sent: tuple[int, list[p.Packet]], data) -> None:
    version, packets = sent
    stream = b"".join(encode(packet, version) for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    parser = Parser(version=version)
    found = [packet for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)
             for packet in parser.feed(stream[start:stop])]
    assert found == packets
    assert parser.buffered_bytes == 0


def parse_all(stream: bytes, version: int | None) -> None:
    parser = Parser(max_packet_bytes=1000, version=version)
    for start in range(0, len(stream), 7):
        for _ in parser.feed(stream[start:start + 7]):
            pass
        assert parser.buffered_bytes <= 1000 + 7


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([None, *VERSIONS]))
def test_arbitrary_bytes_raise_only_malformed_packet(stream: bytes, version: int | None) -> None:
    try:
        parse_all(stream, version)
    except MalformedPacket as error:
        assert error.reason_code >= 0x80


@settings(max_examples=300, deadline=None)
@given(packets_and_version(), st.data())
def test_damaged_packets_raise_only_malformed_packet(sent: tuple[int, list[p.Packet]], data) -> None:
    # Nearly right bytes reach far deeper into the decoder than arbitrary ones.
    version, packets = sent
    stream = bytearray(b"".join(encode(packet, version) for packet in packets))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_all(bytes(stream), version)
    except MalformedPacket as error:
        assert str(error)


@pytest.mark.parametrize(("version", "packet", "bytes_hex"), [
    (4, p.Connect("c", 4, True, 10), "100d 0004 4d515454 04 02 000a 0001 63"),
    (5, p.Connect("", 5, False, 0, properties={"session_expiry_interval": 10}),
     "1012 0004 4d515454 05 00 0000 05 11 0000000a 0000"),
    (4, p.Connack(True, 0), "2002 01 00"),
    (5, p.Connack(False, 0x87, {"reason_string": "no"}), "2008 00 87 05 1f 0002 6e6f"),
    (4, p.Publish("a/b", b"hi", 1, True, True, 10), "3b09 0003 612f62 000a 6869"),
    (5, p.Publish("a", b"", 0, properties={"topic_alias": 3}), "3007 0001 61 03 23 0003"),
    (5, p.Ack(p.PUBACK, 258), "4002 0102"),
    (5, p.Ack(p.PUBACK, 258, 0x97), "4003 0102 97"),
    (4, p.Subscribe(1, [p.Subscription("a/#", 1)]), "8208 0001 0003 612f23 01"),
    (5, p.Suback(1, [1, 0x87]), "9005 0001 00 01 87"),
    (5, p.Disconnect(0x8E), "e001 8e"),
    (4, p.Pingreq(), "c000"),
])
def test_bytes_are_those_of_the_standard(version: int, packet: p.Packet, bytes_hex: str) -> None:
    wanted = bytes.fromhex(bytes_hex)
    assert encode(packet, version) == wanted
    assert list(Parser(version=version).feed(wanted)) == [packet]


@pytest.mark.parametrize(("version", "bytes_hex", "says"), [
    (None, "c000", "not CONNECT"),
    (None, "100d 0004 4d515454 03 02 000a 0001 63", "version 3"),
    (None, "100d 0004 4d515454 04 03 000a 0001 63", "flags"),
    (4, "0000", "reserved"),
    (4, "3600", "QoS 3"),
    (4, "3803 0001 61", "DUP at QoS 0"),
    (4, "3205 0001 61 0000", "identifier 0"),
    (4, "3204 0001 61 01", "ends inside"),
    (4, "3004 0002 ff61", "not UTF-8"),
    (4, "3003 0001 00", "NUL"),
    (4, "3004 0002 eda0", "not UTF-8"),
    (4, "8005 0001 0000 00", "flags"),
    (4, "8202 0001", "without a topic filter"),
    (4, "8206 0001 0001 61 03", "options"),
    (4, "4003 0001 00", "left over"),
    (4, "c001 00", "left over"),
    (4, "30 ff ff ff ff 7f", "longer than four"),
    (4, "c0 80 00", "shortest form"),
    (4, "f000", "MQTT 5 only"),
    (5, "3009 0001 61 05 11 00000001", "does not belong"),
    (5, "300a 0001 61 06 23 0001 23 0002", "twice"),
    (5, "3007 0001 61 03 23 0000", "must not be 0"),
    (5, "3006 0001 61 02 01 02", "0 or 1"),
    (5, "3005 0001 61 09 01", "longer than its packet"),
    (5, "3007 0001 61 03 26 0001", "ends early"),
])
def test_malformed_packets_say_what_is_wrong(version: int | None, bytes_hex: str, says: str) -> None:
    with pytest.raises(MalformedPacket, match=says):
        list(Parser(version=version).feed(bytes.fromhex(bytes_hex)))


def test_a_too_large_packet_is_refused_from_its_header() -> None:
    parser = Parser(max_packet_bytes=1000, version=MQTT_5)
    with pytest.raises(PacketTooLarge, match="1001 bytes; at most 1000"):
        list(parser.feed(b"\x30" + encode_varint(998)))  # 998 and three of header
    assert parser.buffered_bytes < 10
    assert list(Parser(max_packet_bytes=1000, version=MQTT_5).feed(b"\x30" + encode_varint(997))) == []


def test_packets_before_a_malformed_one_are_kept() -> None:
    parser = Parser(version=MQTT_5)
    parser.push(encode(p.Pingreq(), MQTT_5) + b"\x00\x00")
    assert parser.next_packet() == p.Pingreq()
    with pytest.raises(MalformedPacket):
        parser.next_packet()


def test_a_connect_sets_the_version() -> None:
    parser = Parser()
    stream = encode(p.Connect("c", MQTT_5), MQTT_5) + encode(p.Publish("t", b"x", 1, packet_id=1), MQTT_5)
    assert [type(packet) for packet in parser.feed(stream)] == [p.Connect, p.Publish]
    assert parser.version == MQTT_5


@pytest.mark.parametrize("value", [0, 127, 128, 16_383, 16_384, 2_097_152, 268_435_455])
def test_varints(value: int) -> None:
    assert Reader(encode_varint(value)).varint() == value


def test_what_does_not_fit_mqtt_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="65,535"):
        encode(p.Publish("t" * 70_000, b""), MQTT_5)
    with pytest.raises(ValueError, match="variable byte integer"):
        encode_varint(268_435_456)


def test_a_stream_of_small_packets_is_cut_fast() -> None:
    packet = encode(p.Publish("sensor/data", string.ascii_letters.encode(), 1, packet_id=7), MQTT_5)
    parser = Parser(version=MQTT_5)
    assert sum(1 for _ in parser.feed(packet * 20_000)) == 20_000  # quadratic cutting would take minutes
