"""IoT's control-plane API for what scripts and handlers need: requests of the AWS endpoint in, the registry out.

Anything else is refused with 501 rather than answered from moto, whose registry knows none of the gateway's things.
"""

import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud.gateway import Certificate, Registry, RegistryError
from local_cloud.http_wire import Request, Response

KNOWN = (
    "DescribeEndpoint, ListThings, DescribeThing, ListThingPrincipals, ListCertificates, DescribeCertificate, "
    "UpdateCertificate, ListPrincipalThings, ListAttachedPolicies, ListPolicies and GetPolicy"
)


class IotApi:
    """Answers from `registry`; `endpoint()` is what DescribeEndpoint gives, host or host:port."""

    def __init__(self, registry: Registry, endpoint: Callable[[], str]) -> None:
        self._registry = registry
        self._endpoint = endpoint
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., dict[str, Any]]]] = [
            ("GET", re.compile("/endpoint"), self._describe_endpoint),
            ("GET", re.compile("/things"), self._list_things),
            ("GET", re.compile("/things/([^/]+)"), self._describe_thing),
            ("GET", re.compile("/things/([^/]+)/principals"), self._list_thing_principals),
            ("GET", re.compile("/principals/things"), self._list_principal_things),
            ("GET", re.compile("/certificates"), self._list_certificates),
            ("GET", re.compile("/certificates/([^/]+)"), self._describe_certificate),
            ("PUT", re.compile("/certificates/([^/]+)"), self._update_certificate),
            ("POST", re.compile("/attached-policies/(.+)"), self._list_attached_policies),
            ("GET", re.compile("/policies"), self._list_policies),
            ("GET", re.compile("/policies/([^/]+)"), self._get_policy),
        ]

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        parts = urlsplit(request.target)
        for method, pattern, operation in self._routes:
            found = pattern.fullmatch(parts.path)
            if found and method == request.method:
                return self._run(operation, [unquote(one) for one in found.groups()], parts.query, request)
        return _error(
            501,
            "NotImplementedException",
            f"{request.method} {parts.path} is not emulated by the local cloud's IoT API; it knows {KNOWN}",
        )

    def _run(
        self, operation: Callable[..., dict[str, Any]], names: list[str], query: str, request: Request
    ) -> Response:
        given = {name: values[0] for name, values in parse_qs(query).items()}
        principal = request.headers.get("x-amzn-principal")
        if principal:
            given["principal"] = principal
        try:
            body = operation(*names, given)
        except (KeyError, RegistryError) as fault:
            return _error(404, "ResourceNotFoundException", str(fault).strip("'"))
        return Response(
            200,
            json.dumps(body).encode(),
            [("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4()))],
        )

    def _describe_endpoint(self, given: dict[str, str]) -> dict[str, Any]:
        return {"endpointAddress": self._endpoint()}

    def _list_things(self, given: dict[str, str]) -> dict[str, Any]:
        return {"things": [self._thing(name) for name in sorted(self._registry.things)]}

    def _thing(self, name: str) -> dict[str, Any]:
        if name not in self._registry.things:
            raise RegistryError(f"thing {name} does not exist")
        thing = self._registry.things[name]
        described: dict[str, Any] = {
            "thingName": name,
            "thingArn": thing.arn,
            "attributes": thing.attributes,
            "version": 1,
        }
        if thing.type_name:
            described["thingTypeName"] = thing.type_name
        return described

    def _describe_thing(self, name: str, given: dict[str, str]) -> dict[str, Any]:
        return {"defaultClientId": name, "thingId": name, **self._thing(name)}

    def _list_thing_principals(self, name: str, given: dict[str, str]) -> dict[str, Any]:
        self._thing(name)
        return {"principals": [one.arn for one in self._registry.certificates.values() if name in one.things]}

    def _list_principal_things(self, given: dict[str, str]) -> dict[str, Any]:
        return {"things": list(self._registry.certificate(given["principal"]).things)}

    def _list_certificates(self, given: dict[str, str]) -> dict[str, Any]:
        return {"certificates": [_certificate(one) for one in self._registry.certificates.values()]}

    def _describe_certificate(self, identity: str, given: dict[str, str]) -> dict[str, Any]:
        certificate = self._registry.certificate(identity)
        return {"certificateDescription": {**_certificate(certificate), "certificatePem": certificate.pem}}

    def _update_certificate(self, identity: str, given: dict[str, str]) -> dict[str, Any]:
        self._registry.set_status(identity, given["newStatus"])
        return {}

    def _list_attached_policies(self, target: str, given: dict[str, str]) -> dict[str, Any]:
        return {"policies": [self._policy(name) for name in self._registry.certificate(target).policies]}

    def _list_policies(self, given: dict[str, str]) -> dict[str, Any]:
        return {"policies": [self._policy(name) for name in sorted(self._registry.policies)]}

    def _policy(self, name: str) -> dict[str, Any]:
        return {"policyName": name, "policyArn": self._registry.policies[name].arn}

    def _get_policy(self, name: str, given: dict[str, str]) -> dict[str, Any]:
        if name not in self._registry.policies:
            raise RegistryError(f"policy {name} does not exist")
        document = self._registry.policies[name].document
        text = document if isinstance(document, str) else json.dumps(document)
        return {**self._policy(name), "policyDocument": text, "defaultVersionId": "1"}


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {"certificateArn": certificate.arn, "certificateId": certificate.id, "status": certificate.status}


def _error(status: int, kind: str, text: str) -> Response:
    return Response(
        status,
        json.dumps({"message": text}).encode(),
        [("Content-Type", "application/json"), ("x-amzn-ErrorType", kind)],
    )
