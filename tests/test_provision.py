"""make provision against a running local cloud: from nothing to a proven connection, adoption, rotation, stops."""
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509

from deploy import provision_files, target
from deploy.certificates import ROOT_CA
from deploy.cloud import told
from deploy.device_connection import ConnectionFault, DeviceConnection
from deploy.provision_files import FileFault, Identity, find
from deploy.provision_identity import Provision
from deploy.provision_stack import ACTIVE, INACTIVE, DeviceStack, StackFault
from deploy.target import Target, TargetFault
from edge_bridge import certificates
from edge_bridge import settings as bridge_settings
from tests import cloud_rig
from tests.cloud_rig import Cloud

THING = "EdgeCloudAWS"
pytestmark = pytest.mark.timeout(300)


class Interrupted(Exception):
    """What a Ctrl-C would be."""


class Site:
    """One directory of certificates, and how a person answers. said: every line printed; steps: those done."""

    def __init__(self, where: Target, directory: Path, answer: bool = False) -> None:
        self.target, self.directory, self.answer = where, directory, answer
        self.said: list[str] = []
        self.asked: list[str] = []
        self.steps: list[str] = []
        self.stop_after = ""
        self.deployed: list[list[str]] = []

    def _after(self, step: str) -> None:
        self.steps.append(step)
        if step == self.stop_after:
            raise Interrupted(step)

    def _ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer

    def _deploy(self, command: Sequence[str]) -> int:
        self.deployed.append(list(command))
        return 0

    def command(self, stop_after: str = "") -> Provision:
        self.steps, self.stop_after = [], stop_after
        return Provision(self.target, THING, self.directory, ask=self._ask, say=self.said.append,
                         deploy=self._deploy, after=self._after)

    @property
    def identity(self) -> Identity:
        return find(self.directory, THING)

    def connects(self) -> None:
        """The pair in the directory reaches the gateway. Raises ConnectionFault."""
        host, port = self.target.gateway()
        files = self.identity.files(self.directory / ROOT_CA)
        with DeviceConnection(host, port, THING, files) as connection:
            connection.connect(60)

    def bridge_takes(self) -> certificates.Identity:
        """The identity as the bridge reads it from bridge.env and the directory."""
        environ = {**provision_files.read_environment(self.directory), "CERTS": str(self.directory)}
        return certificates.read(bridge_settings.load(environ))


def empty(cloud: Cloud) -> None:
    """Both slots as before the first certificate."""
    stack = DeviceStack(cloud.target, THING)
    for slot in stack.slots():
        if not slot.is_empty:
            stack.fill(slot, "")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    running = cloud_rig.cloud()
    empty(running)
    yield running


@pytest.fixture
def site(cloud: Cloud, tmp_path: Path) -> Site:
    return Site(cloud.target, tmp_path / "certs")


@pytest.fixture
def provisioned(site: Site) -> Site:
    site.command().provision()
    return site


def test_from_nothing_to_a_proven_connection(cloud: Cloud, provisioned: Site) -> None:
    assert provisioned.steps == ["key", "slot filled", "certificate", "environment", "proven"] and not provisioned.asked
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in provisioned.directory.iterdir()}
    assert modes == {"AmazonRootCA1.pem": 0o644, f"{THING}.crt": 0o644, f"{THING}.key": 0o600, "bridge.env": 0o600}
    taken = provisioned.bridge_takes()
    certificate = x509.load_pem_x509_certificate(taken.certificate)
    assert certificate.public_key().key_size == 2048  # type: ignore[union-attr]
    assert provisioned.identity.certificate_id() in cloud.registered()
    host, port = cloud.target.gateway()
    assert provision_files.read_environment(provisioned.directory) == {
        "THING": THING, "IOT_ENDPOINT": host, "IOT_PORT": str(port), "RULE_READINGS": "edgecloud_readings",
        "RULE_EVENTS": "edgecloud_events"}


