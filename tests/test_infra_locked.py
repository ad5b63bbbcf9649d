"""Every resource of every stack, whoever adds it: encrypted at rest and in transit, closed to the public, logged for a
bounded time, restorable, and kept when its stack goes. A type that this file does not know fails until it does."""
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contract import topics
from tests.synthesized import Context, Template, assembly, listed, text

CONTEXTS: list[Context] = [
    (), (("monitoring", "full"), ("alert_email", "a@example.org"), ("things", "EdgeCloudAWS,SiteB@EdgeCloudAWS")),
    (("ephemeral", "true"),)]
REMADE = ("Page",)  # a command fills it anew: the dashboard's page
# What is lost with the others cannot be made again: kept unless the deployment is a trial.
STATEFUL = {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Cognito::UserPool"}
RETENTION_DAYS = 400  # the longest that a log may be kept
NO_TLS = {"Bool": {"aws:SecureTransport": "false"}}
# They hold no data of a site's, take none from the public, and have no setting that would lock them further.
NOTHING_TO_LOCK = {
    "AWS::SSM::Parameter", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Logs::QueryDefinition",
    "AWS::IAM::Role", "AWS::Events::Rule", "AWS::Lambda::EventSourceMapping", "AWS::IoT::Thing",
    "AWS::IoT::Certificate", "AWS::IoT::PolicyPrincipalAttachment", "AWS::IoT::ThingPrincipalAttachment",
    "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy", "AWS::Cognito::UserPoolDomain",
    "AWS::ApiGatewayV2::Integration", "AWS::Budgets::Budget", "AWS::Glue::Database", "AWS::Glue::Table",
    "AWS::Athena::NamedQuery", "AWS::CloudFront::OriginAccessControl"}
Resource = dict[str, Any]
Found = list[tuple[Template, str, Resource]]


def everything(context: Context) -> Found:
    """(template, logical id, resource) of all stacks."""
    read = [json.loads(path.read_text()) for path in sorted(assembly(*context).glob("*.template.json"))]
    return [(template, name, one) for template in read for name, one in template["Resources"].items()]


def statements(template: Template, kind: str, key: str, name: str) -> Iterator[dict[str, Any]]:
    """The statements of the resource policies (type `kind`, whose property `key` names what they are on) on `name`."""
    for one in template["Resources"].values():
        properties = one.get("Properties", {})
        if one["Type"] == kind and {"Ref": name} in listed(properties[key]):
            yield from properties["PolicyDocument"]["Statement"]


def refuses_without_tls(template: Template, kind: str, key: str, name: str, action: str) -> bool:
    return any(one["Effect"] == "Deny" and action in listed(one["Action"]) and one.get("Condition") == NO_TLS
               and one["Principal"] in ("*", {"AWS": "*"}) for one in statements(template, kind, key, name))


def bucket(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not given.get("BucketEncryption"):
        yield "encryption=s3.BucketEncryption.S3_MANAGED"
    if set(given.get("PublicAccessBlockConfiguration", {}).values()) != {True} or len(
            given["PublicAccessBlockConfiguration"]) != 4:
        yield "block_public_access=s3.BlockPublicAccess.BLOCK_ALL"
    if not refuses_without_tls(template, "AWS::S3::BucketPolicy", "Bucket", name, "s3:*"):
        yield "enforce_ssl=True"
    if any(one["Effect"] == "Allow" and one["Principal"] in ("*", {"AWS": "*"})
           for one in statements(template, "AWS::S3::BucketPolicy", "Bucket", name)):
        yield "no statement that allows everybody"


def queue(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not (given.get("SqsManagedSseEnabled") or given.get("KmsMasterKeyId")):
        yield "encryption=sqs.QueueEncryption.SQS_MANAGED"
    if not refuses_without_tls(template, "AWS::SQS::QueuePolicy", "Queues", name, "sqs:*"):
        yield "enforce_ssl=True"


def topic(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not refuses_without_tls(template, "AWS::SNS::TopicPolicy", "Topics", name, "sns:Publish"):
        yield "infra.notices.topic(), which refuses what comes without TLS"
    for one in statements(template, "AWS::SNS::TopicPolicy", "Topics", name):
        if one["Effect"] == "Allow" and "aws:SourceAccount" not in json.dumps(one.get("Condition", {})):
            yield "a condition on aws:SourceAccount: any account's alarms may publish otherwise"


def table(template: Template, name: str, given: Resource) -> Iterator[str]:
    # Encrypted at rest always, with DynamoDB's own key unless told otherwise.
    if not given.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"):
        yield "point in time recovery"


def stream(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not given.get("DeliveryStreamEncryptionConfigurationInput"):
        yield "encryption of what it buffers (keyType AWS_OWNED_CMK)"


def log_group(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not 0 < given.get("RetentionInDays", 0) <= RETENTION_DAYS:
        yield f"a retention of at most {RETENTION_DAYS} days"


def function(template: Template, name: str, given: Resource) -> Iterator[str]:
    if "LogGroup" not in given.get("LoggingConfig", {}):
        yield "a log group of the template's: the one that Lambda makes keeps its lines for ever"
    for key in given.get("Environment", {}).get("Variables", {}):
        if any(word in key for word in ("SECRET", "PASSWORD", "TOKEN")):
            yield f"{key} out of the environment, which whoever may describe the function reads"


def permission(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not (given.get("SourceArn") or given.get("SourceAccount")):
        yield "a SourceArn: any account's service could call the function otherwise"


def subscription(template: Template, name: str, given: Resource) -> Iterator[str]:
    if given["Protocol"] == "http":
        yield "a protocol that is encrypted"


def rule(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not given["TopicRulePayload"].get("ErrorAction"):
        yield "an error action"


def user_pool(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not given.get("AdminCreateUserConfig", {}).get("AllowAdminCreateUserOnly"):
        yield "self_sign_up_enabled=False"
    if given.get("Policies", {}).get("PasswordPolicy", {}).get("MinimumLength", 0) < 12:
        yield "passwords of 12 characters or more"


def user_pool_client(template: Template, name: str, given: Resource) -> Iterator[str]:
    flows = given.get("AllowedOAuthFlows", [])
    if {"implicit", "client_credentials"} & set(flows) and given.get("AllowedOAuthFlowsUserPoolClient"):
        yield "the authorization code flow alone"
    for url in given.get("CallbackURLs", []) if flows else []:
        if isinstance(url, str) and not url.startswith(("https://", "http://localhost", "http://127.0.0.1")):
            yield f"https in {url}"


def api(template: Template, name: str, given: Resource) -> Iterator[str]:
    if "*" in given.get("CorsConfiguration", {}).get("AllowOrigins", []):
        yield "CORS for the dashboard's origin only"


def stage(template: Template, name: str, given: Resource) -> Iterator[str]:
    if not given.get("DefaultRouteSettings", {}).get("ThrottlingRateLimit"):
        yield "throttling"


def route(template: Template, name: str, given: Resource) -> Iterator[str]:
    if given["RouteKey"] not in ("GET /health", "$default") and given.get("AuthorizationType") != "JWT":
        yield "the JWT authorizer"


def authorizer(template: Template, name: str, given: Resource) -> Iterator[str]:
    if given["AuthorizerType"] != "JWT" or not given.get("JwtConfiguration", {}).get("Audience"):
        yield "a JWT authorizer with an audience"


def device_policy(template: Template, name: str, given: Resource) -> Iterator[str]:
    for one in given["PolicyDocument"]["Statement"]:
        for resource in map(text, listed(one["Resource"])):
            head, _, rest = resource.partition("${iot:Connection.Thing.ThingName}")
            if "*" in head + json.dumps(one["Action"]):
                yield f"the thing's own name before any wildcard in {resource}"
            if not (rest or resource.endswith("}") or resource.endswith(f"topic/{topics.ALERTS}")):
                yield f"the thing's own name in {resource}; alerts alone are told apart by the rule"


def work_group(template: Template, name: str, given: Resource) -> Iterator[str]:
    settings = given["WorkGroupConfiguration"]
    if not settings.get("EnforceWorkGroupConfiguration"):
        yield "EnforceWorkGroupConfiguration"
    if not settings.get("ResultConfiguration", {}).get("EncryptionConfiguration"):
        yield "encrypted results"


def distribution(template: Template, name: str, given: Resource) -> Iterator[str]:
    settings = given["DistributionConfig"]
    for behaviour in [settings["DefaultCacheBehavior"], *settings.get("CacheBehaviors", [])]:
        if behaviour["ViewerProtocolPolicy"] not in ("https-only", "redirect-to-https"):
            yield "viewer_protocol_policy=HTTPS_ONLY"
        if "ResponseHeadersPolicyId" not in behaviour:
            yield "a response headers policy"
    for origin in settings["Origins"]:
        if "S3OriginConfig" in origin and "OriginAccessControlId" not in origin:
            yield "origin access control: the bucket would have to be public"


def headers_policy(template: Template, name: str, given: Resource) -> Iterator[str]:
    headers = given["ResponseHeadersPolicyConfig"].get("SecurityHeadersConfig", {})
    for wanted in ("StrictTransportSecurity", "ContentSecurityPolicy", "FrameOptions", "ContentTypeOptions"):
        if wanted not in headers:
            yield wanted


Check = Callable[[Template, str, Resource], Iterator[str]]
CHECKS: dict[str, Check] = {
    "AWS::S3::Bucket": bucket, "AWS::SQS::Queue": queue, "AWS::SNS::Topic": topic, "AWS::DynamoDB::Table": table,
    "AWS::KinesisFirehose::DeliveryStream": stream, "AWS::Logs::LogGroup": log_group, "AWS::Lambda::Function": function,
    "AWS::Lambda::Permission": permission, "AWS::SNS::Subscription": subscription, "AWS::IoT::TopicRule": rule,
    "AWS::Cognito::UserPool": user_pool, "AWS::Cognito::UserPoolClient": user_pool_client,
    "AWS::ApiGatewayV2::Api": api, "AWS::ApiGatewayV2::Stage": stage, "AWS::ApiGatewayV2::Route": route,
    "AWS::ApiGatewayV2::Authorizer": authorizer,
    "AWS::CloudFront::Distribution": distribution, "AWS::CloudFront::ResponseHeadersPolicy": headers_policy,
    "AWS::IoT::Policy": device_policy, "AWS::Athena::WorkGroup": work_group}


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_resource_is_locked(context: Context) -> None:
    lacking = [f"{name} ({one['Type']}) lacks {what}" for template, name, one in everything(context)
               for what in CHECKS.get(one["Type"], lambda *_: iter(()))(template, name, one.get("Properties", {}))]
    assert not lacking, "\n".join(lacking)


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_type_is_known_here(context: Context) -> None:
    unknown = {one["Type"] for _, _, one in everything(context)} - set(CHECKS) - NOTHING_TO_LOCK
    assert not unknown, f"{sorted(unknown)}: say in CHECKS what locks them, or in NOTHING_TO_LOCK that nothing could"
    assert not set(CHECKS) & NOTHING_TO_LOCK


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_cannot_be_made_again_is_kept(context: Context) -> None:
    kept = "Delete" if ("ephemeral", "true") in context else "Retain"
    for _, name, one in everything(context):
        if one["Type"] in STATEFUL and not name.startswith(REMADE):
            assert {one.get("DeletionPolicy"), one.get("UpdateReplacePolicy")} == {kept}, (
                f"{name}: removal_policy by settings.ephemeral")
            assert one["Properties"].get("DeletionProtectionEnabled", one["Properties"].get(
                "DeletionProtection", kept == "Retain")) in (kept == "Retain", {True: "ACTIVE", False: "INACTIVE"}[
                    kept == "Retain"]), f"{name}: deletion_protection=not settings.ephemeral"
        elif one["Type"] != "AWS::Glue::Table":
            assert one.get("DeletionPolicy", "Delete") in ("Delete", "RetainExceptOnCreate", kept), (
                f"{name}: a later deployment would meet it; is it in STATEFUL?")


def tampered(kind: str, **without: Any) -> list[str]:
    """What is lacking when resources of a type lose properties, or get others."""
    lines = []
    for template, name, one in everything(()):
        if one["Type"] == kind:
            given = {**one["Properties"], **without}
            given = {key: value for key, value in given.items() if value is not None}
            lines += list(CHECKS[kind](template, name, given))
    return lines


@pytest.mark.parametrize("kind, without", [
    ("AWS::S3::Bucket", {"BucketEncryption": None}), ("AWS::SQS::Queue", {"SqsManagedSseEnabled": None}),
    ("AWS::DynamoDB::Table", {"PointInTimeRecoverySpecification": None}),
    ("AWS::KinesisFirehose::DeliveryStream", {"DeliveryStreamEncryptionConfigurationInput": None}),
    ("AWS::Logs::LogGroup", {"RetentionInDays": None}), ("AWS::Lambda::Function", {"LoggingConfig": {}}),
    ("AWS::Lambda::Permission", {"SourceArn": None}), ("AWS::ApiGatewayV2::Route", {"AuthorizationType": "NONE"}),
    ("AWS::Cognito::UserPool", {"AdminCreateUserConfig": None})])
def test_a_lock_taken_off_is_seen(kind: str, without: dict[str, Any]) -> None:
    assert not tampered(kind) and tampered(kind, **without)


@pytest.mark.parametrize("kind, policy", [("AWS::S3::Bucket", "AWS::S3::BucketPolicy"),
                                          ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy"),
                                          ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy")])
def test_a_policy_taken_away_is_seen(kind: str, policy: str) -> None:
    for template, name, one in everything(()):
        if one["Type"] == kind:
            rest = {"Resources": {key: each for key, each in template["Resources"].items() if each["Type"] != policy}}
            assert list(CHECKS[kind](rest, name, one.get("Properties", {})))
