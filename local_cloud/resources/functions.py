"""AWS::Lambda resources: from template properties to functions in worker processes and to their pollers."""

import uuid
from pathlib import Path

from local_cloud import iam_services
from local_cloud.errors import Unsupported
from local_cloud.resources.registry import (
    EMULATED,
    IAM_NOTE,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    require,
    resource,
)


def _code_directory(properties: Properties, context: Context) -> Path:
    code = require(properties, "Code")
    if "S3Key" not in code:
        raise Unsupported(
            f"Code {sorted(code)}: only assets (S3Key) are run; write the handler to a file and use an asset"
        )
    return context.code(code["S3Key"])


@resource(
    "AWS::Lambda::Function",
    EMULATED,
    attributes="Arn",
    honoured="FunctionName Role Code Handler Runtime Timeout Environment ReservedConcurrentExecutions DeadLetterConfig "
    "LoggingConfig PackageType",
    stated={
        "Architectures": "runs on this machine's processor",
        "MemorySize": "shown to the function, not enforced",
        "Description": "a text",
        "TracingConfig": "no X-Ray locally",
        "EphemeralStorage": "/tmp is this machine's",
        "RecursiveLoop": "loops are not detected locally",
        "RuntimeManagementConfig": "runs on the local Python",
        "KmsKeyArn": "nothing is encrypted at rest locally",
        "SnapStart": "None only",
        **TAGS,
    },
    refused={
        "Layers": "layers are not emulated; put the dependency into the asset",
        "VpcConfig": "networks are not emulated",
        "FileSystemConfigs": "file systems are not emulated",
        "ImageConfig": "container images need Docker; package the function as a zip",
    },
    note="real handler code under awslambdaric, one process per function, on the local Python; python3.* only",
)
async def function(properties: Properties, context: Context) -> Applied:
    """One function; a custom resource's provider that is emulated itself is not run."""
    name = context.name(properties, "FunctionName", 64)
    arn = context.arn("lambda", f"function:{name}")
    if context.logical_id in context.emulated_providers:
        return Applied(name, {"Arn": arn})
    services = context.services
    made = services.functions.create(name, properties, _code_directory(properties, context))
    iam_services.function_made(services.iam, name, properties)

    async def delete() -> None:
        await services.functions.delete(name)

    return Applied(name, {"Arn": made.arn}, delete)


@resource(
    "AWS::Lambda::EventSourceMapping",
    EMULATED,
    attributes="Id EventSourceMappingArn",
    honoured="EventSourceArn FunctionName BatchSize MaximumBatchingWindowInSeconds FunctionResponseTypes ScalingConfig "
    "FilterCriteria Enabled StartingPosition ParallelizationFactor BisectBatchOnFunctionError "
    "MaximumRetryAttempts MaximumRecordAgeInSeconds DestinationConfig",
    stated=TAGS,
    refused={
        "TumblingWindowInSeconds": "tumbling windows are not emulated; keep the state in a table",
        "SelfManagedEventSource": "Kafka sources are not emulated",
        "Topics": "Kafka sources are not emulated",
        "ProvisionedPollerConfig": "provisioned pollers are not emulated; take it out",
    },
    note="SQS queues and DynamoDB streams",
)
async def event_source_mapping(properties: Properties, context: Context) -> Applied:
    """One poller between a queue or stream and a function."""
    mapping_id = str(uuid.uuid4())
    iam_services.mapping_made(context.services.iam, properties)
    await context.services.add_poller(mapping_id, properties)

    async def delete() -> None:
        await context.services.remove_poller(mapping_id)

    arn = context.arn("lambda", f"event-source-mapping:{mapping_id}")
    return Applied(mapping_id, {"Id": mapping_id, "EventSourceMappingArn": arn}, delete)


@resource(
    "AWS::Lambda::Permission",
    STORED,
    honoured="Action FunctionName Principal SourceArn SourceAccount",
    stated={"FunctionUrlAuthType": "no function URLs locally", "PrincipalOrgID": IAM_NOTE},
    attributes="Id",
    refused={"EventSourceToken": "Alexa is not emulated"},
    note=IAM_NOTE,
)
async def permission(properties: Properties, context: Context) -> Applied:
    """Leave for a service to call a function that must exist."""
    name = require(properties, "FunctionName")
    context.services.functions.existing("FunctionName", name)
    return Applied(f"{context.stack}-{context.logical_id}", {"Id": context.logical_id})


@resource(
    "AWS::Lambda::EventInvokeConfig",
    EMULATED,
    honoured="FunctionName Qualifier MaximumRetryAttempts MaximumEventAgeInSeconds DestinationConfig",
    note="retries wait seconds, not minutes",
)
async def event_invoke_config(properties: Properties, context: Context) -> Applied:
    """Retries and destinations of asynchronous calls."""
    made = context.services.functions.existing("FunctionName", require(properties, "FunctionName"))
    made.configure_async(properties)
    return Applied(f"{made.name}|{properties.get('Qualifier', '$LATEST')}")
