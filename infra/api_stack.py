"""The HTTP API: each row of contract.routes.API goes to the function api, which uses storage_stack.py's tables.

Every route but GET /health asks for an access token of the user pool (infra/auth.py); browsers may call from the
dashboard's origin alone.
"""
import json
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from contract import routes, topics
from infra import auth
from infra.functions import LOG_RETENTION, allow, function, table_arn, things
from infra.names import give, take
from infra.settings import Settings
from infra.storage_stack import BY_DAY, EVENTS_BY_NUMBER

TABLES = ("readings", "rollups", "alerts", "incidents")
TIMEOUT_S = 15
# These bound what one who has a token can cost, and what anybody can, who asks a route that needs none.
REQUESTS_PER_S, BURST = 20, 40
OPEN_REQUESTS_PER_S, OPEN_BURST = 2, 10
# A line per request in the access log: who asked for what, and what came of it; no token, no query.
LOGGED = {"requestId": "requestId", "at": "requestTimeEpoch", "ip": "identity.sourceIp", "route": "routeKey",
          "user": "authorizer.claims.sub", "status": "status", "bytes": "responseLength", "ms": "responseLatency",
          "refused": "authorizer.error", "error": "error.message", "integrationError": "integrationErrorMessage"}
PREFLIGHT_LIFE = cdk.Duration.hours(1)


class ApiStack(cdk.Stack):
    """One HTTP API with one function behind it, and the user pool in front."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        tables = {what: take(self, settings, f"{what}-table") for what in TABLES}
        events_archive = take(self, settings, "events-archive")
        api = function(
            self, settings, "api", description="EdgeCloud: the HTTP API", timeout_s=TIMEOUT_S, memory_mib=512,
            environment={**{f"{what.upper()}_TABLE": name for what, name in tables.items()},
                         "RETENTION_DAYS": str(settings.readings_days), "EVENTS_ARCHIVE": events_archive,
                         **things(settings)},
            access=[*self._access(tables, events_archive), allow(["iot:UpdateThingShadow"], [
                self.format_arn(service="iot", resource="thing", resource_name=f"{thing}/{topics.SHADOW}")
                for thing in settings.things])])
        # A local cloud, and who serves the page himself, know another origin than that of the distribution.
        origin = settings.dashboard_origin or take(self, settings, "web-url")
        http, stage = self._http_api(settings, origin)
        users = auth.authorizer(self, auth.sign_in(self, settings, origin))
        integration = HttpLambdaIntegration("Api", api, scope_permission_to_route=True)
        for method, path in routes.API:
            guard = apigateway.HttpNoneAuthorizer() if (method, path) in routes.OPEN else users
            made = http.add_routes(path=path, methods=[apigateway.HttpMethod[method]], integration=integration,
                                   authorizer=guard)
            if (method, path) in routes.OPEN:
                stage.node.add_dependency(*made)  # its settings below name them
        cast(apigateway.CfnStage, stage.node.default_child).route_settings = {f"{method} {path}": {
            "ThrottlingRateLimit": OPEN_REQUESTS_PER_S, "ThrottlingBurstLimit": OPEN_BURST}
            for method, path in routes.OPEN}
        give(self, settings, {"api-url": http.api_endpoint})
        cdk.CfnOutput(self, "ApiUrl", value=http.api_endpoint, description=(
            'Try: curl -H "Authorization: Bearer $(make -s token EMAIL=you@example.org)" <this>/data'))

    def _access(self, tables: dict[str, str], events_archive: str) -> list[iam.PolicyStatement]:
        def arn(what: str, index: str = "") -> str:
            return table_arn(self, tables[what] + index)

        return [
            allow(["dynamodb:Query"], [arn("readings"), arn("readings", f"/index/{EVENTS_BY_NUMBER}"), arn("rollups"),
                                       arn("alerts", f"/index/{BY_DAY}"), arn("incidents", f"/index/{BY_DAY}")]),
            allow(["dynamodb:GetItem"], [arn("readings")]),  # GET /health
            # POST /data: the event and its device, its Idempotency-Key, and its line in the archive
            allow(["dynamodb:BatchWriteItem"], [arn("readings"), arn("rollups")]),
            allow(["dynamodb:PutItem"], [arn("rollups")]),
            allow(["firehose:PutRecord"], [
                self.format_arn(service="firehose", resource="deliverystream", resource_name=events_archive)])]

    def _http_api(self, settings: Settings, origin: str) -> tuple[apigateway.HttpApi, apigateway.HttpStage]:
        http = apigateway.HttpApi(
            self, "HttpApi", description=f"EdgeCloud {settings.name}", create_default_stage=False,
            # The API's name is no physical name: two deployments may show the same one.
            api_name=settings.name,
            cors_preflight=apigateway.CorsPreflightOptions(
                allow_origins=[origin], max_age=PREFLIGHT_LIFE,
                allow_methods=[apigateway.CorsHttpMethod[method] for method in sorted({m for m, _ in routes.API})],
                allow_headers=["authorization", "content-type", "idempotency-key"], expose_headers=["retry-after"]))
        stage = http.add_stage("DefaultStage", auto_deploy=True, throttle=apigateway.ThrottleSettings(
            rate_limit=REQUESTS_PER_S, burst_limit=BURST))
        group = logs.LogGroup(self, "AccessLog", retention=LOG_RETENTION, removal_policy=cdk.RemovalPolicy.DESTROY)
        cast(apigateway.CfnStage, stage.node.default_child).access_log_settings = (
            apigateway.CfnStage.AccessLogSettingsProperty(destination_arn=group.log_group_arn, format=json.dumps(
                {name: f"$context.{value}" for name, value in LOGGED.items()})))
        return http, stage
