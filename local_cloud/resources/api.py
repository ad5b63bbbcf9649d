"""AWS::ApiGatewayV2: from template properties to HTTP APIs on local ports."""

import secrets
import string
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.resources.registry import EMULATED, TAGS, Applied, Context, Properties, require, resource


def _short_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(10))


def _api(properties: Properties, context: Context) -> Any:
    api_id = require(properties, "ApiId")
    if api_id not in context.services.apis:
        raise DeployError(f"ApiId: {api_id} is no API of this deployment")
    return context.services.apis[api_id]


@resource(
    "AWS::ApiGatewayV2::Api",
    EMULATED,
    attributes="ApiId ApiEndpoint",
    honoured="Name ProtocolType CorsConfiguration",
    stated={
        "Description": "a text",
        "DisableExecuteApiEndpoint": "the local port stays open",
        "IpAddressType": "127.0.0.1 only",
        **TAGS,
    },
    refused={
        "Body": "OpenAPI import is not emulated; write routes as resources",
        "RouteSelectionExpression": "WebSocket APIs are not emulated",
    },
    note="HTTP APIs, payload format 2.0; one port each, from --api-port upwards",
)
async def api(properties: Properties, context: Context) -> Applied:
    """One HTTP API on its own port."""
    api_id = _short_id()
    services = context.services
    await services.open_api(api_id, properties)

    async def delete() -> None:
        await services.close_api(api_id)

    endpoint = f"https://{api_id}.execute-api.{context.region}.amazonaws.com"
    return Applied(api_id, {"ApiId": api_id, "ApiEndpoint": endpoint}, delete)


@resource(
    "AWS::ApiGatewayV2::Integration",
    EMULATED,
    attributes="IntegrationId",
    honoured="ApiId IntegrationType IntegrationUri PayloadFormatVersion IntegrationMethod TimeoutInMillis",
    stated={"Description": "a text", "CredentialsArn": "IAM is not enforced locally"},
    note="AWS_PROXY to a function",
)
async def integration(properties: Properties, context: Context) -> Applied:
    """What a route calls."""
    made = _short_id()
    _api(properties, context).add_integration(made, properties)
    return Applied(made, {"IntegrationId": made})


@resource(
    "AWS::ApiGatewayV2::Route",
    EMULATED,
    attributes="RouteId",
    honoured="ApiId RouteKey Target AuthorizationType AuthorizerId AuthorizationScopes",
    stated={"OperationName": "a text"},
)
async def route(properties: Properties, context: Context) -> Applied:
    """One route of an API."""
    made = _short_id()
    _api(properties, context).add_route(made, properties)
    return Applied(made, {"RouteId": made})


@resource(
    "AWS::ApiGatewayV2::Stage",
    EMULATED,
    honoured="ApiId StageName AutoDeploy StageVariables DefaultRouteSettings",
    stated={
        "AccessLogSettings": "no access log locally",
        "Description": "a text",
        "RouteSettings": "no throttling locally",
        "AccessPolicyId": "IAM is not enforced locally",
        **TAGS,
    },
    note="$default with AutoDeploy; throttling settings are not enforced",
)
async def stage(properties: Properties, context: Context) -> Applied:
    """The stage that serves the routes."""
    name = require(properties, "StageName")
    _api(properties, context).add_stage(properties)
    return Applied(name)


@resource(
    "AWS::ApiGatewayV2::Authorizer",
    EMULATED,
    attributes="AuthorizerId",
    honoured="ApiId Name AuthorizerType IdentitySource JwtConfiguration",
    refused={"AuthorizerUri": "Lambda authorizers are not emulated; use JWT"},
    note="JWT: signature, issuer, audience (client_id where a token has no aud) and time, as AWS checks them. A "
    "request from this machine (from loopback, Host localhost or 127.0.0.1, neither Authorization nor Origin) is given "
    "the token of a user made for it; --no-auto-login ends that, and the tests of the authorizer run without it",
)
async def authorizer(properties: Properties, context: Context) -> Applied:
    """A JWT authorizer of an API."""
    made = _short_id()
    _api(properties, context).add_authorizer(made, properties)
    return Applied(made, {"AuthorizerId": made})
