"""What the roles of a running local cloud may do, beside what was done: by what ran in it, and by the handlers under
their own tests (tests/recorded_calls.py)."""
from collections.abc import Iterable
from typing import NamedTuple

from local_cloud.cloud import LocalCloud
from local_cloud.iam import Iam
from local_cloud.iam_policy import matches
from local_cloud.iam_requests import Need
from tests.recorded_calls import Recorded

# Actions that AWS gives no resource to: https://docs.aws.amazon.com/service-authorization/latest/reference/
WITHOUT_RESOURCE = {"dynamodb:ListStreams", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
_PREFIX = {"iot-data": "iot", "dynamodbstreams": "dynamodb"}  # SDK's service: IAM's


class Grant(NamedTuple):
    """A role may do an action on what fits a resource pattern."""

    role: str
    action: str
    pattern: str


def grants(iam: Iam) -> set[Grant]:
    """Everything that the roles' policies allow."""
    return {Grant(name, action, pattern) for name, role in iam.roles.items() for statement in role.statements()
            for action in statement.actions for pattern in statement.resources}


def unused(iam: Iam, done: Iterable[tuple[str, Need]]) -> list[Grant]:
    """The grants that nobody made use of."""
    uses = {(use.role, use.action, use.resource) for use in iam.used} | {(role, *need) for role, need in done}
    return sorted(grant for grant in grants(iam) if not any(
        role == grant.role and action == grant.action and matches(grant.pattern, resource)
        for role, action, resource in uses))


def needed(cloud: LocalCloud, title: str, calls: Iterable[Recorded], thing: str) -> list[tuple[str, Need]]:
    """Recorded calls as (role, what it needs), with the names that the functions have in this cloud.

    title: what the names of the deployment's stacks begin with; thing: in whose place a recorded receipt stands.
    """
    functions = cloud.services.functions
    found = []
    for name in functions.names():
        function = functions.by_name(name)
        assert function is not None
        for call in calls:
            if name.startswith(title) and function.settings.handler == f"lambdas.{call.function}.handler":
                role = cloud.services.iam.role_of(name).rpartition("/")[2]
                found.append((role, _need(cloud.services.iam, call, function.settings.variables, thing)))
    return found


def _need(iam: Iam, call: Recorded, variables: dict[str, str], thing: str) -> Need:
    names, resource = iam.names, call.resource
    if resource.startswith("$"):
        assert resource[1:] in variables, (
            f"{call.function} reads {resource[1:]} under its tests; infra/ gives it no such variable")
        resource = variables[resource[1:]]
    action = f"{_PREFIX.get(call.service, call.service)}:{call.operation}"
    if call.service == "dynamodb":
        resource = names.table(resource, call.index)
    elif call.service == "firehose":
        resource = names.arn("firehose", f"deliverystream/{resource}")
    elif call.service == "iot-data":
        resource = names.arn("iot", f"topic/{resource.rpartition('/')[0]}/{thing}")
    elif call.service != "sns":
        raise AssertionError(f"{call}: say in tests/privileges.py which ARN this call is about")
    return Need(action, resource)


def refused(iam: Iam, done: Iterable[tuple[str, Need]]) -> list[str]:
    """What was needed and no policy allows."""
    allowed = grants(iam)
    return sorted({f"{role} may not {need.action} on {need.resource}" for role, need in done if not any(
        grant.role == role and grant.action == need.action and matches(grant.pattern, need.resource)
        for grant in allowed)})


def too_wide(iam: Iam) -> list[Grant]:
    """Grants with a wildcard that is none of an object's key, or on everything."""
    return sorted(grant for grant in grants(iam) if "*" in grant.action or (
        grant.action not in WITHOUT_RESOURCE if grant.pattern == "*"
        else "*" in grant.pattern and not _behind_a_prefix(grant.pattern)))


def _behind_a_prefix(pattern: str) -> bool:
    """Objects under a prefix of a bucket, or the streams of one log group: the wildcard stands last."""
    head = pattern.removesuffix("*")
    return "*" not in head and "?" not in head and (
        (head.startswith("arn:aws:s3:::") and head.count("/") > 1) or head.startswith("arn:aws:logs:"))
