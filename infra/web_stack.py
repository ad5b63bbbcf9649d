"""Where the dashboard's page is served: a private bucket, which `make web` fills from web/, behind CloudFront.

Deployed before the HTTP API, which lets this origin alone call it, and whose sign-in page sends people back to it; so
its policy for scripts names the API by its kind of address, and the page itself (deploy/web.py) by its exact one.
"""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.auth import sign_in_url
from infra.names import give
from infra.settings import Settings

HSTS_AGE = cdk.Duration.days(365)
NOWHERE = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone", "payment", "usb")


class WebStack(cdk.Stack):
    """Bucket, distribution, and what the distribution adds to each answer."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        # Everything in it is made anew by `make web`; `make destroy` empties it.
        bucket = s3.Bucket(
            self, "Page", encryption=s3.BucketEncryption.S3_MANAGED, enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL, removal_policy=cdk.RemovalPolicy.DESTROY)
        distribution = cloudfront.Distribution(
            self, "Site", comment=f"{settings.title}: dashboard", default_root_object="index.html",
            price_class=cloudfront.PriceClass.PRICE_CLASS_100, http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(bucket), compress=True,
                allowed_methods=cloudfront.AllowedMethods.ALLOW_GET_HEAD,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
                cache_policy=cloudfront.CachePolicy.CACHING_OPTIMIZED,
                response_headers_policy=self._headers(settings)))
        address = f"https://{distribution.distribution_domain_name}"
        give(self, settings, {"web-url": address, "web-bucket": bucket.bucket_name,
                              "web-distribution": distribution.distribution_id})
        cdk.CfnOutput(self, "DashboardUrl", value=address, description="The dashboard; `make web` puts its page there")

    def _headers(self, settings: Settings) -> cloudfront.ResponseHeadersPolicy:
        return cloudfront.ResponseHeadersPolicy(
            self, "Headers", comment=f"{settings.title}: dashboard",
            security_headers_behavior=cloudfront.ResponseSecurityHeadersBehavior(
                content_security_policy=cloudfront.ResponseHeadersContentSecurityPolicy(
                    content_security_policy=self._content_policy(settings), override=True),
                content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
                frame_options=cloudfront.ResponseHeadersFrameOptions(
                    frame_option=cloudfront.HeadersFrameOption.DENY, override=True),
                referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                    referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True),
                strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=HSTS_AGE, override=True)),
            custom_headers_behavior=cloudfront.ResponseCustomHeadersBehavior(custom_headers=[
                cloudfront.ResponseCustomHeader(header=name, value=value, override=True) for name, value in (
                    ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
                    ("Permissions-Policy", ", ".join(f"{feature}=()" for feature in NOWHERE)))]))

    def _content_policy(self, settings: Settings) -> str:
        """Nothing from elsewhere, nothing inline; questions go to this page, the API and the sign-in page."""
        asked = ["'self'", f"https://*.execute-api.{self.region}.amazonaws.com", sign_in_url(self, settings)]
        return "; ".join((
            "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
            f"connect-src {' '.join(asked)}", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"))
