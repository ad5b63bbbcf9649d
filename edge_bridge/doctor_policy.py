"""The doctor's look at what AWS IoT lets this bridge do: connect, subscribe, publish, and get receipts; findings out.

A client id has one connection: whoever comes second ends the first. So beside a running bridge nothing is tried; its
status says what its own connection was refused. With none running the doctor is the bridge for some seconds: it resumes
the bridge's session, takes no receipt away from it, and publishes an empty batch per rule, which stores nothing and is
receipted like any other. A bridge elsewhere with the same client id ends that connection: this is how it is seen.
"""
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from contract import batch, numbers, topics
from contract.errors import BadPayload
from edge_bridge import alarms, doctor_running
from edge_bridge.doctor_case import Case, Finding, fault, not_applicable, ok
from edge_bridge.doctor_cloud import handshake, tls_context
from edge_bridge.doctor_mqtt import NO_ANSWER, Connection

ANSWER_S = 4.0
SESSION_EXPIRY_S = 3600  # as iot_connection.py asks for: else the bridge's session would end sooner
NAMES = ("client id", "connect", "receipts topic", "publish", "duplicate client id", "receipts")
_POLICY = "make deploy brings this project's policy (infra/device_stack.py)"
_INACTIVE = ("is the certificate active, attached to a policy and to the thing? aws iot list-thing-principals "
             "--thing-name {thing}; aws iot describe-certificate --certificate-id …; make provision puts it right")
_ONE_EACH = "one bridge per thing: stop the other one, or give it a thing and a certificate of its own (THING)"
_LOOK = ("look at the rule's errors (bucket of the archive, errors/), the dead-letter queues (make redrive) and the "
         "function persist's log; check RULE_PREFIX, and RECEIPTS if this cloud sends none")


def policy(case: Case) -> Iterator[Finding]:
    """client id, connect, receipts topic, publish, duplicate client id, receipts."""
    chosen = case.settings
    lacks = case.lacks("IOT_ENDPOINT", "IOT_PORT", "THING", "CLIENT_ID")
    if lacks:
        yield from (not_applicable(name, lacks) for name in NAMES)
        return
    if chosen.client_id == chosen.thing:
        yield ok("client id", f"{chosen.client_id}, the thing's name")
    else:
        yield fault("client id", f"CLIENT_ID is {chosen.client_id}, the thing is {chosen.thing}: the cloud takes the "
                    f"client id for the site, and its receipts go to {topics.receipts(chosen.client_id)}",
                    "leave CLIENT_ID empty, or set THING to the same")
    if case.running:
        yield from _told_by_bridge(case, case.running)
    elif case.passive:
        yield from (not_applicable(name, "--passive, and no bridge runs here") for name in NAMES[1:])
    else:
        yield from _tried(case)


# --- beside a running bridge

def _told_by_bridge(case: Case, running: doctor_running.Running) -> Iterator[Finding]:
    first = running.status
    if not running.tells:
        yield from (not_applicable(name, "a bridge runs, and tells nothing that is of now") for name in NAMES[1:])
        return
    threading.Event().wait(case.left_s(case.watch_s))  # what changes meanwhile is told below
    later = doctor_running.look(case.settings)
    last = later.status if later and later.tells else first
    yield _told_connection(case, last)
    yield ok("receipts topic", "the running bridge is subscribed") if last["connected"].get("cloud") else \
        not_applicable("receipts topic", "the running bridge is not connected")
    yield _told_publish(case, first, last)
    yield _told_takeovers(case, first, last)
    yield _told_receipts(case, last)


def _told_connection(case: Case, status: dict[str, Any]) -> Finding:
    if status["connected"].get("cloud"):
        return ok("connect", f"the running bridge is connected as {case.settings.client_id}")
    text = status.get("alarms", {}).get(alarms.REFUSED)
    return fault("connect", f"the running bridge is not connected{': ' + text if text else ''}",
                 _INACTIVE.format(thing=case.settings.thing) if text else "see DNS, TCP, CA, SNI, and the bridge's log")


def _told_publish(case: Case, first: dict[str, Any], last: dict[str, Any]) -> Finding:
    refused = last.get("not_accepted", 0) - first.get("not_accepted", 0)
    if refused > 0:
        return fault("publish", f"{refused:.0f} of the running bridge were not accepted in {case.watch_s:g} s",
                     f"the policy must allow iot:Publish on the rules' topics and {topics.ALERTS}: {_POLICY}")
    if not last.get("publishes"):
        return not_applicable("publish", "the running bridge has published nothing yet")
    return ok("publish", f"{last['publishes']:.0f} publishes of the running bridge, "
              f"{last.get('not_accepted', 0):.0f} of them not accepted, none of those now")


def _told_takeovers(case: Case, first: dict[str, Any], last: dict[str, Any]) -> Finding:
    check, taken = "duplicate client id", last.get("takeovers", 0)
    now, connects = (last.get(name, 0) - first.get(name, 0) for name in ("takeovers", "connects"))
    if now > 0 or taken > 1:  # a single one, and not now, may have been a doctor on another machine
        return fault(check, f"another client came with {case.settings.client_id}, {taken:.0f} times since the bridge's "
                     f"start, {now:.0f} of them now", f"{_ONE_EACH}; counted anew when the bridge is started")
    if connects > 0:
        return fault(check, f"the running bridge had to connect {connects:.0f} times in {case.watch_s:g} s",
                     f"{_ONE_EACH}; if there is no other, the link breaks")
    return ok(check, f"one connection for {case.watch_s:g} s, {last.get('connects', 0):.0f} since the start, "
              f"{taken:.0f} ended by another client")


