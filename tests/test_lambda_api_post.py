"""POST /data: one event, once, in the tables as in the archive; refused ones leave no trace."""
import base64
import json
import threading
import time
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from contract import numbers, payloads
from lambdas import api_post, persist, table, table_devices
from tests import api_rig
from tests.api_rig import ACCESS, call, get, post, refused, store
from tests.client_faults import Intercepted
from tests.cloud_tables import aggregated, dump, failures, items
from tests.messages import by_rule, event, sealed

archive = api_rig.archive
ROLLUPS = "/sites/{site}/devices/{device}/rollups"
SENT = {"device_id": "door", "persons_detected": 2}
pytestmark = pytest.mark.usefixtures("archive")


def claims_of(user: str) -> dict[str, str]:
    return {**ACCESS, "sub": user}


def test_a_posted_event_is_stored_and_listed() -> None:
    sent = {"device_id": "door", "timestamp": "2001-11-22T07:24:00+01:00", "persons_detected": 2,
            "lux": Decimal("310.50"), "zone": "gate"}
    assert post(sent) == (201, sent) and get("/data") == [sent]
    [item] = items("readings")
    assert (item["pk"], item["site"], item["at"], item["values"]) == (
        "api#door", "api", 1006410240000, {"persons_detected": 2, "lux": Decimal("310.5")})
    assert failures(aggregated()) == []
    [minute] = get(ROLLUPS, {"site": "api", "device": "door"}, from_=item["received"] // 60_000 * 60)["rollups"]
    assert minute["fields"]["persons_detected"]["n"] == 1 and minute["untrusted"]


def test_the_archive_holds_what_makes_the_very_same_item_again(archive: api_rig.Archive) -> None:
    for sent in (SENT, {**SENT, "timestamp": Decimal("1795332240.1250"), "x": {"deep": [1, None]}, "lux": 310},
                 {**SENT, "device_id": "tür", "timestamp": "2026-11-22T07:24Z"}):
        assert post(sent, idempotency_key=f"k{len(archive.lines)}")[0] == 201
    rebuilt = [item for line in archive.lines for item in persist.opened(line.decode()).items]
    assert sorted(rebuilt, key=lambda item: item["pk"]) == sorted(items("readings"), key=lambda item: item["pk"])
    assert all(line.startswith(b'{"v":1,"id":"') and line.endswith(b',"site":"api"}') for line in archive.lines)


def test_a_posted_event_without_a_timestamp_is_stamped_by_the_server() -> None:
    before_ms = int(time.time() * 1000)
    status, stored = post('{"device_id":"door","persons_detected":2}')
    assert status == 201 and stored["timestamp"].endswith("Z")
    assert before_ms <= payloads.at_ms(stored["timestamp"]) <= time.time() * 1000
    assert get("/data") == [stored]


def test_posted_events_come_newest_first_among_those_of_the_cameras() -> None:
    store(by_rule(sealed("events", {"camera-01": [event(n, n) for n in (1, 2)]})))
    for persons in (3, 4, 5):
        assert post({**SENT, "persons_detected": persons})[0] == 201
    newest = [one["persons_detected"] for one in get("/data")]
    assert sorted(newest) == [1, 2, 3, 4, 5]
    assert [n for n in newest if n > 2] == [5, 4, 3] and [n for n in newest if n <= 2] == [2, 1]
    assert [one["persons_detected"] for one in get("/data", device_id="door", limit=2)] == [5, 4]


def test_what_was_posted_is_read_from_the_table_itself_not_from_its_late_index() -> None:
    """On AWS an index follows its table after a while; here it is not answered from at all."""
    post(SENT)
    table_devices.KNOWN.clear()

    def refuse(operation: str, request: dict[str, Any]) -> None:
        assert "IndexName" not in request
        assert operation != "query" or request["ConsistentRead"] is True

    Intercepted("dynamodb", refuse)
    assert [one["persons_detected"] for one in get("/data")] == [2]


def test_two_events_of_one_microsecond_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    assert [post(SENT)[0], post(SENT)[0], post(SENT, idempotency_key="k")[0]] == [201] * 3
    assert len(dump("readings")) == len(get("/data")) == 3


# --- Idempotency-Key

def test_an_idempotency_key_makes_a_repeat_the_same_event(archive: api_rig.Archive) -> None:
    first = post(SENT, idempotency_key="k1")
    before = dump("readings")
    assert post(SENT, Idempotency_Key="k1") == first and dump("readings") == before
    assert post('{ "persons_detected": 2, "device_id": "door" }', idempotency_key="k1") == first
    assert len(set(archive.lines)) == 1, "what a repeat archives is the same, byte for byte"
    assert post(SENT, idempotency_key="k2") != first and len(dump("readings")) == 2
    assert post(SENT)[1] != post(SENT)[1] and len(dump("readings")) == 4


@pytest.mark.parametrize("other", ({"device_id": "gate"}, {"persons_detected": 3}, {"timestamp": 5}, {"zone": "x"}))
def test_a_key_stands_for_one_body(other: dict[str, Any], archive: api_rig.Archive) -> None:
    post(SENT, idempotency_key="k1")
    text = numbers.dumps({**SENT, **other})
    assert "another event" in refused(422, "POST /data", body=text, headers={"idempotency-key": "k1"})
    assert len(dump("readings")) == len(archive.lines) == 1


def test_a_key_is_its_users_own() -> None:
    first = post(SENT, claims_of("ann"), idempotency_key="1")
    other = post({**SENT, "persons_detected": 9}, claims_of("bob"), idempotency_key="1")
    assert (first[0], other[0]) == (201, 201) and len(dump("readings")) == 2


def test_a_refused_body_claims_no_key() -> None:
    assert post('{"device_id":"door"}', idempotency_key="k1")[0] == 400
    assert post(SENT, idempotency_key="k1")[0] == 201


def test_a_key_is_free_again_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = post(SENT, idempotency_key="k1")
    later_ms = table.now_ms() + 1000 * (api_post.CLAIM_S + 60)
    monkeypatch.setattr(table, "now_ms", lambda: later_ms)  # DynamoDB itself deletes days late
    assert post({**SENT, "persons_detected": 7}, idempotency_key="k1")[0] == 201 and first[0] == 201


def test_two_of_the_same_key_at_once_are_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    together = threading.Barrier(4)

    def send() -> None:
        together.wait(20)
        answers.append(post(SENT, idempotency_key="k1"))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 4 and answers == [answers[0]] * 4 and len(dump("readings")) == 1


@pytest.mark.parametrize("fault", (
    ClientError({"Error": {"Code": "ServiceUnavailableException", "Message": "arn:aws:secret"}}, "PutRecord"),
    EndpointConnectionError(endpoint_url="https://secret")))
def test_a_repeat_heals_what_was_interrupted(fault: Exception, archive: api_rig.Archive) -> None:
    archive.error = fault
    text = numbers.dumps(SENT)
    assert "secret" not in refused(503, "POST /data", body=text, headers={"idempotency-key": "k1"})
    assert get("/data") == [] and post(SENT, idempotency_key="k1")[0] == 201

    faults = [ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "BatchWriteItem")]

    def fail_once(operation: str, request: dict[str, Any]) -> None:
        if operation == "batch_write_item" and faults:
            raise faults.pop()

    Intercepted("dynamodb", fail_once)
    assert post({**SENT, "device_id": "gate"}, idempotency_key="k2")[0] == 503
    assert post({**SENT, "device_id": "gate"}, idempotency_key="k2")[0] == 201
    assert len(dump("readings")) == 2 and len(set(archive.lines)) == 2
    assert [item for line in dict.fromkeys(archive.lines) for item in persist.opened(line.decode()).items] == sorted(
        items("readings"), key=lambda item: item["event_number"])


