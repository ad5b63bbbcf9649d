"""Where the dashboard's page is served: no public bucket, HTTPS only, a strict policy, and no circle between stacks."""
import json
from typing import Any

from tests.synthesized import assembly, properties, resources, template, text


def web(*context: tuple[str, str], title: str = "EdgeCloud") -> dict[str, Any]:
    return dict(json.loads((assembly(*context) / f"{title}Web.template.json").read_text()))


def only(kind: str) -> dict[str, Any]:
    (one,) = resources(web(), kind).values()
    return dict(one["Properties"])


def headers() -> dict[str, Any]:
    return dict(only("AWS::CloudFront::ResponseHeadersPolicy")["ResponseHeadersPolicyConfig"])


def test_only_this_distribution_reads_the_bucket() -> None:
    bucket = only("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True} and len(
        bucket["PublicAccessBlockConfiguration"]) == 4
    deny, allow = only("AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert (allow["Effect"], allow["Action"]) == ("Allow", "s3:GetObject")
    assert allow["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert len(resources(web(), "AWS::CloudFront::Distribution")) == 1
    assert text(allow["Condition"]["StringEquals"]["AWS:SourceArn"]).endswith(":distribution/<Site>")
    control = only("AWS::CloudFront::OriginAccessControl")["OriginAccessControlConfig"]
    assert (control["SigningBehavior"], control["SigningProtocol"]) == ("always", "sigv4")


def test_https_only_reading_only_and_the_cheapest_class() -> None:
    config = only("AWS::CloudFront::Distribution")["DistributionConfig"]
    behaviour = config["DefaultCacheBehavior"]
    assert (behaviour["ViewerProtocolPolicy"], behaviour["AllowedMethods"]) == ("https-only", ["GET", "HEAD"])
    assert (config["PriceClass"], config["DefaultRootObject"]) == ("PriceClass_100", "index.html")
    (policy,) = resources(web(), "AWS::CloudFront::ResponseHeadersPolicy")
    assert behaviour["ResponseHeadersPolicyId"] == {"Ref": policy}


def test_the_policy_lets_nothing_in_and_little_out() -> None:
    security = headers()["SecurityHeadersConfig"]
    policy = text(security["ContentSecurityPolicy"]["ContentSecurityPolicy"])
    directives = dict(one.split(" ", 1) for one in policy.split("; "))
    assert directives["default-src"] == "'none'" and directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == directives["form-action"] == "'none'"
    own, api, sign_in = directives["connect-src"].split(" ")
    assert (own, api) == ("'self'", "https://*.execute-api.eu-north-1.amazonaws.com")
    given = properties(template("Api"), "SignInUrlParameter")["Value"]
    assert sign_in == text(given), "the page's policy names the very sign-in page of the pool"
    assert "unsafe" not in policy and "http:" not in policy
    assert all(one["Override"] for one in security.values())
    assert security["StrictTransportSecurity"]["AccessControlMaxAgeSec"] >= 31_536_000
    assert security["FrameOptions"]["FrameOption"] == "DENY"


def test_the_api_and_the_sign_in_page_know_the_page_by_a_parameter() -> None:
    parameters = template("Api")["Parameters"]
    assert parameters["WebUrl"]["Default"] == "/edgecloud/web-url"
    cors = next(iter(resources(template("Api"), "AWS::ApiGatewayV2::Api").values()))["Properties"]["CorsConfiguration"]
    assert cors["AllowOrigins"] == [{"Ref": "WebUrl"}]
    clients = resources(template("Api"), "AWS::Cognito::UserPoolClient")
    (dashboard,) = [one["Properties"] for name, one in clients.items() if "Dashboard" in name]
    assert [text(url) for url in dashboard["CallbackURLs"]] == ["<WebUrl>/"]
    given = {one["Properties"]["Name"] for one in resources(web(), "AWS::SSM::Parameter").values()}
    assert given == {"/edgecloud/web-url", "/edgecloud/web-bucket", "/edgecloud/web-distribution"}
    assert "Fn::ImportValue" not in json.dumps(web())


def test_an_origin_of_ones_own_takes_the_place_of_the_distributions() -> None:
    own = (("dashboard_origin", "https://edge.example.org"),)
    found = template("Api", *own)
    assert "WebUrl" not in found["Parameters"]
    cors = next(iter(resources(found, "AWS::ApiGatewayV2::Api").values()))["Properties"]["CorsConfiguration"]
    assert cors["AllowOrigins"] == ["https://edge.example.org"]
