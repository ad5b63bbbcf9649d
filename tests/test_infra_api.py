"""The HTTP API: the contract's routes, locked but for health; one function, its rights; who may sign in, and how."""
import json
import re
from typing import Any

import pytest

from contract import routes
from infra.errors import SynthesisFault
from infra.settings import read
from tests.synthesized import properties, resources, statements, template, text

OTHER = (("name", "myaws"), ("ephemeral", "true"), ("dashboard_origin", "https://edge.example.org"))
TABLE = "arn:aws:dynamodb:eu-north-1:123456789012:table/"


def other() -> dict[str, Any]:
    """The same of another deployment."""
    return template("Api", *OTHER, title="Myaws")


def only(kind: str, found: dict[str, Any] | None = None) -> dict[str, Any]:
    (one,) = resources(found or template("Api"), kind).values()
    return dict(one["Properties"])


def api_routes() -> dict[str, dict[str, Any]]:
    found = [one["Properties"] for one in resources(template("Api"), "AWS::ApiGatewayV2::Route").values()]
    return {one["RouteKey"]: one for one in found}


def test_the_routes_are_the_contracts() -> None:
    found = api_routes()
    assert set(found) == {f"{method} {path}" for method, path in routes.API}
    assert len({text(one["Target"]) for one in found.values()}) == 1
    integration = only("AWS::ApiGatewayV2::Integration")
    assert integration["PayloadFormatVersion"] == "2.0" and integration["IntegrationType"] == "AWS_PROXY"
    assert text(integration["IntegrationUri"]) == "<ApiFunction.Arn>"


def test_every_route_but_health_wants_a_token_of_the_pool() -> None:
    assert routes.OPEN == (("GET", "/health"),)
    (authorizer_id,) = resources(template("Api"), "AWS::ApiGatewayV2::Authorizer")
    for key, route in api_routes().items():
        is_open = tuple(key.split(" ", 1)) in routes.OPEN
        assert route["AuthorizationType"] == ("NONE" if is_open else "JWT"), key
        assert is_open or route["AuthorizerId"] == {"Ref": authorizer_id}, key
    authorizer = only("AWS::ApiGatewayV2::Authorizer")
    assert authorizer["AuthorizerType"] == "JWT" and authorizer["IdentitySource"] == ["$request.header.Authorization"]
    assert text(authorizer["JwtConfiguration"]["Issuer"]) == "<Users.ProviderURL>"
    clients = resources(template("Api"), "AWS::Cognito::UserPoolClient")
    assert {one["Ref"] for one in authorizer["JwtConfiguration"]["Audience"]} == set(clients)


def test_the_pool_lets_nobody_in_who_was_not_asked() -> None:
    pool = properties(template("Api"), "Users")
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    policy = pool["Policies"]["PasswordPolicy"]
    assert policy["MinimumLength"] >= 12 and policy["TemporaryPasswordValidityDays"] <= 7
    assert all(policy[f"Require{kind}"] for kind in ("Lowercase", "Uppercase", "Numbers", "Symbols"))
    assert (pool["MfaConfiguration"], pool["EnabledMfas"]) == ("OPTIONAL", ["SOFTWARE_TOKEN_MFA"])
    assert pool["UsernameAttributes"] == ["email"] and pool["UsernameConfiguration"] == {"CaseSensitive": False}
    assert pool["AccountRecoverySetting"]["RecoveryMechanisms"] == [{"Name": "verified_email", "Priority": 1}]
    assert "SmsConfiguration" not in pool


def test_users_outlive_the_stack_unless_it_is_for_a_trial() -> None:
    for found, policy, protection in ((template("Api"), "Retain", "ACTIVE"), (other(), "Delete", "INACTIVE")):
        pool = resources(found, "AWS::Cognito::UserPool")["Users"]
        assert (pool["DeletionPolicy"], pool["UpdateReplacePolicy"]) == (policy, policy)
        assert pool["Properties"]["DeletionProtection"] == protection and "UserPoolName" not in pool["Properties"]


def test_the_dashboard_signs_in_with_a_code_the_tools_with_a_password_and_aws_rights() -> None:
    clients = resources(other(), "AWS::Cognito::UserPoolClient")
    dashboard, tools = (next(one["Properties"] for name, one in clients.items() if what in name)
                        for what in ("Dashboard", "Tools"))
    assert (dashboard["AllowedOAuthFlows"], dashboard["AllowedOAuthFlowsUserPoolClient"]) == (["code"], True)
    assert dashboard["CallbackURLs"] == dashboard["LogoutURLs"] == ["https://edge.example.org/"]
    assert dashboard["ExplicitAuthFlows"] == ["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    assert tools["ExplicitAuthFlows"] == ["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    assert tools["AllowedOAuthFlowsUserPoolClient"] is False and "AllowedOAuthFlows" not in tools
    for client in (dashboard, tools):
        assert client["GenerateSecret"] is False  # with PKCE: a page can keep none
        assert client["PreventUserExistenceErrors"] == "ENABLED" and client["EnableTokenRevocation"] is True
        assert client["TokenValidityUnits"]["AccessToken"] == "minutes" and client["AccessTokenValidity"] == 60


def test_the_sign_in_page_has_a_name_that_cognito_takes() -> None:
    names = {text(only("AWS::Cognito::UserPoolDomain", found)["Domain"]) for found in (template("Api"), other())}
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"[a-z0-9-]{1,50}-123456789012", name) and not re.search("aws|amazon|cognito", name)