def test_a_cloud_that_knows_the_certificate_no_more_makes_another_for_the_same_key(
        cloud: Cloud, provisioned: Site) -> None:
    key, old = provisioned.identity.key.read_bytes(), provisioned.identity.certificate_id()
    empty(cloud)  # as after a restart of the local cloud
    provisioned.command().provision()
    assert provisioned.identity.key.read_bytes() == key and not provisioned.asked
    assert old not in cloud.registered() and provisioned.identity.certificate_id() in cloud.registered()


def test_the_key_goes_nowhere(cloud: Cloud, provisioned: Site) -> None:
    key = provisioned.identity.key.read_text().splitlines()[5]
    held = DeviceStack(cloud.target, THING).slots()[0].request
    assert "PRIVATE KEY" not in held and key not in held
    assert [path for path in cloud.ready_file.parent.rglob("*") if path.is_file()
            and key.encode() in path.read_bytes()] == []


def test_once_more_changes_nothing(provisioned: Site) -> None:
    before = {path: path.read_bytes() for path in provisioned.directory.iterdir()}
    provisioned.command().provision()
    assert provisioned.steps == ["environment", "proven"]
    assert {path: path.read_bytes() for path in provisioned.directory.iterdir()} == before


@pytest.mark.parametrize("step", ["key", "slot filled", "certificate"])
def test_an_interrupted_first_time_is_gone_on_with(cloud: Cloud, site: Site, step: str) -> None:
    with pytest.raises(Interrupted):
        site.command(stop_after=step).provision()
    site.command().provision()
    assert site.steps[-1] == "proven" and len(cloud.registered()) == 1 and site.asked == []


def test_a_certificate_whose_key_is_elsewhere_is_left_alone_unless_told(cloud: Cloud, provisioned: Site,
                                                                         tmp_path: Path) -> None:
    first = provisioned.identity.certificate_id()
    second = Site(cloud.target, tmp_path / "second")
    with pytest.raises(StackFault, match="nothing was changed; to go on with the certificate that is there"):
        second.command().provision()
    assert set(cloud.registered()) == {first} and not second.identity.key.exists()
    second.answer = True
    second.command().provision()
    assert "whose key is not in" in second.asked[-1] and len(cloud.registered()) == 2
    third = Site(cloud.target, tmp_path / "third", answer=True)
    with pytest.raises(StackFault, match=r"both slots .* RETIRE=A \(or B\)"):
        third.command().provision()


def test_rotation_swaps_the_pair_and_then_the_status(cloud: Cloud, provisioned: Site) -> None:
    old, before = provisioned.identity.certificate_id(), provisioned.bridge_takes()
    provisioned.command().rotate()
    assert provisioned.steps == ["environment", "key", "slot filled", "certificate", "proven", "files", "inactive"]
    new, after = provisioned.identity.certificate_id(), provisioned.bridge_takes()
    assert new != old and before.private_key != after.private_key
    assert {key: one["status"] for key, one in cloud.registered().items()} == {old: INACTIVE, new: ACTIVE}
    assert not (provisioned.directory / "next").exists()
    provisioned.command().retire("1")
    assert set(cloud.registered()) == {new}
    provisioned.connects()
    provisioned.command().retire("1")
    assert "nothing to retire" in provisioned.said[-1]


def test_a_second_rotation_empties_the_slot_first(cloud: Cloud, provisioned: Site) -> None:
    provisioned.command().rotate()
    provisioned.command().rotate()
    assert provisioned.steps[:2] == ["environment", "emptied"]
    assert [slot.status for slot in DeviceStack(cloud.target, THING).slots()] == [ACTIVE, INACTIVE]
    provisioned.connects()


STEPS = ("key", "slot filled", "certificate", "proven", "half the files", "files", "inactive")


