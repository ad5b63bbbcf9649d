"""Who may use the HTTP API: a Cognito user pool whose access tokens its JWT authorizer takes; `make user` adds people.

Two clients of the pool: `dashboard` signs in through the pool's own page (authorization code with PKCE, no secret), and
`tools` lets who holds AWS credentials exchange a name and password for a token (`make token`). Nobody signs up alone.
"""
import hashlib
from typing import NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_cognito as cognito

from infra.names import give, keep_logical_id
from infra.settings import Settings

PASSWORD = cognito.PasswordPolicy(
    min_length=14, require_lowercase=True, require_uppercase=True, require_digits=True, require_symbols=True,
    temp_password_validity=cdk.Duration.days(3))
TOKEN_LIFE, SESSION_LIFE = cdk.Duration.hours(1), cdk.Duration.days(30)


class SignIn(NamedTuple):
    """The pool and its clients."""

    pool: cognito.UserPool
    dashboard: cognito.UserPoolClient
    tools: cognito.UserPoolClient


def sign_in_url(stack: cdk.Stack, settings: Settings) -> str:
    """Address of the pool's sign-in page, known before there is one."""
    return f"https://{_prefix(stack, settings)}.auth.{stack.region}.amazoncognito.com"


def _prefix(stack: cdk.Stack, settings: Settings) -> str:
    """It is unique among all accounts of a region, and may hold neither "aws" nor "cognito", as a name may."""
    digest = hashlib.sha256(settings.name.encode()).hexdigest()[:8]
    return f"edgecloud-{digest}-{stack.account}"


def sign_in(stack: cdk.Stack, settings: Settings, origin: str) -> SignIn:
    """Build pool, clients and the pool's sign-in page; their names go out as SSM parameters and outputs.

    origin: of the dashboard's page, to which the sign-in page sends people back."""
    pool = _pool(stack, settings)
    made = SignIn(pool, _dashboard_client(pool, origin), _tools_client(pool))
    pool.add_domain("SignInPage", cognito_domain=cognito.CognitoDomainOptions(domain_prefix=_prefix(stack, settings)))
    address = sign_in_url(stack, settings)
    give(stack, settings, {"user-pool": pool.user_pool_id, "tools-client": made.tools.user_pool_client_id,
                           "dashboard-client": made.dashboard.user_pool_client_id, "sign-in-url": address})
    cdk.CfnOutput(stack, "UserPool", value=pool.user_pool_id, description="Who may use the API; make user EMAIL=...")
    cdk.CfnOutput(stack, "DashboardClient", value=made.dashboard.user_pool_client_id,
                  description="OAuth client of the dashboard: authorization code with PKCE")
    cdk.CfnOutput(stack, "SignInUrl", value=address, description="The pool's sign-in page")
    return made


def authorizer(stack: cdk.Stack, who: SignIn) -> authorizers.HttpJwtAuthorizer:
    """Takes tokens of this pool for these clients. An access token has `client_id` where others have `aud`; API Gateway
    looks at it when `aud` is absent."""
    return authorizers.HttpJwtAuthorizer(
        "Users", who.pool.user_pool_provider_url, identity_source=["$request.header.Authorization"],
        jwt_audience=[who.dashboard.user_pool_client_id, who.tools.user_pool_client_id])


def _pool(stack: cdk.Stack, settings: Settings) -> cognito.UserPool:
    pool = cognito.UserPool(
        stack, "Users", self_sign_up_enabled=False, sign_in_aliases=cognito.SignInAliases(email=True),
        sign_in_case_sensitive=False, password_policy=PASSWORD, account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
        mfa=cognito.Mfa.OPTIONAL, mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
        # E-mail alone: nothing here ever sends an SMS, so the pool needs no role for it.
        auto_verify=cognito.AutoVerifiedAttrs(email=True), keep_original=cognito.KeepOriginalAttrs(email=True),
        deletion_protection=not settings.ephemeral,
        removal_policy=cdk.RemovalPolicy.DESTROY if settings.ephemeral else cdk.RemovalPolicy.RETAIN)
    keep_logical_id(pool)
    return pool


def _dashboard_client(pool: cognito.UserPool, origin: str) -> cognito.UserPoolClient:
    return pool.add_client(
        "Dashboard", generate_secret=False, auth_flows=cognito.AuthFlow(user_srp=True),
        o_auth=cognito.OAuthSettings(
            flows=cognito.OAuthFlows(authorization_code_grant=True),
            scopes=[cognito.OAuthScope.OPENID, cognito.OAuthScope.EMAIL],
            callback_urls=[f"{origin}/"], logout_urls=[f"{origin}/"]),
        supported_identity_providers=[cognito.UserPoolClientIdentityProvider.COGNITO],
        access_token_validity=TOKEN_LIFE, id_token_validity=TOKEN_LIFE, refresh_token_validity=SESSION_LIFE,
        enable_token_revocation=True, prevent_user_existence_errors=True)


def _tools_client(pool: cognito.UserPool) -> cognito.UserPoolClient:
    """Its password flow is an administrator's: it takes AWS credentials besides the password."""
    return pool.add_client(
        "Tools", generate_secret=False, auth_flows=cognito.AuthFlow(admin_user_password=True), disable_o_auth=True,
        access_token_validity=TOKEN_LIFE, id_token_validity=TOKEN_LIFE, refresh_token_validity=cdk.Duration.days(1),
        enable_token_revocation=True, prevent_user_existence_errors=True)
