"""CloudFormation's API for the deployed stacks: requests of the AWS endpoint in, the deployer out.

DescribeStacks, DescribeStackEvents (failures only) and UpdateStack of the present template with other parameters; an
update has ended when its request is answered. Templates come from the assembly alone.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from local_cloud import stack_update
from local_cloud.aws_answers import xml_error
from local_cloud.deployer import Deployer
from local_cloud.errors import DeployError, Unsupported
from local_cloud.http_wire import Request, Response

NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
DONE, ROLLED_BACK = "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"
_IGNORED = {"Action", "Version", "ClientRequestToken", "RoleARN", "StackName", "UsePreviousTemplate"}


class Refusal(Exception):
    """CloudFormation's ValidationError: what is wrong with the request."""


class CloudFormationApi:
    """Answers from the deployer that `deployer()` gives; `changing` is held while a stack is updated."""

    def __init__(self, deployer: Callable[[], Deployer], changing: asyncio.Lock) -> None:
        self._deployer = deployer
        self._changing = changing
        self._status: dict[str, str] = {}
        self._failures: dict[str, list[tuple[str, datetime]]] = {}
        self._operations: dict[str, Callable[[dict[str, str]], Awaitable[Any]]] = {
            "DescribeStacks": self._describe_stacks,
            "DescribeStackEvents": self._describe_stack_events,
            "UpdateStack": self._update_stack,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request of the query protocol."""
        form = {
            name: values[0] for name, values in parse_qs(request.body.decode(), keep_blank_values=True).items()
        }
        action = form.get("Action", "")
        operation = self._operations.get(action)
        if operation is None:
            known = ", ".join(self._operations)
            return xml_error(501, "NotImplemented", f"CloudFormation {action} is not emulated; known: {known}")
        try:
            body = _xml({f"{action}Result": await operation(form)})
        except (Refusal, DeployError) as fault:
            return xml_error(400, "ValidationError", str(fault))
        metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        text = f'<{action}Response xmlns="{NAMESPACE}">{body}{metadata}</{action}Response>'
        return Response(200, text.encode(), [("Content-Type", "text/xml")])

    async def _describe_stacks(self, form: dict[str, str]) -> Any:
        names = [self._name(form)] if form.get("StackName") else list(self._deployer().stacks)
        return {"Stacks": [self._described(name) for name in names]}

    def _name(self, form: dict[str, str]) -> str:
        """The stack that is asked for, by name or ARN. DescribeStacks of one that is absent is an error, as on AWS."""
        asked = form.get("StackName", "")
        name = asked.split("/")[1] if asked.startswith("arn:") and asked.count("/") > 1 else asked
        if name not in self._deployer().stacks:
            raise Refusal(f"Stack with id {asked} does not exist")
        return name

    def _described(self, name: str) -> dict[str, Any]:
        deployer = self._deployer()
        return {
            "StackId": deployer.stack_id(name),
            "StackName": name,
            "CreationTime": _time(datetime.fromtimestamp(deployer.stacks[name].created_at_s, UTC)),
            "StackStatus": self._status.get(name, "CREATE_COMPLETE"),
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in deployer.given(name).items()
            ],
            "Outputs": [
                {"OutputKey": key, "OutputValue": value} for key, value in deployer.stacks[name].outputs.items()
            ],
        }

    async def _describe_stack_events(self, form: dict[str, str]) -> Any:
        name = self._name(form)
        return {
            "StackEvents": [
                {
                    "StackId": self._deployer().stack_id(name),
                    "EventId": str(uuid.uuid4()),
                    "StackName": name,
                    "LogicalResourceId": name,
                    "ResourceType": "AWS::CloudFormation::Stack",
                    "Timestamp": _time(moment),
                    "ResourceStatus": "UPDATE_FAILED",
                    "ResourceStatusReason": reason,
                }
                for reason, moment in reversed(self._failures.get(name, []))
            ]
        }

    async def _update_stack(self, form: dict[str, str]) -> Any:
        name, deployer = self._name(form), self._deployer()
        if form.get("UsePreviousTemplate") != "true":
            raise Refusal("UpdateStack of the local cloud keeps the template: give UsePreviousTemplate=true")
        unknown = sorted(
            key for key in form if key not in _IGNORED and not key.startswith(("Parameters.", "Capabilities."))
        )
        if unknown:
            raise Refusal(f"{unknown[0]} is not emulated by the local cloud")
        given = _parameters(form, deployer.given(name))
        undeclared = sorted(set(given) - set(deployer.stack(name).template.get("Parameters", {})))
        if undeclared:
            raise Refusal(f"Parameters: [{', '.join(undeclared)}] do not exist in the template")
        async with self._changing:
            try:
                changed = await stack_update.update(deployer, name, given)
            except (DeployError, Unsupported) as fault:
                self._status[name] = ROLLED_BACK
                self._failures.setdefault(name, []).append((str(fault), datetime.now(UTC)))
                changed = True
            else:
                self._status[name] = DONE if changed else self._status.get(name, "CREATE_COMPLETE")
        if not changed:
            raise Refusal("No updates are to be performed.")
        return {"StackId": deployer.stack_id(name)}


def _parameters(form: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """Every parameter with its text: those with UsePreviousValue as they were, those not named at their default."""
    found: dict[str, str] = {}
    index = 1
    while (key := form.get(f"Parameters.member.{index}.ParameterKey")) is not None:
        prefix = f"Parameters.member.{index}"
        if form.get(f"{prefix}.UsePreviousValue") != "true":
            found[key] = form.get(f"{prefix}.ParameterValue", "")
        elif key in before:
            found[key] = before[key]
        else:
            raise Refusal(f"Parameters: [{key}] has no previous value")
        index += 1
    return found


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _xml(value: Any) -> str:
    """An object's members as elements, a list's as <member>."""
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(member)}</{name}>" for name, member in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(member)}</member>" for member in value)
    return escape(str(value))
