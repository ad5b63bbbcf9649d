"""Names that must hold: those that one stack hands another, and the logical ids of what holds state.

The giving stack writes SSM String parameters, the taking stack reads them at deploy. No export: an export in use
blocks every change of what it names.
"""
from collections.abc import Mapping
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.settings import Settings, logical_id


def parameter_name(deployment: str, what: str) -> str:
    """`/<deployment>/<what>`: where people, scripts and the other stacks find a name."""
    return f"/{deployment}/{what}"


def give(scope: Construct, settings: Settings, values: Mapping[str, str]) -> None:
    """Write each value as the parameter `/<deployment>/<what>`."""
    for what, value in values.items():
        ssm.CfnParameter(scope, f"{logical_id(what)}Parameter", type="String", value=value,
                         name=parameter_name(settings.name, what))


def take(scope: Construct, settings: Settings, what: str) -> str:
    """Read `/<deployment>/<what>` when the stack is deployed; the giving stack must be a dependency."""
    parameter = cdk.CfnParameter(scope, logical_id(what), type="AWS::SSM::Parameter::Value<String>",
                                 default=parameter_name(settings.name, what))
    return parameter.value_as_string


def keep_logical_id(holder: Construct) -> None:
    """Make a resource's logical id its construct id alone: what holds state must keep it when constructs are moved."""
    cast(cdk.CfnResource, holder.node.default_child).override_logical_id(holder.node.id)
