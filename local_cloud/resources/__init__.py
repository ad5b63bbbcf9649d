"""Every resource type that the local cloud can deploy: importing this package fills the registry."""

from local_cloud.resources import (
    accounting,
    api,
    cognito,
    custom,
    dynamodb,
    firehose,
    functions,
    iam,
    iot,
    logs,
    monitoring,
    queues,
    s3,
    sns,
    ssm,
)
from local_cloud.resources.registry import REGISTRY, Applied, Context, ResourceType, Services

__all__ = [
    "REGISTRY",
    "Applied",
    "Context",
    "ResourceType",
    "Services",
    "accounting",
    "api",
    "cognito",
    "custom",
    "dynamodb",
    "firehose",
    "functions",
    "iam",
    "iot",
    "logs",
    "monitoring",
    "queues",
    "s3",
    "sns",
    "ssm",
]
