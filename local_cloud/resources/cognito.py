"""AWS::Cognito user pools: from template properties to pools in moto, whose tokens a JWT authorizer checks."""

from typing import Any

from local_cloud.properties import flag
from local_cloud.resources.registry import EMULATED, MOTO, Applied, Context, Properties, require, resource
from local_cloud.sign_in_page import SignInPage

_PASSED = (
    "Policies AutoVerifiedAttributes AliasAttributes UsernameAttributes MfaConfiguration AccountRecoverySetting "
    "AdminCreateUserConfig Schema UsernameConfiguration"
)
_CLIENT_PASSED = (
    "ExplicitAuthFlows AllowedOAuthFlows AllowedOAuthScopes CallbackURLs LogoutURLs DefaultRedirectURI "
    "SupportedIdentityProviders ReadAttributes WriteAttributes PreventUserExistenceErrors TokenValidityUnits"
)
_CLIENT_NUMBERS = "AccessTokenValidity IdTokenValidity RefreshTokenValidity"
_NO_MAIL = "no e-mail or SMS is sent locally"


def _typed(value: Any) -> Any:
    """CloudFormation lets booleans and numbers be strings; the API does not."""
    if isinstance(value, dict):
        return {key: _typed(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_typed(child) for child in value]
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _taken(properties: Properties, names: str) -> dict[str, Any]:
    return {name: _typed(properties[name]) for name in names.split() if name in properties}


@resource(
    "AWS::Cognito::UserPool",
    MOTO,
    attributes="Arn ProviderName ProviderURL UserPoolId",
    honoured=f"UserPoolName {_PASSED}",
    stated={
        "EmailVerificationMessage": _NO_MAIL,
        "EmailVerificationSubject": _NO_MAIL,
        "SmsVerificationMessage": _NO_MAIL,
        "VerificationMessageTemplate": _NO_MAIL,
        "EmailConfiguration": _NO_MAIL,
        "SmsConfiguration": _NO_MAIL,
        "SmsAuthenticationMessage": _NO_MAIL,
        "UserPoolTags": "nothing local reads tags",
        "UserPoolTier": "a matter of price only",
        "UserPoolAddOns": "no threat protection locally",
        "DeletionProtection": "a pool may be deleted locally",
        "UserAttributeUpdateSettings": _NO_MAIL,
        "EnabledMfas": "no second factor locally",
        "DeviceConfiguration": "devices are not remembered locally",
    },
    refused={"LambdaConfig": "triggers are not emulated"},
    note="RS256 tokens with a JWKS",
)
async def user_pool(properties: Properties, context: Context) -> Applied:
    """One user pool."""
    name = context.name(properties, "UserPoolName", 128)
    made = (await context.call("cognito-idp", "create_user_pool", PoolName=name, **_taken(properties, _PASSED)))[
        "UserPool"
    ]
    provider = f"cognito-idp.{context.region}.amazonaws.com/{made['Id']}"

    async def delete() -> None:
        await context.call("cognito-idp", "delete_user_pool", UserPoolId=made["Id"])

    return Applied(
        made["Id"],
        {
            "Arn": made["Arn"],
            "ProviderName": provider,
            "ProviderURL": f"https://{provider}",
            "UserPoolId": made["Id"],
        },
        delete,
    )


@resource(
    "AWS::Cognito::UserPoolClient",
    MOTO,
    attributes="ClientId ClientSecret Name",
    honoured=f"ClientName UserPoolId GenerateSecret AllowedOAuthFlowsUserPoolClient {_CLIENT_PASSED} {_CLIENT_NUMBERS}",
    stated={
        "EnableTokenRevocation": "tokens are not revoked locally",
        "AuthSessionValidity": "not enforced locally",
        "EnablePropagateAdditionalUserContextData": "no threat protection locally",
        "RefreshTokenRotation": "refresh tokens are not rotated locally",
    },
    refused={"AnalyticsConfiguration": "Pinpoint is not emulated"},
)
async def user_pool_client(properties: Properties, context: Context) -> Applied:
    """One client of a user pool."""
    pool = require(properties, "UserPoolId")
    numbers = {name: int(properties[name]) for name in _CLIENT_NUMBERS.split() if name in properties}
    made = (
        await context.call(
            "cognito-idp",
            "create_user_pool_client",
            UserPoolId=pool,
            ClientName=context.name(properties, "ClientName", 128),
            GenerateSecret=flag("GenerateSecret", properties.get("GenerateSecret", False)),
            **_taken(properties, _CLIENT_PASSED),
            **numbers,
            AllowedOAuthFlowsUserPoolClient=flag(
                "AllowedOAuthFlowsUserPoolClient", properties.get("AllowedOAuthFlowsUserPoolClient", False)
            ),
        )
    )["UserPoolClient"]
    attributes = {"ClientId": made["ClientId"], "Name": made["ClientName"]}
    if "ClientSecret" in made:
        attributes["ClientSecret"] = made["ClientSecret"]

    async def delete() -> None:
        await context.call("cognito-idp", "delete_user_pool_client", UserPoolId=pool, ClientId=made["ClientId"])

    return Applied(made["ClientId"], attributes, delete)


@resource(
    "AWS::Cognito::UserPoolDomain",
    EMULATED,
    attributes="CloudFrontDistribution",
    honoured="Domain UserPoolId",
    stated={"ManagedLoginVersion": "the local page has a look of its own"},
    refused={"CustomDomainConfig": "custom domains are not emulated", "Routing": "one region only"},
    note="a sign-in page on a port of this machine: authorization code with PKCE, refresh, sign-out; who is at this "
    "machine may sign in as a user made for it, without a password",
)
async def user_pool_domain(properties: Properties, context: Context) -> Applied:
    """The domain of a pool's login page."""
    pool, prefix, services = require(properties, "UserPoolId"), require(properties, "Domain"), context.services
    page = SignInPage(pool, context.services.call, services.addresses)
    await services.open_site(prefix, f"https://{prefix}.auth.{context.region}.amazoncognito.com", page)

    async def delete() -> None:
        await services.close_site(prefix)

    return Applied(prefix, {"CloudFrontDistribution": "local"}, delete)
