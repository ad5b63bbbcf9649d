"""SNS topics: alarms and functions publish to them, people subscribe; only over TLS, and only who is named here."""
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct


def topic(scope: Construct, construct_id: str, *, display_name: str, services: Sequence[str] = ()) -> sns.Topic:
    """A topic that refuses what comes without TLS.

    services: AWS services that publish to it on their own, such as cloudwatch.amazonaws.com for alarms. A topic with a
    policy of its own has lost AWS's default one, by which an account's alarms could; functions have it by their roles.
    """
    made = sns.Topic(scope, construct_id, display_name=display_name, enforce_ssl=True)
    for service in services:
        made.add_to_resource_policy(iam.PolicyStatement(
            actions=["sns:Publish"], resources=[made.topic_arn], principals=[iam.ServicePrincipal(service)],
            conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account}}))
    return made
