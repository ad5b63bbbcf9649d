"""Who may do what: roles and policies come from the template, each call of a function, rule or stream is judged here.

`used` keeps every permission that was asked for. Not enforced, it refuses nothing and notes all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from local_cloud.aws_answers import json_answer, xml_error
from local_cloud.errors import DeployError, Unsupported
from local_cloud.http_wire import Request, Response
from local_cloud.iam_policy import Statement, allowed, parse
from local_cloud.iam_requests import Names, Need, UnknownRequest, needs
from local_cloud.signatures import function_of, service_of

log = logging.getLogger(__name__)

REMEMBERED_USES = 10_000
LAMBDA, IOT, FIREHOSE = "lambda.amazonaws.com", "iot.amazonaws.com", "firehose.amazonaws.com"
_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
# AWS's own policies that templates name most, as AWS documents them; another one refuses the start when enforced.
MANAGED: dict[str, tuple[str, ...]] = {
    "AWSLambdaBasicExecutionRole": _LOGS,
    "AWSLambdaSQSQueueExecutionRole": (*_LOGS, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
    "AWSLambdaDynamoDBExecutionRole": (*_LOGS, "dynamodb:DescribeStream", "dynamodb:GetRecords",
                                       "dynamodb:GetShardIterator", "dynamodb:ListStreams"),
    "AWSXRayDaemonWriteAccess": ("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules",
                                 "xray:GetSamplingTargets", "xray:GetSamplingStatisticSummaries"),
}


class AccessDenied(Exception):
    """What IAM answers: who may not do what, on which resource."""


@dataclass(frozen=True)
class Use:
    """A permission that a role was asked for."""

    role: str
    action: str
    resource: str


@dataclass
class Role:
    """One role: who may take it on, and its policies by name."""

    name: str
    trust: tuple[Statement, ...]
    policies: dict[str, tuple[Statement, ...]] = field(default_factory=dict)

    def statements(self) -> list[Statement]:
        """Of all its policies."""
        return [one for policy in self.policies.values() for one in policy]


class Iam:
    """Roles of one account; `enforced` says whether what no policy allows is refused."""

    def __init__(self, account_id: str, region: str, enforced: bool) -> None:
        self.enforced = enforced
        self.used: set[Use] = set()
        self.roles: dict[str, Role] = {}
        self.names = Names(account_id, region)
        self._account_id = account_id
        self._functions: dict[str, str] = {}
        self._unjudged: set[str] = set()

    def add_role(self, name: str, trust: Any, managed: Iterable[str] = ()) -> None:
        """A role with its trust policy and AWS's own policies by ARN; Unsupported for one of them not known here."""
        role = Role(name, parse(trust, "AssumeRolePolicyDocument", trust=True))
        for arn in managed:
            short = arn.rpartition("/")[2]
            if short not in MANAGED:
                if self.enforced:
                    raise Unsupported(f"ManagedPolicyArns: what {short} allows is not known here; write it as a policy "
                                      f"of the role's, or lift IAM; known: {', '.join(MANAGED)}")
                continue
            role.policies[arn] = (Statement("Allow", MANAGED[short], ("*",), (), ()),)
        self.roles[name] = role

    def put_policy(self, role: str, name: str, document: Any) -> None:
        """Give a role a policy; DeployError when there is no such role."""
        if role not in self.roles:
            raise DeployError(f"Roles: {role} is no role of this deployment")
        self.roles[role].policies[name] = parse(document, f"policy {name}")

    def remove_policy(self, role: str, name: str) -> None:
        """Take it away again; nothing when the role went before."""
        if role in self.roles:
            self.roles[role].policies.pop(name, None)

    def remove_role(self, name: str) -> None:
        """Forget a role."""
        self.roles.pop(name, None)

    def bind(self, function: str, role_arn: str) -> None:
        """A function runs as this role."""
        self._functions[function] = role_arn

    def role_of(self, function: str) -> str:
        """The ARN of a function's role, "" when it has none."""
        return self._functions.get(function, "")

    def check(self, role_arn: str, service: str, asked: Iterable[Need], source_arn: str = "") -> None:
        """Raise AccessDenied unless the service may take on the role and the role may do all that is asked."""
        name = role_arn.rpartition("/")[2]
        role, asked = self.roles.get(name), list(asked)
        if len(self.used) < REMEMBERED_USES:  # an object's key is never the same twice
            self.used |= {Use(name, *need) for need in asked}
        if not self.enforced:
            return
        if role is None:  # made elsewhere: what it allows cannot be known here
            if name not in self._unjudged:
                log.warning("role %s is none of this assembly's: what it allows is not judged", role_arn or "(none)")
                self._unjudged.add(name)
            return
        context = {"aws:SourceAccount": self._account_id, "aws:SourceArn": source_arn}
        trusting = [one for one in role.trust if service in one.services]
        if not allowed(trusting, "sts:AssumeRole", "*", context):
            raise AccessDenied(f"{service} is not authorized to assume role {role_arn}; see its "
                               "AssumeRolePolicyDocument")
        for need in asked:
            if not allowed(role.statements(), need.action, need.resource, {}):
                raise AccessDenied(
                    f"User: arn:aws:sts::{self._account_id}:assumed-role/{name} is not authorized to perform: "
                    f"{need.action} on resource: {need.resource} because no identity-based policy allows the "
                    f"{need.action} action")

    def refusal(self, request: Request) -> Response | None:
        """AWS's answer to a function's request that its role does not allow; None when it may go on.

        Requests that no function signed are a person's: they pass.
        """
        function, service = function_of(request), service_of(request)
        if function is None:
            return None
        try:
            asked = needs(request, service, self.names)
            self.check(self.role_of(function), LAMBDA, asked)
        except UnknownRequest as unknown:
            text = f"what permission {unknown} needs is not known here; write it into local_cloud/iam_requests.py"
        except AccessDenied as denied:
            text = str(denied)
        else:
            return None
        if not self.enforced:
            return None
        log.error("function %s: %s", function, text)
        return _denied(service, text)


def _denied(service: str, text: str) -> Response:
    """AccessDenied in the service's own form."""
    if service == "sns":
        return xml_error(403, "AuthorizationError", text)
    if service == "s3":
        error = f"<Error><Code>AccessDenied</Code><Message>{escape(text)}</Message></Error>"
        return Response(403, error.encode(), [("Content-Type", "text/xml")])
    status, kind = (403, "ForbiddenException") if service.startswith("iot") else (400, "AccessDeniedException")
    return json_answer(status, {"__type": kind, "message": text}, ("x-amzn-ErrorType", kind),
                       content_type="application/x-amz-json-1.0")
