"""The device registry: things, certificates and policies of a template, and what is attached to what.

Filled by the appliers of AWS::IoT resources and read by the gateway at each connect; in memory, as long as the local
cloud runs. A certificate is named by its id (the SHA-256 of its DER, in hex) or its ARN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_cloud.gateway.policy import Statement, parse
from local_cloud.pki import certificate_id

ACTIVE = "ACTIVE"
STATUSES = (ACTIVE, "INACTIVE", "REVOKED", "PENDING_TRANSFER", "PENDING_ACTIVATION", "REGISTER_INACTIVE")
POLICIES_PER_CERTIFICATE = 10


class RegistryError(ValueError):
    """A registry call that AWS IoT would refuse: a name that exists or does not, something still attached."""


class NotRegistered(RegistryError):
    """A name that no thing, certificate or policy has."""


class LimitReached(RegistryError):
    """One more than AWS IoT's quota allows."""


@dataclass
class Thing:
    """A device by name; its certificates are attached to it."""

    name: str
    arn: str
    attributes: dict[str, str] = field(default_factory=dict)
    type_name: str | None = None


@dataclass
class Certificate:
    """A registered X.509 certificate; only ACTIVE ones connect."""

    id: str
    arn: str
    pem: str
    status: str
    policies: list[str] = field(default_factory=list)
    things: list[str] = field(default_factory=list)


@dataclass
class Policy:
    """A policy document under a name."""

    name: str
    arn: str
    document: str | Mapping[str, Any]
    statements: tuple[Statement, ...]


