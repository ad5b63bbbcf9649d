"""The device gateway of the local cloud: an MQTT broker that behaves as AWS IoT Core's does."""

from local_cloud.gateway.broker import Broker
from local_cloud.gateway.faults import Counters, Faults
from local_cloud.gateway.limits import AWS_RULES, STANDARD_RULES, Limits, Rules
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.policy import PolicyError
from local_cloud.gateway.registry import (
    Certificate,
    LimitReached,
    NotRegistered,
    Policy,
    Registry,
    RegistryError,
    Thing,
)
from local_cloud.gateway.server import Gateway

__all__ = ["AWS_RULES", "STANDARD_RULES", "Broker", "Certificate", "Counters", "Faults", "Gateway", "LimitReached",
           "Limits", "NotRegistered", "Policy", "PolicyError", "Publish", "Registry", "RegistryError", "Rules", "Thing"]