def test_pages_of_the_dashboards_origin_alone_may_call() -> None:
    assert only("AWS::ApiGatewayV2::Api")["CorsConfiguration"]["AllowOrigins"] == [{"Ref": "WebUrl"}]
    cors = only("AWS::ApiGatewayV2::Api", other())["CorsConfiguration"]
    assert cors["AllowOrigins"] == ["https://edge.example.org"] and not cors.get("AllowCredentials")
    assert set(cors["AllowMethods"]) == {method for method, _ in routes.API}
    assert cors["AllowHeaders"] == ["authorization", "content-type", "idempotency-key"]


@pytest.mark.parametrize("origin", ("*", "http://edge.example.org", "https://edge.example.org/", "https://*",
                                    "localhost:8080", "https://user@edge.example.org", "http://localhost.evil.org",
                                    "https://edge.example.org:0", "https://edge.example.org/app"))
def test_an_origin_is_one_that_a_browser_sends(origin: str) -> None:
    with pytest.raises(SynthesisFault, match="dashboard_origin"):
        read({"dashboard_origin": origin}, "1")


def test_the_default_stage_is_throttled() -> None:
    stage = only("AWS::ApiGatewayV2::Stage")
    assert stage["StageName"] == "$default" and stage["AutoDeploy"] is True
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 20
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == 40


def test_what_anybody_may_ask_is_throttled_harder() -> None:
    (stage,) = resources(template("Api"), "AWS::ApiGatewayV2::Stage").values()
    settings = stage["Properties"]["RouteSettings"]
    assert settings == {"GET /health": {"ThrottlingRateLimit": 2, "ThrottlingBurstLimit": 10}}
    health = [name for name, one in resources(template("Api"), "AWS::ApiGatewayV2::Route").items()
              if one["Properties"]["RouteKey"] in settings]
    assert set(health) <= set(stage["DependsOn"]), "API Gateway refuses settings of a route that is not there yet"


def test_who_asked_for_what_is_logged_and_no_secret() -> None:
    log = only("AWS::ApiGatewayV2::Stage")["AccessLogSettings"]
    fields = json.loads(log["Format"])
    assert text(log["DestinationArn"]) == "<AccessLog.Arn>" and "\n" not in log["Format"]
    assert {"$context.requestId", "$context.authorizer.claims.sub", "$context.status"} <= set(fields.values())
    assert not re.search("(?i)header|query|token|requestOverride|body", log["Format"])
    assert properties(template("Api"), "AccessLog")["RetentionInDays"] == 30


def test_the_routes_of_this_api_alone_may_call_the_function() -> None:
    permissions = [one["Properties"] for one in resources(template("Api"), "AWS::Lambda::Permission").values()]
    assert {one["Principal"] for one in permissions} == {"apigateway.amazonaws.com"}
    assert {text(one["SourceArn"]) for one in permissions} == {
        f"arn:aws:execute-api:eu-north-1:123456789012:<HttpApi>/*/*{path}" for _, path in routes.API}


def test_the_function_reads_all_tables_and_writes_what_post_data_needs() -> None:
    function = properties(template("Api"), "ApiFunction")
    variables = {key: text(value) for key, value in function["Environment"]["Variables"].items()}
    expected = {"READINGS_TABLE": "<ReadingsTable>", "ROLLUPS_TABLE": "<RollupsTable>",
                "ALERTS_TABLE": "<AlertsTable>", "RETENTION_DAYS": "30", "EVENTS_ARCHIVE": "<EventsArchive>"}
    assert expected.items() <= variables.items()
    assert function["Handler"] == "lambdas.api.handler" and function["Timeout"] < 30  # API Gateway waits 30 s
    allowed = set(statements(properties(template("Api"), "ApiRole")))
    writes = {(action, resource) for action, resource in allowed
              if not re.match("dynamodb:(Query|GetItem)|logs:|xray:", action)}
    assert writes == {
        ("dynamodb:BatchWriteItem", f"{TABLE}<ReadingsTable>"), ("dynamodb:BatchWriteItem", f"{TABLE}<RollupsTable>"),
        ("dynamodb:PutItem", f"{TABLE}<RollupsTable>"),
        ("firehose:PutRecord", "arn:aws:firehose:eu-north-1:123456789012:deliverystream/<EventsArchive>"),
        ("iot:UpdateThingShadow", "arn:aws:iot:eu-north-1:123456789012:thing/EdgeCloudAWS/bridge")}
    assert {("dynamodb:Query", f"{TABLE}<ReadingsTable>"),
            ("dynamodb:Query", f"{TABLE}<ReadingsTable>/index/events_by_number"),
            ("dynamodb:Query", f"{TABLE}<RollupsTable>"), ("dynamodb:Query", f"{TABLE}<AlertsTable>/index/by_day"),
            ("dynamodb:GetItem", f"{TABLE}<ReadingsTable>")} <= allowed


def test_the_addresses_go_out() -> None:
    found = template("Api")
    assert text(found["Outputs"]["ApiUrl"]["Value"]) == "<HttpApi.ApiEndpoint>"
    for what, value in (("ApiUrl", "<HttpApi.ApiEndpoint>"), ("UserPool", "<Users>"),
                        ("ToolsClient", "<UsersTools>"), ("DashboardClient", "<UsersDashboard>")):
        parameter = properties(found, f"{what}Parameter")
        assert parameter["Name"] == "/edgecloud/" + re.sub("(?<!^)([A-Z])", r"-\1", what).lower()
        assert text(parameter["Value"]) == value
