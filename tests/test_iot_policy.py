"""IoT policy evaluation against AWS's documented rules and examples, and the registry that holds policies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_cloud.gateway.policy import (
    ALLOWED,
    EXPLICIT_DENY,
    IMPLICIT_DENY,
    LONGEST_DOCUMENT,
    PolicyError,
    evaluate,
    parse,
)
from local_cloud.gateway.registry import Registry, RegistryError
from local_cloud.pki import LocalCa, certificate_id
from tests.gateway_rig import ALLOW_ALL, make_device

ARN = "arn:aws:iot:us-east-1:123456789012:"
CONTEXT = {"iot:ClientId": "thing1", "iot:Connection.Thing.ThingName": "thing1", "aws:SourceIp": "10.0.0.7",
           "iot:Connection.Thing.IsAttached": "true", "iot:Connection.Thing.Attributes[envType]": "1",
           "iot:ConnectAttributes": ()}


def allow(action="iot:Publish", resource="*", condition=None, effect="Allow") -> dict:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def decide(statements, action="iot:Publish", resource="topic/a", **context) -> str:
    document = {"Version": "2012-10-17", "Statement": statements}
    merged = {name: value for name, value in {**CONTEXT, **context}.items() if value is not None}
    return evaluate(parse(document), action, ARN + resource, merged)


@pytest.mark.parametrize(("pattern", "name", "fits"), [
    ("topic/a", "topic/a", True), ("topic/a", "topic/ab", False), ("topic/a*", "topic/ab/c/d", True),
    ("topic/a?c", "topic/abc", True), ("topic/a?c", "topic/ac", False), ("topic/*", "topicfilter/a", False),
    ("topicfilter/some/*/topic", "topicfilter/some/+/topic", True),
    ("topicfilter/some/+/topic", "topicfilter/some/x/topic", False),  # + and # mean themselves
    ("topicfilter/a/#", "topicfilter/a/#", True), ("topicfilter/a/#", "topicfilter/a/b", False),
    ("topic/sensor.data", "topic/sensorxdata", False), ("topic/Case", "topic/case", False),
    ("topic/sensor/${iot:ClientId}/*", "topic/sensor/thing1/x", True),
    ("topic/sensor/${iot:ClientId}/*", "topic/sensor/thing2/x", False),
    ("topic/${*}", "topic/*", True), ("topic/${*}", "topic/a", False), ("topic/${?}", "topic/?", True),
    ("topic/$aws/rules/r/*", "topic/$aws/rules/r/x", True),
])
def test_resources_match_as_iam_patterns(pattern: str, name: str, fits: bool) -> None:
    assert decide([allow(resource=ARN + pattern)], resource=name) == (ALLOWED if fits else IMPLICIT_DENY)


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    deny = allow(resource=ARN + "topic/secret*", effect="Deny")
    for statements in ([allow(), deny], [deny, allow()]):
        assert decide(statements, resource="topic/secret/1") == EXPLICIT_DENY
        assert decide(statements, resource="topic/open") == ALLOWED
    assert decide([deny], resource="topic/open") == IMPLICIT_DENY


@pytest.mark.parametrize(("pattern", "action", "fits"), [
    ("iot:Publish", "iot:Publish", True), ("iot:publish", "iot:Publish", True), ("iot:*", "iot:Receive", True),
    ("*", "iot:Connect", True), ("iot:Publish", "iot:RetainPublish", False), ("iot:Pub*", "iot:Publish", True),
    (["iot:Connect", "iot:Receive"], "iot:Receive", True)])
def test_actions_match(pattern, action: str, fits: bool) -> None:
    assert (decide([allow(action=pattern)], action=action) == ALLOWED) is fits


def test_a_variable_without_a_value_matches_nothing() -> None:
    for effect in ("Allow", "Deny"):
        statement = allow(resource=ARN + "topic/${iot:Connection.Thing.ThingName}", effect=effect)
        assert decide([statement], resource="topic/", **{"iot:Connection.Thing.ThingName": None}) == IMPLICIT_DENY


@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_a_client_id_is_never_a_pattern(client_id: str, topic: str) -> None:
    statement = allow(resource=ARN + "topic/${iot:ClientId}")
    fits = decide([statement], resource="topic/" + topic, **{"iot:ClientId": client_id}) == ALLOWED
    assert fits == (client_id == topic)


def test_thing_attributes_are_variables() -> None:
    # The example of AWS's page on thing policy variables.
    statement = allow("iot:Connect", ARN + "client/*",
                      {"StringLike": {"iot:ClientId": "*${iot:Connection.Thing.Attributes[envType]}"}})
    assert decide([statement], "iot:Connect", "client/thing1") == ALLOWED
    assert decide([statement], "iot:Connect", "client/thing2", **{"iot:ClientId": "thing2"}) == IMPLICIT_DENY


def test_is_attached_as_aws_recommends() -> None:
    statement = allow("iot:Connect", ARN + "client/${iot:Connection.Thing.ThingName}",
                      {"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}})
    assert decide([statement], "iot:Connect", "client/thing1") == ALLOWED
    assert decide([statement], "iot:Connect", "client/thing1",
                  **{"iot:Connection.Thing.IsAttached": "false"}) == IMPLICIT_DENY
    assert decide([allow("iot:Connect", condition={"Bool": {"iot:Connection.Thing.IsAttached": True}})],
                  "iot:Connect") == ALLOWED


PERSISTENT, WILL = ("PersistentConnect",), ("LastWill",)
FOR_ALL, FOR_ANY = "ForAllValues:StringEquals", "ForAnyValue:StringEquals"


@pytest.mark.parametrize(("statements", "allowed", "denied"), [
    # The examples of AWS's page of connect policies.
    ([allow("iot:Connect", condition={FOR_ALL: {"iot:ConnectAttributes": ["PersistentConnect"]}})],
     [(), PERSISTENT], [WILL]),
    ([allow("iot:Connect", condition={
        "ForAllValues:StringNotEquals": {"iot:ConnectAttributes": ["PersistentConnect"]}})],
     [(), WILL], [PERSISTENT, PERSISTENT + WILL]),
    ([allow("iot:Connect"), allow("iot:Connect", effect="Deny", condition={
        FOR_ANY: {"iot:ConnectAttributes": ["PersistentConnect"]}})], [(), WILL], [PERSISTENT, PERSISTENT + WILL]),
    ([allow("iot:Connect", condition={FOR_ALL: {"iot:ConnectAttributes": ["PersistentConnect", "LastWill"]}})],
     [(), PERSISTENT, PERSISTENT + WILL], []),
    ([allow("iot:Connect", condition={"StringEquals": {"iot:ConnectAttributes": "LastWill"}})],
     [(), WILL], [PERSISTENT]),
    ([allow("iot:Connect", condition={FOR_ALL: {"iot:ConnectAttributes": []}})], [()], [WILL, PERSISTENT]),
    ([allow("iot:Connect", condition={FOR_ANY: {"iot:ConnectAttributes": ["PersistentConnect"]}})],
     [PERSISTENT, PERSISTENT + WILL], [(), WILL]),
])
def test_connect_attributes(statements, allowed, denied) -> None:
    for attributes in allowed:
        assert decide(statements, "iot:Connect", **{"iot:ConnectAttributes": attributes}) == ALLOWED, attributes
    for attributes in denied:
        assert decide(statements, "iot:Connect", **{"iot:ConnectAttributes": attributes}) != ALLOWED, attributes


@pytest.mark.parametrize(("condition", "fits"), [
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/24"}}, True), ({"IpAddress": {"aws:SourceIp": "10.0.1.0/24"}}, False),
    ({"NotIpAddress": {"aws:SourceIp": ["10.0.0.7", "192.168.0.0/16"]}}, False),
    ({"StringEquals": {"iot:ClientId": ["x", "thing1"]}}, True),
    ({"StringNotEquals": {"iot:ClientId": "thing1"}}, False),
    ({"StringEqualsIgnoreCase": {"iot:ClientId": "THING1"}}, True),
    ({"StringNotLike": {"iot:ClientId": "other*"}}, True),
    ({"StringEquals": {"iot:DomainName": "x"}}, False), ({"StringNotEquals": {"iot:DomainName": "x"}}, True),
    ({"StringEqualsIfExists": {"iot:DomainName": "x"}}, True),
    ({"ArnEquals": {"iot:LastWillTopic": ARN + "topic/will"}}, False),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.7"}, "StringEquals": {"iot:ClientId": "other"}}, False),  # all must hold
])
def test_conditions(condition: dict, fits: bool) -> None:
    assert (decide([allow(condition=condition)]) == ALLOWED) is fits


@pytest.mark.parametrize(("document", "says"), [
    ("{", "not JSON"), ({}, "no Statement"), ([], "no Statement"),
    ({"Statement": [], "Extra": 1}, "Extra"), ({"Statement": ["x"]}, "statement 1 is not an object"),
    ({"Statement": [{**allow(), "NotAction": "x"}]}, "NotAction"),
    ({"Statement": [{**allow(), "Principal": "*"}]}, "Principal"),
    ({"Statement": [allow(effect="allow")]}, "Effect"), ({"Statement": [allow(action=[])]}, "Action"),
    ({"Statement": [allow(resource={"Ref": "x"})]}, "Resource"),
    ({"Statement": [allow(), allow(resource="${iot:Nope}")]}, r"statement 2: policy variable 'iot:Nope'"),
    ({"Statement": [allow(condition={"NumericEquals": {"iot:ClientId": "1"}})]}, "NumericEquals"),
    ({"Statement": [allow(condition={"StringEquals": {"aws:CurrentTime": "1"}})]}, "aws:CurrentTime"),
    ({"Statement": [allow(condition={"StringEquals": "x"})]}, "StringEquals"),
    ({"Statement": [allow(condition="x")]}, "Condition is 'x'"),
    ({"Statement": [allow(condition={"IpAddress": {"iot:ClientId": "10.0.0.7"}})]}, "IpAddress is for aws:SourceIp"),
    ({"Statement": [allow(condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}})]}, "no IP address"),
    ({"Statement": [allow(resource="x" * LONGEST_DOCUMENT)]}, "without white space"),
])
def test_what_is_not_evaluated_is_refused(document, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse(document)


def test_a_document_is_as_long_as_its_text() -> None:
    fits = allow(resource="ü" * (LONGEST_DOCUMENT - 100))
    assert parse(json.dumps({"Statement": fits}, ensure_ascii=False)) == parse({"Statement": fits})


def test_documents_may_be_text_and_hold_one_statement() -> None:
    assert parse(json.dumps({"Statement": allow()})) == parse({"Statement": [allow()]})


# The registry


def test_the_registry_knows_what_is_attached_to_what(ca: LocalCa) -> None:
    registry = Registry("123456789012", "eu-north-1")
    certificate = registry.add_certificate(make_device(ca, "a").pem)
    assert certificate.arn == f"arn:aws:iot:eu-north-1:123456789012:cert/{certificate_id(certificate.pem)}"
    thing = registry.add_thing("a", {"site": "north"})
    assert thing.arn == "arn:aws:iot:eu-north-1:123456789012:thing/a"
    policy = registry.add_policy("p", ALLOW_ALL)
    registry.attach_thing("a", certificate.id)
    registry.attach_policy("p", certificate.arn)
    registry.attach_policy("p", certificate.arn)
    assert registry.attached_thing(certificate, "a") is thing
    assert registry.attached_thing(certificate, "b") is None
    assert registry.statements(certificate) == list(policy.statements)
    for refused in (lambda: registry.remove_thing("a"), lambda: registry.remove_policy("p"),
                    lambda: registry.remove_certificate(certificate.arn)):
        with pytest.raises(RegistryError, match="attached"):
            refused()
    registry.detach_policy("p", certificate.arn)
    registry.detach_thing("a", certificate.arn)
    registry.remove_thing("a")
    registry.remove_policy("p")
    registry.remove_certificate(certificate.arn)
    assert not (registry.things or registry.policies or registry.certificates)


def test_the_registry_refuses_what_aws_would(ca: LocalCa) -> None:
    registry = Registry()
    certificate = registry.add_certificate(make_device(ca, "b").pem)
    registry.add_thing("t")
    registry.add_policy("p", ALLOW_ALL)
    for says, call in {
        "thing 't' exists": lambda: registry.add_thing("t"),
        "policy 'p' exists": lambda: registry.add_policy("p", ALLOW_ALL),
        "exists already": lambda: registry.add_certificate(certificate.pem),
        "no PEM": lambda: registry.add_certificate("x"),
        "'nope' is not registered": lambda: registry.attach_thing("nope", certificate.id),
        "policy 'nope'": lambda: registry.attach_policy("nope", certificate.id),
        "certificate 'nope'": lambda: registry.attach_policy("p", "nope"),
        "not attached": lambda: registry.detach_policy("p", certificate.id),
        "status 'ON'": lambda: registry.set_status(certificate.id, "ON"),
    }.items():
        with pytest.raises(RegistryError, match=says):
            call()
    for number in range(10):
        registry.add_policy(f"p{number}", ALLOW_ALL)
        registry.attach_policy(f"p{number}", certificate.id)
    with pytest.raises(RegistryError, match="10 policies"):
        registry.attach_policy("p", certificate.id)


def test_watchers_hear_of_status_and_removal(ca: LocalCa) -> None:
    registry = Registry()
    heard: list[str] = []
    registry.watch(heard.append)
    certificate = registry.add_certificate(make_device(ca, "c").pem)
    version = registry.version
    registry.set_status(certificate.arn, "REVOKED")
    registry.remove_certificate(certificate.arn)
    assert heard == [certificate.id] * 2 and registry.version > version
