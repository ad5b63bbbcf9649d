"""AWS::IAM: from template properties to roles and policies, judged by local_cloud/iam.py and shown by moto's API."""

import json
from typing import Any

from local_cloud.resources.registry import MOTO, TAGS, Applied, Context, Properties, require, resource

ENFORCED = (
    "enforced (`--iam lifted` for not): what a function's SDK calls, its log, traces, mappings and dead letters, a "
    "rule's actions and a delivery stream need is looked up in the role's policies, its trust policy included; "
    "refused as on AWS with AccessDenied, or at the start where AWS refuses the resource"
)
NO_USERS = {
    "Users": "IAM users are not emulated; attach to roles",
    "Groups": "IAM groups are not emulated; attach to roles",
}


async def _put_inline(context: Context, role: str, policies: list[dict[str, Any]]) -> None:
    for policy in policies:
        context.services.iam.put_policy(role, policy["PolicyName"], policy["PolicyDocument"])
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
    honoured="RoleName AssumeRolePolicyDocument ManagedPolicyArns Policies Path Description MaxSessionDuration",
    stated={"PermissionsBoundary": "boundaries are not evaluated", **TAGS},
    note=ENFORCED,
)
async def role(properties: Properties, context: Context) -> Applied:
    """One role with its inline policies."""
    name = context.name(properties, "RoleName", 64)
    trust = require(properties, "AssumeRolePolicyDocument")
    iam = context.services.iam
    iam.add_role(name, trust, properties.get("ManagedPolicyArns", []))
    seconds = properties.get("MaxSessionDuration")
    made = (
        await context.call(
            "iam",
            "create_role",
            RoleName=name,
            Path=properties.get("Path"),
            Description=properties.get("Description"),
            AssumeRolePolicyDocument=json.dumps(trust),
            MaxSessionDuration=int(seconds) if seconds else None,
        )
    )["Role"]
    await _put_inline(context, name, properties.get("Policies", []))

    async def delete() -> None:
        for policy in (await context.call("iam", "list_role_policies", RoleName=name))["PolicyNames"]:
            await context.call("iam", "delete_role_policy", RoleName=name, PolicyName=policy)
        await context.call("iam", "delete_role", RoleName=name)
        iam.remove_role(name)

    return Applied(name, {"Arn": made["Arn"], "RoleId": made["RoleId"]}, delete)


@resource("AWS::IAM::Policy", MOTO, honoured="PolicyName PolicyDocument Roles", attributes="Id", note=ENFORCED,
          refused=NO_USERS)
async def policy(properties: Properties, context: Context) -> Applied:
    """An inline policy of roles."""
    name, roles = require(properties, "PolicyName"), properties.get("Roles", [])
    for one in roles:
        await _put_inline(context, one, [properties])

    async def delete() -> None:
        for one in roles:
            context.services.iam.remove_policy(one, name)
            await context.call("iam", "delete_role_policy", RoleName=one, PolicyName=name)

    return Applied(name, {"Id": name}, delete)


@resource(
    "AWS::IAM::ManagedPolicy",
    MOTO,
    attributes="PolicyArn PolicyId",
    honoured="ManagedPolicyName PolicyDocument Description Path Roles",
    stated=TAGS,
    refused=NO_USERS,
    note=ENFORCED,
)
async def managed_policy(properties: Properties, context: Context) -> Applied:
    """A policy with an ARN of its own, of the roles that it names."""
    iam, roles = context.services.iam, properties.get("Roles", [])
    document = require(properties, "PolicyDocument")
    made = (
        await context.call(
            "iam",
            "create_policy",
            PolicyName=context.name(properties, "ManagedPolicyName", 128),
            Path=properties.get("Path"),
            PolicyDocument=json.dumps(document),
            Description=properties.get("Description"),
        )
    )["Policy"]
    for one in roles:
        iam.put_policy(one, made["Arn"], document)

    async def delete() -> None:
        for one in roles:
            iam.remove_policy(one, made["Arn"])
        await context.call("iam", "delete_policy", PolicyArn=made["Arn"])

    return Applied(made["Arn"], {"PolicyArn": made["Arn"], "PolicyId": made["PolicyId"]}, delete)
