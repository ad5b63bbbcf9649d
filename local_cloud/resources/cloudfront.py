"""AWS::CloudFront: from template properties to a web page on a port of this machine."""

import secrets
import string
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.properties import refuse_unknown
from local_cloud.resources.registry import EMULATED, STORED, TAGS, Applied, Context, Properties, require, resource
from local_cloud.web import WebSite

_SECURITY = {
    "ContentSecurityPolicy": lambda one: ("content-security-policy", one["ContentSecurityPolicy"]),
    "ContentTypeOptions": lambda one: ("x-content-type-options", "nosniff"),
    "FrameOptions": lambda one: ("x-frame-options", one["FrameOption"]),
    "ReferrerPolicy": lambda one: ("referrer-policy", one["ReferrerPolicy"]),
    "StrictTransportSecurity": lambda one: ("strict-transport-security", f"max-age={one['AccessControlMaxAgeSec']}"),
}
_BEHAVIOUR = {"AllowedMethods", "CachedMethods", "CachePolicyId", "Compress", "ResponseHeadersPolicyId",
              "TargetOriginId", "ViewerProtocolPolicy"}
_DISTRIBUTION = {"Comment", "DefaultCacheBehavior", "DefaultRootObject", "Enabled", "HttpVersion", "IPV6Enabled",
                 "Origins", "PriceClass"}


def _id(length: int) -> str:
    return "E" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(length - 1))


@resource("AWS::CloudFront::OriginAccessControl", STORED, attributes="Id", honoured="OriginAccessControlConfig",
          note="kept; the local site reads its bucket whatever the bucket's policy says")
async def origin_access_control(properties: Properties, context: Context) -> Applied:
    """How a distribution signs its requests to an origin."""
    refuse_unknown("OriginAccessControlConfig", require(properties, "OriginAccessControlConfig"),
                   {"Description", "Name", "OriginAccessControlOriginType", "SigningBehavior", "SigningProtocol"})
    made = _id(14)
    return Applied(made, {"Id": made})


@resource("AWS::CloudFront::ResponseHeadersPolicy", EMULATED, attributes="Id LastModifiedTime",
          honoured="ResponseHeadersPolicyConfig",
          note="security headers and custom headers, always overriding; addresses of what runs here are written as "
               "their local ones")
async def response_headers_policy(properties: Properties, context: Context) -> Applied:
    """Headers that a distribution adds to each answer."""
    config = require(properties, "ResponseHeadersPolicyConfig")
    refuse_unknown("ResponseHeadersPolicyConfig", config,
                   {"Comment", "CustomHeadersConfig", "Name", "SecurityHeadersConfig"})
    security = config.get("SecurityHeadersConfig", {})
    refuse_unknown("SecurityHeadersConfig", security, _SECURITY)
    headers = dict(_SECURITY[name](one) for name, one in security.items())
    for one in config.get("CustomHeadersConfig", {}).get("Items", []):
        headers[str(one["Header"]).lower()] = one["Value"]
    made, policies = f"{secrets.token_hex(4)}-{secrets.token_hex(6)}", context.services.header_policies
    policies[made] = headers

    async def delete() -> None:
        del policies[made]

    return Applied(made, {"Id": made, "LastModifiedTime": "2000-01-01T00:00:00Z"}, delete)


@resource("AWS::CloudFront::Distribution", EMULATED, attributes="Id DomainName", honoured="DistributionConfig",
          stated={**TAGS},
          note="one S3 origin on a port of this machine, --web-port upwards, over HTTP; GET and HEAD; nothing is "
               "cached, compressed or logged")
async def distribution(properties: Properties, context: Context) -> Applied:
    """One web site."""
    config = require(properties, "DistributionConfig")
    refuse_unknown("DistributionConfig", config, _DISTRIBUTION)
    behaviour = config["DefaultCacheBehavior"]
    refuse_unknown("DefaultCacheBehavior", behaviour, _BEHAVIOUR)
    services, policy = context.services, behaviour.get("ResponseHeadersPolicyId")
    if policy is not None and policy not in services.header_policies:
        raise Unsupported(f"ResponseHeadersPolicyId: {policy} is no policy of this deployment; AWS's own are not "
                          "emulated")
    site = WebSite(_bucket(config, behaviour["TargetOriginId"]), config.get("DefaultRootObject", ""),
                   services.header_policies.get(policy, {}), services.call, services.addresses)
    made, domain = _id(14), f"d{secrets.token_hex(7)}.cloudfront.net"
    await services.open_site(made, f"https://{domain}", site)

    async def delete() -> None:
        await services.close_site(made)

    return Applied(made, {"Id": made, "DomainName": domain}, delete)


def _bucket(config: dict[str, Any], origin_id: str) -> str:
    """Name of the bucket that is the only origin."""
    origins = config["Origins"]
    if len(origins) != 1 or origins[0]["Id"] != origin_id:
        raise Unsupported("Origins: one S3 origin is emulated, the one that DefaultCacheBehavior names")
    refuse_unknown("Origins", origins[0], {"DomainName", "Id", "OriginAccessControlId", "S3OriginConfig"})
    name, found, _ = str(origins[0]["DomainName"]).partition(".s3.")
    if not found:
        raise DeployError(f"Origins.DomainName: got {origins[0]['DomainName']}, expected a bucket's RegionalDomainName")
    return name
