"""What `make verify RULES=1` needs for a while: a certificate with a policy of its own, and a role by which the
temporary rules republish; made before, deleted after."""
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.device_connection import Files
from deploy.provision_files import Identity
from deploy.target import Target

PREFIX = "edgecloud_verify"
ROLE_POLICY = "republish"


class Access:
    """Names and rights of one run. name: of the client, the policy and the role alike."""

    def __init__(self, target: Target) -> None:
        self._target, self._run = target, secrets.token_hex(4)
        self.name = f"{PREFIX}_{self._run}"
        self.out_prefix = f"{PREFIX}/{self._run}/out"
        self.role_arn = ""
        self._undo: list[tuple[str, Callable[[], Any]]] = []

    def rule(self, number: int) -> str:
        """Name of the rule of one case."""
        return f"{self.name}_{number}"

    def out(self, number: int) -> str:
        """Topic that the rule republishes to: four levels."""
        return f"{self.out_prefix}/{number}"

    def plain(self, number: int) -> str:
        """Topic below which a case about topic filters lives."""
        return f"{PREFIX}/{self._run}/in/{number}"

    def is_ours(self, topic: str, payload: bytes) -> bool:
        """Whether a message is an answer."""
        return topic.startswith(self.out_prefix)

    def create(self, scratch: Path, root_ca: Path) -> Files:
        """Make all three; returns the TLS identity, whose key lies in `scratch` and goes with it."""
        account = self._target.client("sts").get_caller_identity()["Account"]
        self._role(account)
        return self._certificate(Identity(self.name, scratch / "k.key", scratch / "c.crt"), account).files(root_ca)

    def _arn(self, account: str, resource: str) -> str:
        return f"arn:aws:iot:{self._target.settings.region}:{account}:{resource}"

    def _role(self, account: str) -> None:
        iam = self._target.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
        made = iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=_document(trust),
                               Description="Temporary: make verify RULES=1")
        self._undo.append((f"role {self.name}", lambda: iam.delete_role(RoleName=self.name)))
        self.role_arn = made["Role"]["Arn"]
        may = {"Effect": "Allow", "Action": "iot:Publish", "Resource": self._arn(account, f"topic/{self.out_prefix}/*")}
        iam.put_role_policy(RoleName=self.name, PolicyName=ROLE_POLICY, PolicyDocument=_document(may))
        self._undo.append((f"policy of role {self.name}", lambda: iam.delete_role_policy(
            RoleName=self.name, PolicyName=ROLE_POLICY)))

    def _certificate(self, identity: Identity, account: str) -> Identity:
        iot = self._target.client("iot")
        iot.create_policy(policyName=self.name, policyDocument=_document(*self._statements(account)))
        self._undo.append((f"policy {self.name}", lambda: iot.delete_policy(policyName=self.name)))
        identity.make_key()
        made = iot.create_certificate_from_csr(certificateSigningRequest=identity.request(), setAsActive=True)
        certificate_id, arn = made["certificateId"], made["certificateArn"]
        self._undo += [
            (f"certificate {certificate_id}", lambda: iot.delete_certificate(certificateId=certificate_id)),
            (f"certificate {certificate_id}", lambda: iot.update_certificate(
                certificateId=certificate_id, newStatus="INACTIVE"))]
        iot.attach_policy(policyName=self.name, target=arn)
        self._undo.append((f"attachment of policy {self.name}", lambda: iot.detach_policy(
            policyName=self.name, target=arn)))
        identity.write_certificate(made["certificatePem"])
        return identity

    def _statements(self, account: str) -> list[dict[str, Any]]:
        def allow(action: str, *resources: str) -> dict[str, Any]:
            return {"Effect": "Allow", "Action": action, "Resource": [self._arn(account, one) for one in resources]}

        return [allow("iot:Connect", f"client/{self.name}"),
                allow("iot:Publish", f"topic/$aws/rules/{self.name}_*", f"topic/{PREFIX}/{self._run}/in/*"),
                allow("iot:Subscribe", f"topicfilter/{self.out_prefix}/#"),
                allow("iot:Receive", f"topic/{self.out_prefix}/*")]

    def delete(self) -> list[str]:
        """Take it all away, newest first; names what stays behind."""
        left = []
        while self._undo:
            what, step = self._undo.pop()
            try:
                step()
            except (ClientError, BotoCoreError) as error:
                left.append(f"{what}: {error}")
        return left


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
