"""One Lambda function from its file lambdas/<name>.py, with package, role and log, for the ingest and api stacks."""
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.names import give
from infra.settings import ROOT, Settings, logical_id

LOG_RETENTION = logs.RetentionDays.ONE_MONTH


def package(name: str, root: Path = ROOT, also: Sequence[str] = ()) -> lambda_.Code:
    """The code of one function: its file, the table shapes and the contract, under the same dotted names as in `root`;
    also: functions whose further files it shares.

    Docker's ignore rules, since the default ones pack dotfiles, .env included.
    """
    return lambda_.Code.from_asset(
        str(root), ignore_mode=cdk.IgnoreMode.DOCKER,
        exclude=["**", "!contract", "!lambdas/__init__.py", "!lambdas/table*.py", f"!lambdas/{name}.py",
                 *(f"!lambdas/{one}_*.py" for one in (name, *also)),  # a function's further files
                 "contract/examples", "**/__pycache__", "**/*.pyc", "**/.DS_Store"])


def allow(actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    """A statement that allows these actions on these resources."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources))


def table_arn(stack: cdk.Stack, name: str) -> str:
    """Of a DynamoDB table of this account, by its name."""
    return stack.format_arn(service="dynamodb", resource="table", resource_name=name)


def sites(settings: Settings) -> dict[str, str]:
    """The variable SITES: the site of each thing that is a further bridge there; any other thing is a site itself."""
    return {"SITES": json.dumps(settings.sites)} if settings.sites else {}


def things(settings: Settings) -> dict[str, str]:
    """The variables THINGS and SITES: every bridge of the deployment, and whose further bridge it is."""
    return {"THINGS": ",".join(settings.things), **sites(settings)}


def function(scope: Construct, settings: Settings, name: str, *, description: str, timeout_s: int, memory_mib: int,
             environment: Mapping[str, str], access: Sequence[iam.PolicyStatement],
             logs_batches: bool = False, also: Sequence[str] = ()) -> lambda_.Function:
    """Build the function whose handler is lambdas.<name>.handler; it may do what `access` says and write its log.

    also: functions whose further files are packed with it.
    logs_batches: its INFO lines come with every batch, 7 % of what a reading costs: they need monitoring=full.
    """
    title = logical_id(name)
    group = logs.LogGroup(scope, f"{title}Log", retention=LOG_RETENTION, removal_policy=cdk.RemovalPolicy.DESTROY)
    write_log = allow(["logs:CreateLogStream", "logs:PutLogEvents"], [group.log_group_arn])
    role = iam.Role(
        scope, f"{title}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        inline_policies={"Access": iam.PolicyDocument(statements=[write_log, *access, *traces(settings)])})
    made = lambda_.Function(
        scope, f"{title}Function", code=package(name, also=also), handler=f"lambdas.{name}.handler",
        description=description, runtime=lambda_.Runtime.PYTHON_3_14, architecture=lambda_.Architecture.ARM_64,
        role=role, log_group=group,
        timeout=cdk.Duration.seconds(timeout_s), memory_size=memory_mib,
        logging_format=lambda_.LoggingFormat.JSON,
        application_log_level_v2=lambda_.ApplicationLogLevel.WARN if logs_batches and settings.monitoring != "full"
        else lambda_.ApplicationLogLevel.INFO,
        # Start and end lines of each invocation would cost more than the invocation; durations are in the metrics.
        system_log_level_v2=lambda_.SystemLogLevel.WARN,
        environment={**environment, "EDGECLOUD_VERSION": settings.version})
    # CDK makes the function wait for the role a second time; its reference to the role is enough, the policy is in it.
    plain = cast(lambda_.CfnFunction, made.node.default_child)
    plain.add_deletion_override("DependsOn")
    if traces(settings):
        plain.add_property_override("TracingConfig.Mode", "Active")
    give(scope, settings, {f"{name}-function": made.function_name, f"{name}-log": group.log_group_name})
    return made


def traces(settings: Settings) -> list[iam.PolicyStatement]:
    """What Lambda's own X-Ray tracing needs, none without it: it costs 5 dollars per million invocations.

    Neither action takes a resource.
    """
    if settings.monitoring != "full":
        return []
    return [allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"])]
