"""The HTTP API: each row of contract.routes.API goes to the function api, which uses storage_stack.py's tables."""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from contract import routes
from infra.functions import allow, function
from infra.ingest_stack import RETENTION_DAYS
from infra.names import give, take
from infra.settings import Settings
from infra.storage_stack import BY_DAY, EVENTS_BY_NUMBER

TIMEOUT_S = 15
# The routes ask for no sign-in: this bounds what a stranger with the URL can cost.
REQUESTS_PER_S, BURST = 20, 40


class ApiStack(cdk.Stack):
    """One HTTP API with one function behind it."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        tables = {what: take(self, settings, f"{what}-table") for what in ("readings", "rollups", "alerts")}

        def arn(what: str, index: str = "") -> str:
            return self.format_arn(service="dynamodb", resource="table", resource_name=tables[what] + index)

        api = function(
            self, settings, "api", description="EdgeCloud: the HTTP API", timeout_s=TIMEOUT_S, memory_mib=512,
            environment={**{f"{what.upper()}_TABLE": name for what, name in tables.items()},
                         "RETENTION_DAYS": str(RETENTION_DAYS)},
            access=[
                allow(["dynamodb:Query"], [arn("readings"), arn("readings", f"/index/{EVENTS_BY_NUMBER}"),
                                           arn("rollups"), arn("alerts", f"/index/{BY_DAY}")]),
                allow(["dynamodb:GetItem"], [arn("readings")]),  # GET /health
                allow(["dynamodb:PutItem"], [arn("readings")]),  # POST /data, and its device:
                allow(["dynamodb:BatchWriteItem"], [arn("rollups")])])
        http = apigateway.HttpApi(
            self, "HttpApi", description=f"EdgeCloud {settings.name}", create_default_stage=False,
            # The API's name is no physical name: two deployments may show the same one.
            api_name=settings.name)
        http.add_stage("DefaultStage", auto_deploy=True, throttle=apigateway.ThrottleSettings(
            rate_limit=REQUESTS_PER_S, burst_limit=BURST))
        integration = HttpLambdaIntegration("Api", api, scope_permission_to_route=False)
        for method, path in routes.API:
            http.add_routes(path=path, methods=[apigateway.HttpMethod[method]], integration=integration)
        give(self, settings, {"api-url": http.api_endpoint})
        cdk.CfnOutput(self, "ApiUrl", value=http.api_endpoint,
                      description="Try: curl <this>/data (open to whoever knows the address)")
