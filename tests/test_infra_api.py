"""The HTTP API: the contract's routes, one function, its rights, and a bound on what a stranger can cost."""
from contract import routes
from tests.synthesized import properties, resources, statements, template, text

TABLE = "arn:aws:dynamodb:eu-north-1:123456789012:table/"


def test_the_routes_are_the_contracts() -> None:
    found = [one["Properties"] for one in resources(template("Api"), "AWS::ApiGatewayV2::Route").values()]
    assert {one["RouteKey"] for one in found} == {f"{method} {path}" for method, path in routes.API}
    assert len({text(one["Target"]) for one in found}) == 1
    (made,) = resources(template("Api"), "AWS::ApiGatewayV2::Integration").values()
    integration = made["Properties"]
    assert integration["PayloadFormatVersion"] == "2.0" and integration["IntegrationType"] == "AWS_PROXY"
    assert text(integration["IntegrationUri"]) == "<ApiFunction.Arn>"


def test_the_default_stage_is_throttled() -> None:
    (stage,) = (one["Properties"] for one in resources(template("Api"), "AWS::ApiGatewayV2::Stage").values())
    assert stage["StageName"] == "$default" and stage["AutoDeploy"] is True
    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": 20, "ThrottlingBurstLimit": 40}


def test_this_api_alone_may_call_the_function() -> None:
    (permission,) = (one["Properties"] for one in resources(template("Api"), "AWS::Lambda::Permission").values())
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert text(permission["SourceArn"]) == "arn:aws:execute-api:eu-north-1:123456789012:<HttpApi>/*/*/*"


def test_the_function_reads_all_tables_and_writes_what_post_data_needs() -> None:
    function = properties(template("Api"), "ApiFunction")
    variables = {key: text(value) for key, value in function["Environment"]["Variables"].items()}
    del variables["EDGECLOUD_VERSION"]
    assert variables == {"READINGS_TABLE": "<ReadingsTable>", "ROLLUPS_TABLE": "<RollupsTable>",
                         "ALERTS_TABLE": "<AlertsTable>", "RETENTION_DAYS": "30"}
    assert function["Handler"] == "lambdas.api.handler" and function["Timeout"] < 30  # API Gateway waits 30 s
    assert set(statements(properties(template("Api"), "ApiRole"))) == {
        ("dynamodb:Query", f"{TABLE}<ReadingsTable>"),
        ("dynamodb:Query", f"{TABLE}<ReadingsTable>/index/events_by_number"),
        ("dynamodb:Query", f"{TABLE}<RollupsTable>"), ("dynamodb:Query", f"{TABLE}<AlertsTable>/index/by_day"),
        ("dynamodb:GetItem", f"{TABLE}<ReadingsTable>"), ("dynamodb:PutItem", f"{TABLE}<ReadingsTable>"),
        ("dynamodb:BatchWriteItem", f"{TABLE}<RollupsTable>"),
        ("logs:CreateLogStream", "<ApiLog.Arn>"), ("logs:PutLogEvents", "<ApiLog.Arn>")}


def test_the_address_goes_out() -> None:
    found = template("Api")
    assert text(found["Outputs"]["ApiUrl"]["Value"]) == "<HttpApi.ApiEndpoint>"
    parameter = properties(found, "ApiUrlParameter")
    assert parameter["Name"] == "/edgecloud/api-url" and text(parameter["Value"]) == "<HttpApi.ApiEndpoint>"