class Registry:
    """All of it. `version` grows with every change; watchers are told whose connections may have to end."""

    def __init__(self, account_id: str = "123456789012", region: str = "eu-north-1") -> None:
        self.account_id = account_id
        self.region = region
        self.version = 0
        self.things: dict[str, Thing] = {}
        self.certificates: dict[str, Certificate] = {}
        self.policies: dict[str, Policy] = {}
        self._watchers: list[Callable[[str], None]] = []

    def arn(self, kind: str, name: str) -> str:
        """The ARN of one of its resources: `arn("topic", "a/b")`."""
        return f"arn:aws:iot:{self.region}:{self.account_id}:{kind}/{name}"

    def watch(self, certificate_changed: Callable[[str], None]) -> None:
        """Call with the certificate's id when a certificate's status changes or it is removed."""
        self._watchers.append(certificate_changed)

    def add_thing(self, name: str, attributes: Mapping[str, str] | None = None, type_name: str | None = None) -> Thing:
        """Create a thing."""
        if name in self.things:
            raise RegistryError(f"thing {name!r} exists already; delete it or choose another name")
        self.things[name] = Thing(name, self.arn("thing", name), dict(attributes or {}), type_name)
        self.version += 1
        return self.things[name]

    def remove_thing(self, name: str) -> None:
        """Delete a thing that no certificate is attached to."""
        self._thing(name)
        if held := [one.id for one in self.certificates.values() if name in one.things]:
            raise RegistryError(f"thing {name!r} still has certificate {held[0]} attached; detach it first")
        del self.things[name]
        self.version += 1

    def add_certificate(self, pem: str, status: str = ACTIVE) -> Certificate:
        """Register a certificate."""
        try:
            identity = certificate_id(pem)
        except ValueError as error:
            raise RegistryError(f"certificate is no PEM: {error}") from error
        if identity in self.certificates:
            raise RegistryError(f"certificate {identity} exists already")
        self.certificates[identity] = Certificate(identity, self.arn("cert", identity), pem, _status(status))
        self.version += 1
        return self.certificates[identity]

    def certificate(self, reference: str) -> Certificate:
        """The certificate by id or ARN; RegistryError when there is none."""
        identity = reference.rpartition("cert/")[2]
        if identity not in self.certificates:
            raise NotRegistered(f"certificate {reference!r} is not registered")
        return self.certificates[identity]

    def active(self, identity: str) -> Certificate | None:
        """The certificate of that id, if a device may connect with it."""
        certificate = self.certificates.get(identity)
        return certificate if certificate is not None and certificate.status == ACTIVE else None

    def set_status(self, reference: str, status: str) -> None:
        """ACTIVE, INACTIVE, REVOKED …; anything but ACTIVE ends its live connections."""
        certificate = self.certificate(reference)
        certificate.status = _status(status)
        self._changed(certificate.id)

    def remove_certificate(self, reference: str) -> None:
        """Delete a certificate that nothing is attached to; ends its live connections."""
        certificate = self.certificate(reference)
        if held := certificate.policies + certificate.things:
            raise RegistryError(f"certificate {certificate.id} still has {held[0]!r} attached; detach it first")
        del self.certificates[certificate.id]
        self._changed(certificate.id)

    def add_policy(self, name: str, document: str | Mapping[str, Any]) -> Policy:
        """Create a policy; PolicyError for a document that is refused."""
        if name in self.policies:
            raise RegistryError(f"policy {name!r} exists already; delete it or choose another name")
        self.policies[name] = Policy(name, self.arn("policy", name), document, parse(document))
        self.version += 1
        return self.policies[name]

    def remove_policy(self, name: str) -> None:
        """Delete a policy that no certificate has."""
        self._policy(name)
        if held := [one.id for one in self.certificates.values() if name in one.policies]:
            raise RegistryError(f"policy {name!r} is still attached to certificate {held[0]}; detach it first")
        del self.policies[name]
        self.version += 1

    def attach_policy(self, name: str, certificate: str) -> None:
        """Give a certificate (id or ARN) a policy; once more changes nothing."""
        self._policy(name)
        policies = self.certificate(certificate).policies
        if name in policies:
            return
        if len(policies) >= POLICIES_PER_CERTIFICATE:
            raise LimitReached(f"certificate has {POLICIES_PER_CERTIFICATE} policies already, AWS IoT's most")
        policies.append(name)
        self.version += 1

    def detach_policy(self, name: str, certificate: str) -> None:
        """Take it away; holds for live connections from their next packet on."""
        _take_out(self.certificate(certificate).policies, name, "policy")
        self.version += 1

    def attach_thing(self, name: str, certificate: str) -> None:
        """Attach a certificate (id or ARN) to a thing; once more changes nothing."""
        self._thing(name)
        things = self.certificate(certificate).things
        if name not in things:
            things.append(name)
        self.version += 1

    def detach_thing(self, name: str, certificate: str) -> None:
        """Take the certificate off the thing."""
        _take_out(self.certificate(certificate).things, name, "thing")
        self.version += 1

    def attached_thing(self, certificate: Certificate, client_id: str) -> Thing | None:
        """The thing a connection is: attached to the certificate, and named as the client id."""
        return self.things[client_id] if client_id in certificate.things else None

    def statements(self, certificate: Certificate) -> list[Statement]:
        """All statements of the certificate's policies."""
        return [statement for name in certificate.policies for statement in self.policies[name].statements]

    def _changed(self, identity: str) -> None:
        self.version += 1
        for certificate_changed in self._watchers:
            certificate_changed(identity)

    def _thing(self, name: str) -> Thing:
        if name not in self.things:
            raise NotRegistered(f"thing {name!r} is not registered")
        return self.things[name]

    def _policy(self, name: str) -> Policy:
        if name not in self.policies:
            raise NotRegistered(f"policy {name!r} does not exist")
        return self.policies[name]


def _status(status: str) -> str:
    if status not in STATUSES:
        raise RegistryError(f"certificate status {status!r}; one of {', '.join(STATUSES)} expected")
    return status


def _take_out(attached: list[str], name: str, kind: str) -> None:
    if name not in attached:
        raise RegistryError(f"{kind} {name!r} is not attached to that certificate")
    attached.remove(name)
