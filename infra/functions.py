"""One Lambda function from its file lambdas/<name>.py, with package, role and log, for the ingest and api stacks."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.settings import ROOT, Settings, logical_id

LOG_RETENTION = logs.RetentionDays.ONE_MONTH


def package(name: str, root: Path = ROOT) -> lambda_.Code:
    """The code of one function: its file, the table shapes and the contract, under the same dotted names as in `root`.

    Docker's ignore rules, since the default ones pack dotfiles, .env included.
    """
    return lambda_.Code.from_asset(
        str(root), ignore_mode=cdk.IgnoreMode.DOCKER,
        exclude=["**", "!contract", "!lambdas/__init__.py", "!lambdas/table.py", f"!lambdas/{name}.py",
                 "contract/examples", "**/__pycache__", "**/*.pyc", "**/.DS_Store"])


def allow(actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    """A statement that allows these actions on these resources."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources))


def function(scope: Construct, settings: Settings, name: str, *, description: str, timeout_s: int, memory_mib: int,
             environment: Mapping[str, str], access: Sequence[iam.PolicyStatement]) -> lambda_.Function:
    """Build the function whose handler is lambdas.<name>.handler; it may do what `access` says and write its log."""
    title = logical_id(name)
    group = logs.LogGroup(scope, f"{title}Log", retention=LOG_RETENTION, removal_policy=cdk.RemovalPolicy.DESTROY)
    write_log = allow(["logs:CreateLogStream", "logs:PutLogEvents"], [group.log_group_arn])
    role = iam.Role(
        scope, f"{title}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        inline_policies={"Access": iam.PolicyDocument(statements=[write_log, *access])})
    made = lambda_.Function(
        scope, f"{title}Function", code=package(name), handler=f"lambdas.{name}.handler", description=description,
        runtime=lambda_.Runtime.PYTHON_3_13, architecture=lambda_.Architecture.ARM_64, role=role, log_group=group,
        timeout=cdk.Duration.seconds(timeout_s), memory_size=memory_mib,
        logging_format=lambda_.LoggingFormat.JSON,
        application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
        # Start and end lines of each invocation would cost more than the invocation; durations are in the metrics.
        system_log_level_v2=lambda_.SystemLogLevel.WARN,
        environment={**environment, "EDGECLOUD_VERSION": settings.version})
    # CDK makes the function wait for the role a second time; its reference to the role is enough, the policy is in it.
    cast(lambda_.CfnFunction, made.node.default_child).add_deletion_override("DependsOn")
    return made
