"""The device stack's two certificate slots per thing: provision.py fills and empties them, through CloudFormation.

A deployed stack keeps its template: a change of certificates brings no other change along.
"""
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.faults import Fault
from deploy.processes import PartFailed, wait_until
from deploy.provision_files import public_key_of_request
from deploy.target import Target
from infra.settings import logical_id

SLOTS = ("A", "B")
ACTIVE, INACTIVE = "ACTIVE", "INACTIVE"
POLL_S = 2.0
DEADLINE_S = 900.0


class StackFault(Fault):
    """What CloudFormation or IoT refused, and the next step."""


@dataclass(frozen=True)
class Slot:
    """One slot as it is deployed: its parameter, the request in it ("": empty), its certificate's id and status."""

    name: str
    parameter: str
    request: str
    certificate_id: str
    status: str

    @property
    def is_empty(self) -> bool:
        return not self.request.strip()

    def holds(self, public_key: bytes | None) -> bool:
        """Whether the request in it was made with this key."""
        return public_key is not None and public_key_of_request(self.request) == public_key


class DeviceStack:
    """The slots of one thing in a target's device stack; every look asks anew."""

    def __init__(self, target: Target, thing: str) -> None:
        self._target, self.thing = target, thing
        first = thing == target.settings.things[0]
        self._title = "" if first else logical_id(thing)

    @property
    def name(self) -> str:
        return self._target.device_stack

    def _described(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._target.client("cloudformation").describe_stacks(StackName=self.name)
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return dict(found["Stacks"][0])

    def exists(self) -> bool:
        """Whether the stack is deployed (one whose first creation failed is not)."""
        found = self._described()
        return found is not None and found["StackStatus"] not in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE")

    def slots(self) -> list[Slot]:
        """A and B as they are deployed; empty where this thing has none: its own certificate was adopted."""
        found = self._described()
        if found is None:
            raise StackFault(f"stack {self.name} is not deployed; run `make deploy`")
        parameters = {one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])}
        outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}
        if self.thing not in outputs.get("Things", self.thing).split(","):
            there = outputs["Things"]
            raise StackFault(f"thing {self.thing} is not in stack {self.name}, which has {there}; deploy it first: "
                             f"make deploy CONTEXT=\"things={there},{self.thing}\"")
        return [self._slot(name, parameters, outputs) for name in SLOTS if f"{self._title}Csr{name}" in parameters]

    def _slot(self, name: str, parameters: dict[str, str], outputs: dict[str, str]) -> Slot:
        parameter = f"{self._title}Csr{name}"
        certificate_id = outputs.get(f"{parameter}CertificateId", "")
        status = self.status(certificate_id) if certificate_id else ""
        return Slot(name, parameter, parameters[parameter], certificate_id, status)

    def status(self, certificate_id: str) -> str:
        """ACTIVE, INACTIVE, …; "" for a certificate that this account does not know."""
        try:
            return str(self._certificate(certificate_id)["status"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return ""

    def pem(self, certificate_id: str) -> str:
        """The certificate: CloudFormation does not return it, IoT does."""
        return str(self._certificate(certificate_id)["certificatePem"])

    def _certificate(self, certificate_id: str) -> dict[str, Any]:
        iot = self._target.client("iot")
        return dict(iot.describe_certificate(certificateId=certificate_id)["certificateDescription"])

    def set_status(self, slot: Slot, status: str) -> None:
        """ACTIVE or INACTIVE; the latter ends the connections made with it."""
        self._target.client("iot").update_certificate(certificateId=slot.certificate_id, newStatus=status)

    def fill(self, slot: Slot, request: str) -> Slot:
        """Put a request ("": none) into a slot; all else of the stack stays. Returns the slot as it is then.

        Raises StackFault with CloudFormation's reason.
        """
        found = self._described()
        assert found is not None, "slots() has seen the stack"
        changed = [{"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in found["Parameters"]
                   if one["ParameterKey"] != slot.parameter]
        changed.append({"ParameterKey": slot.parameter, "ParameterValue": request})
        try:
            self._target.client("cloudformation").update_stack(
                StackName=self.name, UsePreviousTemplate=True, Parameters=changed)
        except ClientError as error:
            raise StackFault(f"stack {self.name} cannot be updated: {error}") from None
        status = self._ended()
        if status != "UPDATE_COMPLETE":
            raise StackFault(f"stack {self.name}: {status}; {self._why()}")
        return next(one for one in self.slots() if one.name == slot.name)

    def _ended(self) -> str:
        """The stack's status once nothing is under way."""
        status = ""

        def ended() -> bool:
            nonlocal status
            status = str((self._described() or {"StackStatus": "DELETE_COMPLETE"})["StackStatus"])
            return not status.endswith("_IN_PROGRESS")

        try:
            wait_until(f"stack {self.name} to be updated", ended, DEADLINE_S, POLL_S)
        except PartFailed as late:
            raise StackFault(str(late)) from None
        return status

    def _why(self) -> str:
        events = self._target.client("cloudformation").describe_stack_events(StackName=self.name)["StackEvents"]
        reasons = [one["ResourceStatusReason"] for one in events
                   if one["ResourceStatus"].endswith("_FAILED") and one.get("ResourceStatusReason")]
        return reasons[0] if reasons else (
            f"see its events: aws cloudformation describe-stack-events --stack-name {self.name}")