@pytest.mark.parametrize("key", ("", "k" * 256, "schlüssel", " k", "a\tb"))
def test_an_idempotency_key_has_bounds(key: str) -> None:
    assert "Idempotency-Key" in refused(400, "POST /data", body=numbers.dumps(SENT), headers={"idempotency-key": key})
    assert dump("readings") == [] == dump("rollups")


# --- what is no event

def test_a_base64_body_is_taken() -> None:
    text = '{"device_id":"tür","timestamp":1,"persons_detected":2}'
    body = base64.b64encode(text.encode()).decode()
    assert call("POST /data", body=body, encoded=True)[:2] == (201, json.loads(text))
    assert "JSON" in refused(400, "POST /data", body="%%%", encoded=True)


@pytest.mark.parametrize(("body", "status", "detail"), (
    ("", 400, "broken JSON"), ("[]", 400, "not an object"), ('{"persons_detected":1}', 400, "missing device_id"),
    ('{"device_id":"a"}', 400, "missing persons_detected"),
    ('{"device_id":"a","persons_detected":"1"}', 400, "not a number"),
    ('{"device_id":"a/b","persons_detected":1}', 400, "bad device id"),
    ('{"device_id":"a","persons_detected":NaN}', 400, "not a number"),
    ('{"device_id":"a","persons_detected":1,"timestamp":"noon"}', 400, "bad timestamp"),
    ('{"device_id":"a","persons_detected":1,"timestamp":null}', 400, "bad timestamp"),
    ('{"device_id":"a","persons_detected":1e999}', 400, "number out of range"),
    ('{"device_id":"a","persons_detected":1,"x":"%s"}' % ("x" * 70_000), 413, "expected at most 65536"),
))
def test_a_bad_event_is_refused_with_the_reason(body: str, status: int, detail: str, archive: api_rig.Archive) -> None:
    assert detail in refused(status, "POST /data", body=body) and dump("readings") == [] == archive.lines


@pytest.mark.parametrize("content_type", ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"))
def test_only_json_is_taken(content_type: str) -> None:
    body = '{"device_id":"a","persons_detected":1}'
    assert "Content-Type" in refused(415, "POST /data", body=body, headers={"content-type": content_type})
    assert post(body, content_type="Application/JSON; charset=utf-8")[0] == 201