def test_a_rotation_that_is_interrupted_at_any_step_is_gone_on_with(
        cloud: Cloud, provisioned: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in STEPS:
        old = provisioned.identity.certificate_id()
        interrupt(provisioned, monkeypatch, step)
        if step in STEPS[:4]:
            assert provisioned.identity.certificate_id() == old, "the bridge's files are the old ones until the proof"
            provisioned.bridge_takes()
        if step != "inactive":
            provisioned.command().rotate()
        new = provisioned.identity.certificate_id()
        assert new != old, f"after {step}"
        assert {key: one["status"] for key, one in cloud.registered().items()} == {old: INACTIVE, new: ACTIVE}, step
        provisioned.bridge_takes()
        assert not (provisioned.directory / "next").exists(), step


def interrupt(site: Site, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Rotate until a step was done; "half the files": until the power goes between the two renames."""
    def half(identity: Identity, other: Identity) -> None:
        other.key.replace(identity.key)
        raise Interrupted(step)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        if step == "half the files":
            patched.setattr(Identity, "take_over", half)
        site.command(stop_after=step).rotate()


def test_a_certificate_that_is_not_proven_changes_no_file(provisioned: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = provisioned.bridge_takes()
    command = provisioned.command()
    pem = provisioned.target.client("iot").describe_certificate(
        certificateId=provisioned.identity.certificate_id())["certificateDescription"]["certificatePem"]
    monkeypatch.setattr(DeviceStack, "pem", lambda stack, certificate_id: pem)  # the old one, of another key
    with pytest.raises(FileFault, match="is not of the key"):
        command.rotate()
    assert provisioned.bridge_takes() == before


def test_plain_provision_says_that_a_rotation_waits(provisioned: Site) -> None:
    with pytest.raises(Interrupted):
        provisioned.command(stop_after="slot filled").rotate()
    provisioned.command().provision()
    assert any("ROTATE=1` goes on with it" in line for line in provisioned.said)


def test_what_is_in_use_is_not_retired(cloud: Cloud, provisioned: Site) -> None:
    with pytest.raises(StackFault, match="rotate first"):
        provisioned.command().retire("A")
    provisioned.command().retire("B")
    assert "nothing to retire" in provisioned.said[-1] and len(cloud.registered()) == 1


def test_an_inactive_certificate_is_told(cloud: Cloud, provisioned: Site) -> None:
    DeviceStack(cloud.target, THING).set_status(DeviceStack(cloud.target, THING).slots()[0], INACTIVE)
    with pytest.raises(StackFault, match="is INACTIVE; activate it"):
        provisioned.command().provision()


def test_a_request_that_is_refused_carries_the_stacks_reason(cloud: Cloud) -> None:
    stack = DeviceStack(cloud.target, THING)
    with pytest.raises(StackFault, match=r"UPDATE_ROLLBACK_COMPLETE; .*CSR is no PEM"):
        stack.fill(stack.slots()[0], "no request")


def test_a_refused_publish_is_told(provisioned: Site) -> None:
    host, port = provisioned.target.gateway()
    files = provisioned.identity.files(provisioned.directory / ROOT_CA)
    with DeviceConnection(host, port, THING, files) as connection:
        connection.connect(60)
        with pytest.raises(ConnectionFault, match=r"publish to somewhere/else: .*(0x87|closed)"):
            connection.publish("somewhere/else", b"{}")


# --- before the first deployment, in an account that has a thing already: the local cloud's of another deployment

@pytest.fixture
def account(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Target:
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"),
                        ("AWS_ENDPOINT_URL", cloud_rig.ready(cloud)["endpoints"]["aws"])):
        monkeypatch.setenv(name, value)
    return target.of("aws", cloud_rig.settings(name="plant2"))


class Deployed(Exception):
    """Ends a run at the point where aws_cli would deploy; its argument is the command line."""


def first_deploy(place: Target, directory: Path, answer: bool, thing: str = THING) -> list[str]:
    """What aws_cli is asked to do, without the temporary name of the request's file."""
    def stop(command: Sequence[str]) -> int:
        raise Deployed([word for word in command if not word.endswith("request.csr")])

    with pytest.raises(Deployed) as deployed:
        Provision(place, thing, directory, ask=lambda question: answer, say=lambda line: None, deploy=stop).provision()
    return list(deployed.value.args[0])


def test_a_new_thing_is_deployed_without_a_question(account: Target, tmp_path: Path) -> None:
    assert first_deploy(account, tmp_path, False, "SiteB") == ["deploy", "--csr", "--thing", "SiteB"]
    assert first_deploy(account, tmp_path, False, "SiteB") == ["deploy", "--csr", "--thing", "SiteB"]
    assert [path.name for path in tmp_path.iterdir()] == ["SiteB.key"], "the same key again"


def test_a_thing_and_its_certificate_are_adopted_after_a_question(account: Target, provisioned: Site,
                                                                  tmp_path: Path) -> None:
    with pytest.raises(StackFault, match="delete-thing --thing-name EdgeCloudAWS"):
        first_deploy(account, tmp_path / "no", answer=False)
    assert first_deploy(account, tmp_path / "yes", answer=True) == [
        "deploy", f"-cexisting_thing={THING}", "--csr", "--thing", THING]
    own = tmp_path / "as the console names them"
    own.mkdir()
    shutil.copy(provisioned.identity.key, own / "abc-private.pem.key")
    shutil.copy(provisioned.identity.certificate, own / "abc-certificate.pem.crt")
    certificate_id = find(own, THING).certificate_id()
    arn = f"arn:aws:iot:eu-north-1:123456789012:cert/{certificate_id}"
    assert first_deploy(account, own, answer=True) == [
        "deploy", f"-cexisting_thing={THING}", f"-ccertificate_arn={arn}"]
    account.client("iot").update_certificate(certificateId=certificate_id, newStatus=INACTIVE)
    assert first_deploy(account, own, answer=True)[2] == "--csr", "one that does not work is not adopted"


def test_a_deployment_that_fails_is_told(account: Target, tmp_path: Path) -> None:
    command = Provision(account, "SiteC", tmp_path, ask=lambda question: False, say=lambda line: None,
                        deploy=lambda command: 1)
    with pytest.raises(StackFault, match="the deployment did not succeed"):
        command.provision()
    assert [path.name for path in tmp_path.iterdir()] == ["SiteC.key"]


def test_the_local_cloud_is_not_deployed_to(cloud: Cloud, tmp_path: Path) -> None:
    place = target.local(cloud_rig.settings(name="plant2"), cloud.ready_file)
    with pytest.raises(StackFault, match=r'no stack Plant2Device; .*CONTEXT="name=…"'):
        Provision(place, THING, tmp_path, ask=lambda question: True).provision()
    with pytest.raises(TargetFault, match="is `plant2` deployed"):
        place.parameter("readings-table")


# --- whose directory, which cloud

@pytest.mark.parametrize("with_environment", [True, False])
def test_another_things_directory_is_left_alone(account: Target, tmp_path: Path, with_environment: bool) -> None:
    place = Target(cloud_rig.settings(name="plant2", things="EdgeCloudAWS,SiteB"))
    find(tmp_path, THING).make_key()
    if with_environment:
        provision_files.write_environment(tmp_path, {"THING": THING})
    with pytest.raises(FileFault, match=r"holds the identity of EdgeCloudAWS; .*THING=SiteB CERTS=certs-SiteB"):
        Provision(place, "SiteB", tmp_path, ask=lambda question: True, say=lambda line: None).provision()


def test_a_cloud_that_was_killed_is_not_taken_for_one(tmp_path: Path) -> None:
    left = tmp_path / "cloud.json"
    left.write_text('{"endpoints": {"control": "http://127.0.0.1:9"}}')
    with pytest.raises(TargetFault, match="no local cloud is running"):
        target.local(cloud_rig.settings(), left)


def test_make_cloud_says_where_it_is_and_what_comes_next(cloud: Cloud) -> None:
    said, ready = cloud.told, cloud_rig.ready(cloud)
    assert f"make provision TARGET=local CLOUD={cloud.ready_file}\n" in said and ready["endpoints"]["api"] in said
    assert "make verify TARGET=local\n" in told(ready, target.READY_FILE, "http://localhost:8080")