def _told_receipts(case: Case, status: dict[str, Any]) -> Finding:
    if not case.settings.receipts:
        return not_applicable("receipts", "RECEIPTS=off: an accepted batch counts as delivered")
    if status.get("receipts_overdue") or alarms.NO_RECEIPT in status.get("alarms", {}):
        return fault("receipts", f"{status.get('receipts_overdue', 0):.0f} messages were accepted and not receipted in "
                     f"RECEIPT_TIMEOUT={case.settings.receipt_timeout:g} s", _LOOK)
    if not status.get("sent"):
        return not_applicable("receipts", "the running bridge has sent nothing yet")
    return ok("receipts", f"{status.get('delivered', 0):.0f} of {status['sent']:.0f} sent readings are receipted, "
              "none is overdue")


# --- with no bridge running here

def _tried(case: Case) -> Iterator[Finding]:
    chosen = case.settings
    try:
        context = tls_context(case)
        handshake(case, context)
    except (OSError, ValueError):
        yield from (not_applicable(name, "needs an identity and TLS: see key and certificate, DNS, TCP, CA, SNI")
                    for name in NAMES[1:])
        return
    with Connection(chosen.client_id, tls=context, session_expiry_s=SESSION_EXPIRY_S) as cloud:
        refusal = cloud.connect(chosen.iot_endpoint, chosen.iot_port, case.left_s(ANSWER_S))
        if refusal:
            yield _refused(case, refusal)
            yield from (not_applicable(name, "not connected") for name in NAMES[2:])
            return
        began_s = time.monotonic()
        yield ok("connect", f"as {chosen.client_id}")
        said = cloud.subscribe(topics.receipts(chosen.thing), qos=1, timeout_s=case.left_s(ANSWER_S))[0]
        yield _tried_answer(cloud, "receipts topic", f"subscribe {topics.receipts(chosen.thing)}", said,
                            "iot:Subscribe and iot:Receive")
        sent, publish = _tried_publish(case, cloud)
        yield publish
        receipts = _tried_receipts(case, cloud, sent, subscribed=not said)
        yield _tried_alone(case, cloud, began_s)
        yield receipts


def _refused(case: Case, refusal: str) -> Finding:
    if "authorized" in refusal or "Banned" in refusal or "identifier" in refusal:
        return fault("connect", f"AWS IoT refuses {case.settings.client_id}: {refusal}",
                     f"the policy must allow iot:Connect for this client id: {_POLICY}, and the certificate must be "
                     "attached to the thing")
    what = NO_ANSWER if refusal == NO_ANSWER else f"it ended the connection ({refusal})"
    return fault("connect", f"no CONNACK: {what}", _INACTIVE.format(thing=case.settings.thing))


def _tried_answer(cloud: Connection, check: str, what: str, said: str, action: str) -> Finding:
    if not said:
        return ok(check, f"{what} is allowed")
    if cloud.ended and "taken over" in cloud.ended:
        return not_applicable(check, "another client took the connection over")
    return fault(check, f"{what}: {said}", f"the policy must allow {action} there: {_POLICY}")


def _tried_publish(case: Case, cloud: Connection) -> tuple[dict[str, str], Finding]:
    """An empty batch to each rule of Basic Ingest: ({id: rule} of those accepted, finding)."""
    sent: dict[str, str] = {}
    for kind, rule in (("readings", case.settings.rule_readings), ("events", case.settings.rule_events)):
        name, sealed = batch.seal_series(kind, "doctor-" + os.urandom(9).hex(), [])
        topic = topics.basic_ingest(rule, case.settings.thing)
        said = cloud.publish(topic, sealed, case.left_s(ANSWER_S))
        if said:
            return sent, _tried_answer(cloud, "publish", topic, said, "iot:Publish")
        sent[name] = rule
    return sent, ok("publish", f"an empty batch was accepted by {' and '.join(sent.values())}")


def _tried_receipts(case: Case, cloud: Connection, sent: dict[str, str], subscribed: bool) -> Finding:
    if not case.settings.receipts:
        return not_applicable("receipts", "RECEIPTS=off: an accepted batch counts as delivered")
    if not sent or not subscribed:
        return not_applicable("receipts", "needs the receipts topic, and a batch that was accepted")
    missing, began_s = dict(sent), time.monotonic()

    def receipted(topic: str, payload: bytes) -> bool | None:
        """Only a receipt of our own is taken; those of the bridge wait in its session."""
        try:
            ids = numbers.loads(payload)["ids"]
        except (BadPayload, KeyError, TypeError):
            return None
        ours = [name for name in ids if missing.pop(name, None)]
        return True if ours else None

    until_s = began_s + case.left_s(case.receipt_s + 0.5) - 0.5
    while missing and time.monotonic() < until_s:
        if cloud.find(receipted, until_s - time.monotonic()) is None:
            break
    if not missing:
        return ok("receipts", f"for both empty batches after {time.monotonic() - began_s:.1f} s")
    if cloud.ended:
        return not_applicable("receipts", "the connection ended before they came")
    waited_s = time.monotonic() - began_s
    return fault("receipts", f"none from {' and '.join(missing.values())} within {waited_s:.0f} s", _LOOK)


def _tried_alone(case: Case, cloud: Connection, began_s: float) -> Finding:
    ended = cloud.await_end(case.left_s(began_s + case.watch_s - time.monotonic()))
    if "taken over" in ended:
        return fault("duplicate client id", f"another client came with {case.settings.client_id}", _ONE_EACH)
    if ended:
        return not_applicable("duplicate client id", f"the connection ended ({ended})")
    return ok("duplicate client id", f"nobody else came with {case.settings.client_id} in {case.watch_s:g} s")
