"""AWS::IoT: from template properties to the gateway's registry (things, certificates, policies) and the rule engine."""

from collections.abc import Awaitable, Callable
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.gateway import PolicyError, RegistryError
from local_cloud.properties import refuse_unknown
from local_cloud.resources.registry import (
    EMULATED,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    require,
    resource,
)


def _registry(call: Callable[..., Any], *arguments: Any) -> Any:
    """A registry call, its refusal as the deployer's."""
    try:
        return call(*arguments)
    except (RegistryError, PolicyError) as fault:
        raise DeployError(str(fault)) from None


def _undo(call: Callable[..., Any], *arguments: Any) -> Callable[[], Awaitable[None]]:
    async def delete() -> None:
        _registry(call, *arguments)

    return delete


@resource("AWS::IoT::Thing", EMULATED, attributes="Arn Id", honoured="ThingName AttributePayload ThingTypeName")
async def thing(properties: Properties, context: Context) -> Applied:
    """One thing of the gateway's registry."""
    payload = properties.get("AttributePayload", {})
    refuse_unknown("AttributePayload", payload, {"Attributes"})
    registry = context.services.registry
    name = context.name(properties, "ThingName", 128)
    made = _registry(registry.add_thing, name, payload.get("Attributes"), properties.get("ThingTypeName"))
    return Applied(name, {"Arn": made.arn, "Id": name}, _undo(registry.remove_thing, name))


@resource(
    "AWS::IoT::ThingType",
    STORED,
    attributes="Arn Id",
    honoured="ThingTypeName ThingTypeProperties DeprecateThingType",
    stated=TAGS,
    note="a name only",
)
async def thing_type(properties: Properties, context: Context) -> Applied:
    """A kind of thing."""
    name = context.name(properties, "ThingTypeName", 128)
    return Applied(name, {"Arn": context.services.registry.arn("thingtype", name), "Id": name})


@resource(
    "AWS::IoT::Policy",
    EMULATED,
    attributes="Arn Id",
    honoured="PolicyName PolicyDocument",
    stated=TAGS,
    note="evaluated by the gateway at each connect, publish, subscribe and receive",
)
async def policy(properties: Properties, context: Context) -> Applied:
    """What devices may do."""
    registry = context.services.registry
    name = context.name(properties, "PolicyName", 128)
    made = _registry(registry.add_policy, name, require(properties, "PolicyDocument"))
    return Applied(name, {"Arn": made.arn, "Id": name}, _undo(registry.remove_policy, name))


async def _set_status(ref: str, properties: Properties, context: Context) -> None:
    _registry(context.services.registry.set_status, ref, require(properties, "Status"))


@resource(
    "AWS::IoT::Certificate",
    EMULATED,
    attributes="Arn Id",
    honoured="CertificateSigningRequest Status CertificateMode",
    refused={
        "CertificatePem": "certificates of another CA are not admitted locally; give a CertificateSigningRequest",
        "CACertificatePem": "certificates of another CA are not admitted locally; give a CertificateSigningRequest",
    },
    note="signed by the local CA from the request, with the request's own key",
    replaced="CertificateSigningRequest CertificateMode",
    update=_set_status,
)
async def certificate(properties: Properties, context: Context) -> Applied:
    """A device certificate made from a signing request."""
    if properties.get("CertificateMode", "DEFAULT") != "DEFAULT":
        raise DeployError(f"CertificateMode: {properties['CertificateMode']!r}; only DEFAULT is emulated")
    request = require(properties, "CertificateSigningRequest")
    try:
        pem = context.services.pki.sign_csr(request)
    except ValueError as fault:
        raise DeployError(f"CertificateSigningRequest: {fault}") from None
    registry = context.services.registry
    made = _registry(registry.add_certificate, pem, require(properties, "Status"))
    return Applied(made.id, {"Arn": made.arn, "Id": made.id}, _undo(registry.remove_certificate, made.id))


@resource(
    "AWS::IoT::PolicyPrincipalAttachment",
    EMULATED,
    honoured="PolicyName Principal",
    note="the principal must be a certificate of this deployment",
    replaced="PolicyName Principal",
)
async def policy_attachment(properties: Properties, context: Context) -> Applied:
    """Gives a certificate a policy."""
    registry = context.services.registry
    name, principal = require(properties, "PolicyName"), _principal(properties, context)
    _registry(registry.attach_policy, name, principal)
    return Applied(f"{name}|{principal}", {}, _undo(registry.detach_policy, name, principal))


@resource(
    "AWS::IoT::ThingPrincipalAttachment",
    EMULATED,
    honoured="ThingName Principal ThingPrincipalType",
    note="the principal must be a certificate of this deployment",
    replaced="ThingName Principal ThingPrincipalType",
)
async def thing_attachment(properties: Properties, context: Context) -> Applied:
    """Attaches a certificate to a thing."""
    registry = context.services.registry
    name, principal = require(properties, "ThingName"), _principal(properties, context)
    _registry(registry.attach_thing, name, principal)
    return Applied(f"{name}|{principal}", {}, _undo(registry.detach_thing, name, principal))


def _principal(properties: Properties, context: Context) -> str:
    principal = str(require(properties, "Principal"))
    if principal.rpartition("cert/")[2] not in context.services.registry.certificates:
        raise DeployError(
            f"Principal: {principal} is no certificate of this local cloud; give the stack a "
            "CertificateSigningRequest instead of an existing certificate's ARN"
        )
    return principal


@resource(
    "AWS::IoT::TopicRule",
    EMULATED,
    attributes="Arn",
    honoured="RuleName TopicRulePayload",
    stated=TAGS,
    note="our evaluator of AWS IoT SQL and our actions; see python -m local_cloud.rule_sql",
)
async def topic_rule(properties: Properties, context: Context) -> Applied:
    """One rule; its SQL and actions are refused here when they are not emulated."""
    name = context.name(properties, "RuleName", 128).replace("-", "_")
    rules = context.services.rules
    rules.create(name, require(properties, "TopicRulePayload"))

    async def delete() -> None:
        rules.delete(name)

    return Applied(name, {"Arn": context.services.registry.arn("rule", name)}, delete)


@resource(
    "AWS::IoT::Logging",
    STORED,
    honoured="AccountId DefaultLogLevel RoleArn EventConfigurations",
    note="kept; the local cloud's own log says what rules refuse",
)
async def logging(properties: Properties, context: Context) -> Applied:
    """The account's IoT log level."""
    require(properties, "DefaultLogLevel")
    return Applied(str(properties.get("AccountId", context.account_id)))
