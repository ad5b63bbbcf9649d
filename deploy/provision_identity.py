"""A site's identity: provision.py asks for it; files in certs/ and slots of the device stack come out of it.

Each step looks at what is there (the files, the slots, the certificates' status) and does only what is missing: after
an interruption, wherever it was, the same command goes on.
"""
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from contract import batch, routes, topics
from deploy import atomic_file, aws_cli, provision_files
from deploy.certificates import ROOT_CA
from deploy.device_connection import DeviceConnection
from deploy.provision_adopt import Found, context_of, look
from deploy.provision_files import Identity
from deploy.provision_stack import ACTIVE, INACTIVE, DeviceStack, Slot, StackFault
from deploy.target import Target

Say = Callable[[str], None]
Ask = Callable[[str], bool]


class Provision:
    """Brings one thing to a certificate that works. directory: certs/; ask: a question answered yes or no; deploy:
    aws_cli.main, given its command line.

    after: called with the name of each step that was done, and may raise (the tests do, to interrupt).
    """

    def __init__(self, target: Target, thing: str, directory: Path, *, ask: Ask, say: Say = print,
                 deploy: Callable[[Sequence[str]], int] = aws_cli.main, after: Say = lambda step: None) -> None:
        self._target, self._thing, self._directory = target, thing, directory
        self._ask, self._say, self._deploy, self._after = ask, say, deploy, after
        self._stack = DeviceStack(target, thing)

    def provision(self) -> None:
        """Key, certificate, files, proof; what is there already stays."""
        if not self._stack.exists():
            self._first_deploy()
        slots, identity = self._stack.slots(), self._identity()
        if slots:
            held = next((slot for slot in slots if slot.holds(identity.public_key())), None)
            self._certify(identity, held or self._free_slot(slots))
        else:
            self._check_adopted(identity)
        self._surroundings()
        self.prove(identity)
        if identity.next.key.exists():
            self._say("a rotation was begun and not ended; `make provision ROTATE=1` goes on with it")
        self._say(f"{self._thing} is ready: {identity.certificate}, {identity.key} and "
                  f"{self._directory / provision_files.ENV_FILE} for the bridge")

    def _identity(self) -> Identity:
        """What the directory holds. FileFault when that is another thing's: each bridge has its own directory."""
        identity = provision_files.find(self._directory, self._thing)
        named = identity.key.stem if identity.key.stem in self._target.settings.things else self._thing
        owner = provision_files.read_environment(self._directory).get("THING", named)
        if owner != self._thing:
            raise provision_files.FileFault(
                f"{self._directory} holds the identity of {owner}; {self._thing} gets a directory of its own: "
                f"make provision THING={self._thing} CERTS=certs-{self._thing}")
        return identity

    def _first_deploy(self) -> None:
        """Deploy the stacks with the certificate request in slot A, or around the thing that is there."""
        if self._target.is_local:
            raise StackFault(f"the local cloud has no stack {self._stack.name}; give the name it runs under: "
                             "CONTEXT=\"name=…\"")
        identity = self._identity()
        found = look(self._target, self._thing, identity)
        if found.thing_exists and not self._ask(found.question()):
            raise StackFault(found.refusal())
        command = ["deploy", *(f"-c{pair}" for pair in context_of(found))]
        with tempfile.TemporaryDirectory() as scratch:
            if not found.certificate_arn:
                self._make_key(identity)
                request = Path(scratch) / "request.csr"
                request.write_text(identity.request(), encoding="ascii")
                command += ["--csr", str(request), "--thing", self._thing]
            if self._deploy(command) != 0:
                raise StackFault("the deployment did not succeed, for the reason above; no file was written but the "
                                 "key, which the next `make provision` takes again")
        self._keep_in_mind(found)
        self._after("deployed")

    def _keep_in_mind(self, found: Found) -> None:
        if found.thing_exists:
            self._say(f'from now on deploy with CONTEXT="{" ".join(context_of(found))}": the thing is not the stack\'s')

    def _check_adopted(self, identity: Identity) -> None:
        """The template has no slots for this thing: its certificate was there before."""
        certificate_id = identity.certificate_id()
        if certificate_id is None or self._stack.status(certificate_id) != ACTIVE:
            raise StackFault(
                f"{self._thing} was deployed around a certificate of yours (certificate_arn); its key and certificate "
                f"are expected in {self._directory}; or deploy without certificate_arn, and a new one is made")

    def _make_key(self, identity: Identity) -> None:
        if identity.make_key():
            self._say(f"made {identity.key} (RSA-2048, for you alone; it never leaves this machine)")
        self._after("key")

    def _certify(self, identity: Identity, slot: Slot) -> None:
        """Have the identity's key in this slot, and its certificate beside it."""
        if not slot.holds(identity.public_key()):
            self._make_key(identity)
            self._say(f"stack {self._stack.name}: certificate request of {self._thing} into slot {slot.name} ...")
            slot = self._stack.fill(slot, identity.request())
            self._after("slot filled")
        if slot.status != ACTIVE:
            raise StackFault(
                f"certificate {slot.certificate_id} of {identity.key} is {slot.status or 'gone'}; activate it (aws iot "
                "update-certificate --new-status ACTIVE --certificate-id …), or move the key away, and a new one is "
                "made")
        if identity.certificate_id() != slot.certificate_id:
            identity.write_certificate(self._stack.pem(slot.certificate_id))
            self._after("certificate")

    def _free_slot(self, slots: list[Slot]) -> Slot:
        """The slot for a first certificate of this directory; where the thing has another already, after a question."""
        free = [slot for slot in slots if slot.is_empty]
        taken = [slot for slot in slots if not slot.is_empty]
        if not free:
            raise StackFault(f"both slots of {self._thing} hold certificates whose keys are not in {self._directory}; "
                             "put one of the keys there, or empty a slot: make provision RETIRE=A (or B)")
        if taken and not self._ask(
                f"{self._thing} has a certificate already ({taken[0].certificate_id[:12]}…, {taken[0].status}), whose "
                f"key is not in {self._directory}. Make a second one, in slot {free[0].name}?"):
            raise StackFault("nothing was changed; to go on with the certificate that is there, copy it and its key to "
                             f"{self._directory}")
        return free[0]

    def _surroundings(self) -> None:
        """Root certificate and bridge.env."""
        if self._target.ready is not None:
            root = Path(self._target.ready["ca_file"]).read_bytes()
        else:
            root = provision_files.amazon_root_ca()
        path = self._directory / ROOT_CA
        if not path.exists() or path.read_bytes() != root:
            atomic_file.write(path, root)
        provision_files.write_environment(self._directory, environment(self._target, self._thing))
        self._after("environment")

    def prove(self, identity: Identity) -> None:
        """One publish that stores nothing, on the very topic of the readings. Raises ConnectionFault."""
        host, port = self._target.gateway()
        rule = routes.rule_name(self._target.settings.name, "readings")
        _, sealed = batch.seal_series("readings", "provision", [])
        files = identity.files(self._directory / ROOT_CA)
        with DeviceConnection(host, port, self._thing, files) as connection:
            connection.connect(self._target.deadline_s)
            connection.publish(topics.basic_ingest(rule, self._thing), sealed)
        self._say(f"proven: {host}:{port} took a message from {self._thing} with {identity.certificate} (PUBACK 0)")
        self._after("proven")

    def rotate(self) -> None:
        """The next key and certificate: made, proven, put in place of the present ones, which become INACTIVE."""
        identity = self._identity()
        present, other = self._pair(identity)
        self._surroundings()
        if not identity.next.key.exists() and not other.is_empty and other.status == ACTIVE:
            self._say(f"slot {present.name} has the new certificate already: ending the rotation that was interrupted")
            self._certify(identity, present)
            self.prove(identity)
            identity.next.discard()
            return self._deactivate(other)
        if not other.is_empty and not other.holds(identity.next.public_key()):
            other = self._empty(other)
        self._certify(identity.next, other)
        self.prove(identity.next)
        identity.take_over(identity.next)
        self._after("files")
        self._say(f"{identity.certificate} and {identity.key} are the new ones; a running bridge takes them up within "
                  "10 s. Bridges elsewhere: copy both there now")
        self._deactivate(present)

    def _pair(self, identity: Identity) -> tuple[Slot, Slot]:
        """(the slot of the present key, the other one)."""
        slots = self._stack.slots() if self._stack.exists() else []
        present = [slot for slot in slots if slot.holds(identity.public_key())]
        if len(slots) != 2 or not present:
            raise StackFault(
                f"{self._thing} has no certificate from a slot of stack {self._stack.name} whose key is in "
                f"{self._directory}: there is nothing to rotate; run `make provision` first (a certificate adopted "
                "with certificate_arn: deploy without it)")
        return present[0], next(slot for slot in slots if slot.name != present[0].name)

    def _deactivate(self, slot: Slot) -> None:
        if slot.status == ACTIVE:
            self._stack.set_status(slot, INACTIVE)
        self._after("inactive")
        self._say(f"the old certificate ({slot.certificate_id[:12]}…, slot {slot.name}) is INACTIVE; when all is well, "
                  "`make provision RETIRE=1` deletes it (the next rotation does so too)")

    def retire(self, which: str) -> None:
        """Empty the slot of a certificate that is not the present one. which: A, B, or anything else for the one that
        is INACTIVE. Raises StackFault when it is in use."""
        slots = self._stack.slots() if self._stack.exists() else []
        named = [slot for slot in slots if slot.name == which.upper()]
        old = [slot for slot in named or slots if not slot.is_empty and (named or slot.status == INACTIVE)]
        if not old:
            return self._say("no slot holds an inactive certificate: there is nothing to retire")
        identity = self._identity()
        if old[0].holds(identity.public_key()):
            raise StackFault(f"slot {old[0].name} holds the certificate of {identity.key}; rotate first: make "
                             "provision ROTATE=1")
        self._empty(old[0])

    def _empty(self, slot: Slot) -> Slot:
        if slot.status == ACTIVE and not self._ask(
                f"slot {slot.name} holds an ACTIVE certificate ({slot.certificate_id[:12]}…). Delete it?"):
            raise StackFault("nothing was changed")
        emptied = self._stack.fill(slot, "")
        self._say(f"slot {slot.name} is empty: certificate {slot.certificate_id[:12]}… is deleted")
        self._after("emptied")
        return emptied


def environment(target: Target, thing: str) -> dict[str, str]:
    """What the bridge must know of this deployment; its other settings have defaults."""
    host, port = target.gateway()
    rules = {f"RULE_{route.upper()}": routes.rule_name(target.settings.name, route) for route in ("readings", "events")}
    receipts = {} if target.settings.receipts else {"RECEIPTS": "off"}
    return {"THING": thing, "IOT_ENDPOINT": host, "IOT_PORT": str(port), **rules, **receipts}
