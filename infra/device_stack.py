"""Who may connect: a thing per site, its IoT policy, and up to two certificates, made from certificate requests.

A certificate request goes in by the parameters CsrA and CsrB; the private key never leaves the site. Two slots, since
a changed request replaces its certificate at once: the new one goes into the free slot, and is tried, before the old
one goes.
"""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iot as iot
from constructs import Construct

from contract import routes, topics
from infra.names import give
from infra.settings import Settings, logical_id

SLOTS = ("A", "B")
THING = "${iot:Connection.Thing.ThingName}"  # put in by AWS IoT for the thing that connects
MAX_POLICY_CHARACTERS = 2048
ROOT_CA = "https://www.amazontrust.com/repository/AmazonRootCA1.pem"


class DeviceStack(cdk.Stack):
    """Things, their policy, certificates, attachments; Outputs that say what to do next."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        self._policy = iot.CfnPolicy(self, "Policy", policy_document=self._policy_document())
        for thing in settings.things:
            self._thing(thing, first=thing == settings.things[0])
        give(self, settings, {"things": ",".join(settings.things), "device-policy": self._policy.ref})
        self._outputs()

    def _policy_document(self) -> dict[str, Any]:
        """What a bridge does, and no more; a connection must use its thing's name and a certificate attached to it."""
        rules = [routes.rule_name(self._settings.name, route.name) for route in routes.ROUTES if route.topic is None]
        published = [topics.basic_ingest(rule, THING) for rule in rules] + [topics.ALERTS, topics.status(THING)]
        published += [topics.shadow(THING, operation) for operation in ("get", "update")]
        answered = [topics.receipts(THING), topics.shadow(THING, "*")]
        return {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": self._arn("client", THING),
             "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}},
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": [self._arn("topic", name) for name in published]},
            {"Effect": "Allow", "Action": "iot:RetainPublish", "Resource": self._arn("topic", topics.status(THING))},
            {"Effect": "Allow", "Action": "iot:Subscribe",
             "Resource": [self._arn("topicfilter", name) for name in answered]},
            {"Effect": "Allow", "Action": "iot:Receive", "Resource": [self._arn("topic", name) for name in answered]}]}

    def _arn(self, resource: str, name: str) -> str:
        return self.format_arn(service="iot", resource=resource, resource_name=name)

    def _thing(self, thing: str, first: bool) -> None:
        existing = thing == self._settings.existing_thing
        made = None if existing else iot.CfnThing(self, f"{logical_id(thing)}Thing", thing_name=thing)
        if existing and self._settings.certificate_arn:
            iot.CfnPolicyPrincipalAttachment(self, f"{logical_id(thing)}PolicyAttachment", policy_name=self._policy.ref,
                                             principal=self._settings.certificate_arn)
            self._output(f"{logical_id(thing)}NextStep", (
                f"None, if `aws iot list-thing-principals --thing-name {thing} --region {self.region}` names "
                f"{self._settings.certificate_arn}; else attach it with `aws iot attach-thing-principal`"))
            return
        title = "" if first else logical_id(thing)
        filled = [self._slot(f"{title}Csr{slot}", thing, made) for slot in SLOTS]
        self._next_step(title, thing, filled)

    def _slot(self, title: str, thing: str, made: iot.CfnThing | None) -> cdk.CfnCondition:
        """A certificate and its attachments, if the slot's parameter holds a request; returns that condition."""
        request = cdk.CfnParameter(
            self, title, default="", max_length=4096,
            description=f"Certificate request of {thing} in PEM; empty: no certificate in this slot")
        filled = cdk.CfnCondition(self, f"Has{title}", expression=cdk.Fn.condition_not(
            cdk.Fn.condition_equals(request.value_as_string, "")))
        certificate = iot.CfnCertificate(
            self, f"{title}Certificate", status="ACTIVE", certificate_signing_request=request.value_as_string)
        to_policy = iot.CfnPolicyPrincipalAttachment(
            self, f"{title}PolicyAttachment", policy_name=self._policy.ref, principal=certificate.attr_arn)
        to_thing = iot.CfnThingPrincipalAttachment(
            self, f"{title}ThingAttachment", thing_name=thing, principal=certificate.attr_arn)
        if made:
            to_thing.add_resource_dependency(made)
        for resource in (certificate, to_policy, to_thing):
            resource.cfn_options.condition = filled
        cdk.CfnOutput(self, f"{title}CertificateId", value=certificate.ref, condition=filled, description=(
            "Fetch it: aws iot describe-certificate --query certificateDescription.certificatePem --output text "
            f"--region {self.region} --certificate-id THIS > certs/{thing}.crt"))
        return filled

    def _next_step(self, title: str, thing: str, filled: list[cdk.CfnCondition]) -> None:
        command = f"make provision{f' THING={thing}' if title else ''}"
        missing = (
            f"{thing} has no certificate yet: {command} (with the same CONTEXT) makes a key, a certificate and "
            "certs/bridge.env, and proves them")
        present = f"{command} (with the same CONTEXT) writes and proves what the bridge needs, if certs/ has the key"
        any_filled = cdk.CfnCondition(self, f"{title}Certified", expression=cdk.Fn.condition_or(
            *filled))  # type: ignore[arg-type]  # jsii's protocol and its class differ in a parameter's name
        self._output(f"{title}NextStep", cdk.Fn.condition_if(any_filled.logical_id, present, missing).to_string())

    def _output(self, name: str, value: str, description: str | None = None) -> None:
        cdk.CfnOutput(self, name, value=value, description=description)

    def _outputs(self) -> None:
        self._output("Things", ",".join(self._settings.things), "Thing names: client ids of the bridges, and the sites")
        self._output("DevicePolicy", self._policy.ref, "IoT policy; attach it to each further certificate")
        for route in routes.ROUTES:
            self._output(f"{logical_id(route.name)}RuleName", routes.rule_name(self._settings.name, route.name),
                         f"IoT rule of {route.name}, for the bridge's settings")
        self._output("EndpointCommand",
                     f"aws iot describe-endpoint --endpoint-type iot:Data-ATS --region {self.region}",
                     "Prints the address the bridge connects to")
        self._output("RootCaCommand", f"mkdir -p certs && curl -o certs/AmazonRootCA1.pem {ROOT_CA}",
                     "Fetches the root certificate by which the bridge knows AWS IoT")
