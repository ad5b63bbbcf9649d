"""IoT's control-plane API for what scripts and handlers need: requests of the AWS endpoint in, the registry out.

Anything else is refused with 501 rather than answered from moto, whose registry knows none of the gateway's things.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud.aws_answers import json_answer, json_error
from local_cloud.errors import DeployError, Unsupported
from local_cloud.gateway import Certificate, LimitReached, NotRegistered, PolicyError, Registry, RegistryError
from local_cloud.http_wire import Request, Response
from local_cloud.pki import LocalCa
from local_cloud.rule_engine import RuleEngine

# Members of a rule's payload and actions whose name in the API is not that of CloudFormation in lower camel case.
_API_NAMES = {"dynamoDBv2": "DynamoDBv2"}
Operation = Callable[..., dict[str, Any]]  # (names from the path, members of query, headers and body) -> the answer


class Refused(Exception):
    """A request that AWS IoT would refuse with this kind of exception."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Route(NamedTuple):
    """One operation of the API: AWS's name for it, what a request for it looks like, and what answers."""

    operation: str
    method: str
    path: re.Pattern[str]
    run: Operation


class IotApi:
    """Answers from `registry`, signs with `pki` and makes rules in `rules`; `endpoint()` is what DescribeEndpoint
    gives, host or host:port."""

    def __init__(self, registry: Registry, endpoint: Callable[[], str], pki: LocalCa, rules: RuleEngine) -> None:
        self._registry = registry
        self._endpoint = endpoint
        self._pki = pki
        self._rules = rules
        self._routes = [Route(name, method, re.compile(path), run) for name, method, path, run in (
            ("DescribeEndpoint", "GET", "/endpoint", self._describe_endpoint),
            ("ListThings", "GET", "/things", self._list_things),
            ("DescribeThing", "GET", "/things/([^/]+)", self._describe_thing),
            ("ListThingPrincipals", "GET", "/things/([^/]+)/principals", self._list_thing_principals),
            ("ListPrincipalThings", "GET", "/principals/things", self._list_principal_things),
            ("ListCertificates", "GET", "/certificates", self._list_certificates),
            ("DescribeCertificate", "GET", "/certificates/([^/]+)", self._describe_certificate),
            ("UpdateCertificate", "PUT", "/certificates/([^/]+)", self._update_certificate),
            ("CreateCertificateFromCsr", "POST", "/certificates", self._create_certificate),
            ("DeleteCertificate", "DELETE", "/certificates/([^/]+)", self._delete_certificate),
            ("ListAttachedPolicies", "POST", "/attached-policies/(.+)", self._list_attached_policies),
            ("ListPolicies", "GET", "/policies", self._list_policies),
            ("GetPolicy", "GET", "/policies/([^/]+)", self._get_policy),
            ("CreatePolicy", "POST", "/policies/([^/]+)", self._create_policy),
            ("DeletePolicy", "DELETE", "/policies/([^/]+)", self._delete_policy),
            ("AttachPolicy", "PUT", "/target-policies/([^/]+)", self._attach_policy),
            ("DetachPolicy", "POST", "/target-policies/([^/]+)", self._detach_policy),
            ("ListTopicRules", "GET", "/rules", self._list_rules),
            ("CreateTopicRule", "POST", "/rules/([^/]+)", self._create_rule),
            ("DeleteTopicRule", "DELETE", "/rules/([^/]+)", self._delete_rule))]

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        parts = urlsplit(request.target)
        for route in self._routes:
            found = route.path.fullmatch(parts.path)
            if found and route.method == request.method:
                return self._run(route.run, [unquote(one) for one in found.groups()], parts.query, request)
        known = ", ".join(route.operation for route in self._routes)
        return json_error(501, "NotImplementedException",
                      f"{request.method} {parts.path} is not emulated by the local cloud's IoT API; it knows {known}")

    def _run(self, operation: Operation, names: list[str], query: str, request: Request) -> Response:
        given: dict[str, Any] = {name: values[0] for name, values in parse_qs(query).items()}
        principal = request.headers.get("x-amzn-principal")
        if principal:
            given["principal"] = principal
        try:
            body = operation(*names, given | _json_object(request.body))
        except Refused as fault:
            return json_error(400, fault.kind, str(fault))
        except NotRegistered as fault:
            return json_error(404, "ResourceNotFoundException", str(fault))
        except LimitReached as fault:
            return json_error(410, "LimitExceededException", str(fault))
        except RegistryError as fault:
            return json_error(400, "InvalidRequestException", str(fault))
        except KeyError as missing:
            return json_error(400, "InvalidRequestException", f"the request has no {missing.args[0]}")
        return json_answer(200, body)

    def _describe_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"endpointAddress": self._endpoint()}

    def _list_things(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"things": [self._thing(name) for name in sorted(self._registry.things)]}

    def _thing(self, name: str) -> dict[str, Any]:
        if name not in self._registry.things:
            raise NotRegistered(f"thing {name} does not exist")
        thing = self._registry.things[name]
        described: dict[str, Any] = {"thingName": name, "thingArn": thing.arn, "attributes": thing.attributes,
                                     "version": 1}
        if thing.type_name:
            described["thingTypeName"] = thing.type_name
        return described

    def _describe_thing(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"defaultClientId": name, "thingId": name, **self._thing(name)}

    def _list_thing_principals(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self._thing(name)
        return {"principals": [one.arn for one in self._registry.certificates.values() if name in one.things]}

    def _list_principal_things(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"things": list(self._registry.certificate(given["principal"]).things)}

    def _list_certificates(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"certificates": [_certificate(one) for one in self._registry.certificates.values()]}

    def _describe_certificate(self, identity: str, given: dict[str, Any]) -> dict[str, Any]:
        certificate = self._registry.certificate(identity)
        return {"certificateDescription": {**_certificate(certificate), "certificatePem": certificate.pem}}

    def _update_certificate(self, identity: str, given: dict[str, Any]) -> dict[str, Any]:
        self._registry.set_status(identity, given["newStatus"])
        return {}

    def _list_attached_policies(self, target: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"policies": [self._policy(name) for name in self._registry.certificate(target).policies]}

    def _list_policies(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"policies": [self._policy(name) for name in sorted(self._registry.policies)]}

    def _policy(self, name: str) -> dict[str, Any]:
        return {"policyName": name, "policyArn": self._registry.policies[name].arn}

    def _get_policy(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name not in self._registry.policies:
            raise NotRegistered(f"policy {name} does not exist")
        document = self._registry.policies[name].document
        text = document if isinstance(document, str) else json.dumps(document)
        return {**self._policy(name), "policyDocument": text, "defaultVersionId": "1"}

    def _create_certificate(self, given: dict[str, Any]) -> dict[str, Any]:
        try:
            pem = self._pki.sign_csr(given["certificateSigningRequest"])
        except ValueError as fault:
            raise Refused("InvalidRequestException", f"certificateSigningRequest: {fault}") from None
        status = "ACTIVE" if given.get("setAsActive") == "true" else "INACTIVE"
        made = self._registry.add_certificate(pem, status)
        return {"certificateArn": made.arn, "certificateId": made.id, "certificatePem": made.pem}

    def _delete_certificate(self, identity: str, given: dict[str, Any]) -> dict[str, Any]:
        if self._registry.certificate(identity).status == "ACTIVE":
            raise Refused("CertificateStateException", f"certificate {identity} is ACTIVE; set it INACTIVE first")
        try:
            self._registry.remove_certificate(identity)
        except RegistryError as fault:
            raise Refused("DeleteConflictException", str(fault)) from None
        return {}

    def _create_policy(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            self._registry.add_policy(name, given["policyDocument"])
        except PolicyError as fault:
            raise Refused("MalformedPolicyException", str(fault)) from None
        except RegistryError as fault:
            raise Refused("ResourceAlreadyExistsException", str(fault)) from None
        return {**self._policy(name), "policyDocument": given["policyDocument"], "policyVersionId": "1"}

    def _delete_policy(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name in self._registry.policies and any(name in one.policies for one in
                                                   self._registry.certificates.values()):
            raise Refused("DeleteConflictException", f"policy {name} is still attached; detach it first")
        self._registry.remove_policy(name)
        return {}

    def _attach_policy(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self._registry.attach_policy(name, given["target"])
        return {}

    def _detach_policy(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self._registry.detach_policy(name, given["target"])
        return {}

    def _list_rules(self, given: dict[str, Any]) -> dict[str, Any]:
        arn = self._registry.arn
        return {"rules": [{"ruleName": name, "ruleArn": arn("rule", name)} for name in self._rules.names()]}

    def _create_rule(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name in self._rules.names():
            raise Refused("ResourceAlreadyExistsException", f"rule {name} exists already")
        try:
            self._rules.create(name, _as_in_a_template(given))
        except DeployError as fault:
            raise Refused("SqlParseException", str(fault)) from None
        except Unsupported as fault:
            raise Refused("InvalidRequestException", f"not emulated: {fault}") from None
        return {}

    def _delete_rule(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name in self._rules.names():  # as on AWS, deleting what is not there is no error
            self._rules.delete(name)
        return {}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body or b"{}")
    except ValueError as fault:
        raise Refused("InvalidRequestException", f"the body is no JSON: {fault}") from None
    if not isinstance(given, dict):
        raise Refused("InvalidRequestException", f"the body is {given!r:.80}, expected a JSON object")
    return given


def _as_in_a_template(value: Any) -> Any:
    """A rule's payload as CloudFormation writes it: {"sql": …} as {"Sql": …}."""
    if isinstance(value, dict):
        return {_API_NAMES.get(name, name[:1].upper() + name[1:]): _as_in_a_template(member)
                for name, member in value.items()}
    return [_as_in_a_template(member) for member in value] if isinstance(value, list) else value


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {"certificateArn": certificate.arn, "certificateId": certificate.id, "status": certificate.status}
