"""AWS::SSM::Parameter: from template properties to parameters in moto, by which stacks hand each other names."""

from local_cloud.resources.registry import MOTO, TAGS, Applied, Context, Properties, require, resource


@resource(
    "AWS::SSM::Parameter",
    MOTO,
    attributes="Type Value",
    honoured="Name Type Value Description AllowedPattern",
    stated={"Tier": "a matter of price only", **TAGS},
    refused={
        "Policies": "parameter policies are not emulated; take them out",
        "DataType": "only plain text is emulated; take it out",
    },
)
async def parameter(properties: Properties, context: Context) -> Applied:
    """One String or StringList parameter."""
    name = context.name(properties, "Name", 1011)
    value, kind = str(require(properties, "Value")), require(properties, "Type")
    await context.call(
        "ssm",
        "put_parameter",
        Name=name,
        Value=value,
        Type=kind,
        Description=properties.get("Description"),
        AllowedPattern=properties.get("AllowedPattern"),
    )

    async def delete() -> None:
        await context.call("ssm", "delete_parameter", Name=name)

    return Applied(name, {"Type": kind, "Value": value}, delete)
