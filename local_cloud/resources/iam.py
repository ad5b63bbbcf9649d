"""AWS::IAM roles and policies: from template properties to roles and policies in moto, stored and never enforced."""

import json
from typing import Any

from local_cloud.resources.registry import IAM_NOTE, MOTO, TAGS, Applied, Context, Properties, require, resource


async def _put_inline(context: Context, role: str, policies: list[dict[str, Any]]) -> None:
    for policy in policies:
        await context.call(
            "iam",
            "put_role_policy",
            RoleName=role,
            PolicyName=policy["PolicyName"],
            PolicyDocument=json.dumps(policy["PolicyDocument"]),
        )


@resource(
    "AWS::IAM::Role",
    MOTO,
    attributes="Arn RoleId",
    honoured="RoleName AssumeRolePolicyDocument Policies Path Description MaxSessionDuration",
    stated={
        "ManagedPolicyArns": "IAM is not enforced locally",
        "PermissionsBoundary": "IAM is not enforced locally",
        **TAGS,
    },
    note=IAM_NOTE,
)
async def role(properties: Properties, context: Context) -> Applied:
    """One role with its inline policies."""
    name = context.name(properties, "RoleName", 64)
    seconds = properties.get("MaxSessionDuration")
    made = (
        await context.call(
            "iam",
            "create_role",
            RoleName=name,
            Path=properties.get("Path"),
            Description=properties.get("Description"),
            AssumeRolePolicyDocument=json.dumps(require(properties, "AssumeRolePolicyDocument")),
            MaxSessionDuration=int(seconds) if seconds else None,
        )
    )["Role"]
    await _put_inline(context, name, properties.get("Policies", []))

    async def delete() -> None:
        for policy in (await context.call("iam", "list_role_policies", RoleName=name))["PolicyNames"]:
            await context.call("iam", "delete_role_policy", RoleName=name, PolicyName=policy)
        await context.call("iam", "delete_role", RoleName=name)

    return Applied(name, {"Arn": made["Arn"], "RoleId": made["RoleId"]}, delete)


@resource(
    "AWS::IAM::Policy",
    MOTO,
    honoured="PolicyName PolicyDocument Roles",
    attributes="Id",
    note=IAM_NOTE,
    refused={
        "Users": "IAM users are not emulated; attach to roles",
        "Groups": "IAM groups are not emulated; attach to roles",
    },
)
async def policy(properties: Properties, context: Context) -> Applied:
    """An inline policy of roles."""
    name, roles = require(properties, "PolicyName"), properties.get("Roles", [])
    for one in roles:
        await _put_inline(context, one, [properties])

    async def delete() -> None:
        for one in roles:
            await context.call("iam", "delete_role_policy", RoleName=one, PolicyName=name)

    return Applied(name, {"Id": name}, delete)


@resource(
    "AWS::IAM::ManagedPolicy",
    MOTO,
    attributes="PolicyArn PolicyId",
    honoured="ManagedPolicyName PolicyDocument Description Path",
    stated={"Roles": "IAM is not enforced locally", **TAGS},
    refused={
        "Users": "IAM users are not emulated; attach to roles",
        "Groups": "IAM groups are not emulated; attach to roles",
    },
    note=IAM_NOTE,
)
async def managed_policy(properties: Properties, context: Context) -> Applied:
    """A policy with an ARN of its own."""
    made = (
        await context.call(
            "iam",
            "create_policy",
            PolicyName=context.name(properties, "ManagedPolicyName", 128),
            Path=properties.get("Path"),
            PolicyDocument=json.dumps(require(properties, "PolicyDocument")),
            Description=properties.get("Description"),
        )
    )["Policy"]

    async def delete() -> None:
        await context.call("iam", "delete_policy", PolicyArn=made["Arn"])

    return Applied(made["Arn"], {"PolicyArn": made["Arn"], "PolicyId": made["PolicyId"]}, delete)
