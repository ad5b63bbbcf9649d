"""What a template sets of a function: AWS::Lambda::Function properties in, FunctionSettings for functions.py out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.properties import integer, refuse_unknown

WHERE = "AWS::Lambda::Function"
_RESERVED = {"_HANDLER", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
             "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_LOG_GROUP_NAME",
             "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
             "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_INITIALIZATION_TYPE"}


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """One function as the template wants it; `reserved` is None when no concurrency is reserved."""

    handler: str
    runtime: str
    timeout_s: int
    memory_mb: int
    architecture: str
    variables: Mapping[str, str]
    reserved: int | None
    dead_letter_arn: str | None
    log_format: str
    log_level: str | None
    platform_logged: bool  # whether AWS would keep the start, end and report lines of each invocation


def settings_from(properties: Mapping[str, Any]) -> FunctionSettings:
    """Read the properties; Unsupported or DeployError name what cannot be honoured."""
    _check_kind(properties)
    logging_config = properties.get("LoggingConfig", {})
    refuse_unknown(f"{WHERE}.LoggingConfig", logging_config,
                   {"LogFormat", "ApplicationLogLevel", "SystemLogLevel", "LogGroup"})
    reserved = properties.get("ReservedConcurrentExecutions")
    return FunctionSettings(
        handler=properties["Handler"], runtime=properties["Runtime"],
        timeout_s=integer(f"{WHERE}.Timeout", properties.get("Timeout", 3), 1, 900),
        memory_mb=integer(f"{WHERE}.MemorySize", properties.get("MemorySize", 128), 128, 10_240),
        architecture=next(iter(properties.get("Architectures", ())), "x86_64"),
        variables=_variables(properties),
        reserved=None if reserved is None else integer(f"{WHERE}.ReservedConcurrentExecutions", reserved, 1, 1000),
        dead_letter_arn=properties.get("DeadLetterConfig", {}).get("TargetArn"),
        log_format=logging_config.get("LogFormat", "Text"), log_level=logging_config.get("ApplicationLogLevel"),
        platform_logged=logging_config.get("LogFormat") != "JSON" or logging_config.get("SystemLogLevel") != "WARN")


def _check_kind(properties: Mapping[str, Any]) -> None:
    if properties.get("PackageType", "Zip") != "Zip":
        raise Unsupported("PackageType: container images need Docker; package the function as a zip")
    if properties.get("SnapStart", {}).get("ApplyOn", "None") != "None":
        raise Unsupported("SnapStart: snapshots are not emulated; leave it out for the local cloud")
    runtime = str(properties.get("Runtime"))
    if not runtime.startswith("python3."):
        raise Unsupported(f"Runtime: {runtime} is not emulated, only python3.* is")
    if "." not in str(properties.get("Handler", "")):
        raise DeployError(f"{WHERE}.Handler: got {properties.get('Handler')!r}, expected module.function")


def _variables(properties: Mapping[str, Any]) -> dict[str, str]:
    variables = properties.get("Environment", {}).get("Variables", {})
    reserved = sorted(_RESERVED & set(variables))
    if reserved:
        raise DeployError(f"{WHERE}.Environment: Lambda reserves {', '.join(reserved)}; rename the variable")
    return {name: str(value) for name, value in variables.items()}
