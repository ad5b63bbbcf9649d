"""deploy/images.py and deploy/cluster.py: tags that are hashes of the images' contents, and the commands of make k3d,
make minikube and make certs-secret; commands are looked at, not their effect, but for what kubectl renders."""
import base64
import json
import shutil
from pathlib import Path

import pytest
import yaml

from deploy import cluster, images
from tests import test_docker_context as docker
from tests.compose_model import ROOT
from tests.test_k8s import kustomize, objects, validate

WITH_DOCKERFILE = [name for name, path in images.DOCKERFILES.items() if (ROOT / path).exists()]


@pytest.mark.parametrize("name", WITH_DOCKERFILE)
def test_the_hash_is_of_what_docker_sees(name: str) -> None:
    ignore = (ROOT / f"{images.DOCKERFILES[name]}.dockerignore").read_text().splitlines()
    lines = [line.strip() for line in ignore if line.strip() and not line.startswith("#")]
    seen = {path for path in docker.repository_files() if docker.in_context(path, lines)}
    assert set(images.context(images.DOCKERFILES[name])) == seen


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """A repository with the bridge's image alone."""
    for path in (*images.context("edge_bridge/Dockerfile"), "edge_bridge/Dockerfile",
                 "edge_bridge/Dockerfile.dockerignore"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    return tmp_path


def test_a_tag_changes_with_the_content_and_with_nothing_else(small_root: Path) -> None:
    def tag() -> str:
        return images.tag("edgecloud-bridge", small_root)

    first = tag()
    assert len(first) == images.TAG_DIGITS
    (small_root / "README.md").write_text("not in the image")
    (small_root / "edge_bridge" / "outbox.db").write_text("nor this")
    (small_root / "edge_bridge" / "__pycache__").mkdir()
    (small_root / "edge_bridge" / "__pycache__" / "x.py").write_text("nor this")
    assert tag() == first
    (small_root / "edge_bridge" / "new.py").write_text("")
    second = tag()
    assert second != first
    (small_root / "edge_bridge" / "new.py").rename(small_root / "edge_bridge" / "newer.py")
    assert tag() not in (first, second)
    (small_root / "edge_bridge" / "Dockerfile.dockerignore").write_text("**\n!edge_bridge\nstray/*.py\n")
    with pytest.raises(images.ImageFault, match="expected"):
        tag()


class Commands:
    """Takes the place of the shell: notes every command; says that what was asked for quietly is not there."""

    def __init__(self, there: tuple[str, ...] = ()) -> None:
        self.there, self.done, self.given = there, [], []

    def __call__(self, command: list[str], given: str | None = None, quiet: bool = False) -> str:
        line = " ".join(command)
        if quiet:
            return "yes" if any(word in line for word in self.there) else ""
        self.done.append(line)
        if given:
            self.given.append(json.loads(given))
        return ""

    def index(self, text: str) -> int:
        return next(i for i, line in enumerate(self.done) if text in line)


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What images.tag says in these tests; the generated kustomization goes to a directory of its own."""
    generated = ROOT / ".demo" / "k8s-test" / tmp_path.name
    monkeypatch.setattr(cluster, "GENERATED", generated)
    made = {name: f"{index}" * 12 for index, name in enumerate(images.DOCKERFILES)}
    monkeypatch.setattr(images, "tag", lambda name: made[name])
    return made


@pytest.mark.parametrize(("kind", "context"), [("k3d", "k3d-edgecloud"), ("minikube", "minikube")])
def test_one_command_builds_loads_and_applies(kind: str, context: str, tags: dict[str, str], tmp_path: Path) -> None:
    run = Commands()
    assert images.main([kind, "--mosquitto"], run) == 0
    apply = run.index(f"kubectl --context {context} apply -k")
    for name, tag in tags.items():
        built = run.index(f"build -f {images.DOCKERFILES[name]}")
        loaded = next(i for i, line in enumerate(run.done) if f"{name}:{tag}" in line and line.startswith(kind))
        assert built < loaded < apply
    assert run.done[apply].startswith("kubectl") and run.index("rollout status deployment/server") > apply
    password = next(one for one in run.given if one["metadata"]["name"] == "grafana-admin")
    assert len(base64.b64decode(password["data"]["password"])) >= 20
    generated = Path(run.done[apply].rpartition(" ")[2])
    assert json.loads((generated / "kustomization.yaml").read_text())["images"] == [
        {"name": name, "newTag": tag} for name, tag in sorted(tags.items())]
    shutil.rmtree(generated.parent)


def test_what_is_there_is_neither_built_nor_made_again(tags: dict[str, str]) -> None:
    run = Commands(there=("image inspect", "cluster get", "get secret"))
    assert images.main(["k3d"], run) == 0
    assert not [line for line in run.done if " build " in line or "cluster create" in line]
    assert not run.given
    shutil.rmtree(cluster.GENERATED)


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize(("target", "mosquitto"), [("local", True), ("local", False), ("aws", True)])
def test_the_generated_kustomization_puts_the_tags_everywhere(target: str, mosquitto: bool, tmp_path: Path) -> None:
    directory = ROOT / ".demo" / f"k8s-{tmp_path.name}" / "k3d"
    directory.mkdir(parents=True)
    tags = {name: "0123456789ab" for name in images.DOCKERFILES}
    (directory / "kustomization.yaml").write_text(cluster.kustomization("k3d", tags, target, mosquitto))
    try:
        text = kustomize(directory)
    finally:
        shutil.rmtree(directory.parent)
    assert "edgecloud-bridge:0123456789ab" in text and ":dev" not in text
    assert ("Deployment", "server") in objects(text) or target == "aws"
    assert (("StatefulSet", "mosquitto") in objects(text)) is mosquitto
    broker = objects(text)["ConfigMap", "bridge-settings"]["data"]["MQTT_BROKER"]
    assert broker == ("mosquitto" if mosquitto else "host.docker.internal")


def test_the_secret_is_made_of_what_provisioning_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Commands()
    assert images.main(["secret", "--certs", str(tmp_path)], run) == 1
    assert "make provision" in capsys.readouterr().err and not run.done
    for name in ("AmazonRootCA1.pem", "Mill.crt", "Mill.key"):
        (tmp_path / name).write_text(name)
    (tmp_path / "bridge.env").write_text("THING=Mill\nIOT_ENDPOINT=x-ats.iot.eu-north-1.amazonaws.com\nCERTS=/y\n")
    (tmp_path / "note.txt").write_text("stays here")
    assert images.main(["secret", "--certs", str(tmp_path), "--context", "k3d-x"], run) == 0
    secret, target = run.given
    assert {name: base64.b64decode(value) for name, value in secret["data"].items()} == {
        name: name.encode() for name in ("AmazonRootCA1.pem", "Mill.crt", "Mill.key")}
    assert target["data"] == {"THING": "Mill", "IOT_ENDPOINT": "x-ats.iot.eu-north-1.amazonaws.com"}
    assert all(line.startswith("kubectl --context k3d-x apply") for line in run.done)
    for index, one in enumerate(run.given):
        (tmp_path / f"{index}.yaml").write_text(yaml.safe_dump(one))
        assert validate(tmp_path / f"{index}.yaml").returncode == 0
