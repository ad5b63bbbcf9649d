"""The runner of the CDK CLI: credentials first, one line for each fault, and what it asks the CLI to do."""
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import aws_cli, npm
from infra.settings import read
from tests.synthesized import ACCOUNT, ROOT

REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nMIIC\n-----END CERTIFICATE REQUEST-----"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.aws_cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
             **environment})


@pytest.fixture
def metadata() -> Iterator[socket.socket]:
    """Stands where an EC2 instance's metadata would be, and notes who calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("verb", ["bootstrap", "diff", "deploy", "destroy"])
def test_without_credentials_one_line_and_no_network(verb: str, metadata: socket.socket) -> None:
    port = metadata.getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    done = run(verb, AWS_EC2_METADATA_SERVICE_ENDPOINT=here, AWS_ENDPOINT_URL=here)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("aws_cli: no AWS credentials") and done.stderr.count("\n") == 1
    assert "aws configure" in done.stderr
    with pytest.raises(BlockingIOError):
        metadata.accept()


def test_credentials_that_reach_nobody_are_one_line_too() -> None:
    done = run("diff", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_ENDPOINT_URL="http://127.0.0.1:9",
               AWS_MAX_ATTEMPTS="1")
    assert done.returncode == 1
    assert done.stderr.startswith("aws_cli: AWS does not accept the credentials") and done.stderr.count("\n") == 1


def test_an_unknown_profile_is_one_line() -> None:
    done = run("diff", AWS_PROFILE="nobody")
    assert done.returncode == 1 and "nobody" in done.stderr and done.stderr.count("\n") == 1


def test_a_wrong_context_is_told_before_credentials_are_asked() -> None:
    done = run("deploy", "-c", "nmae=plant2")
    assert done.returncode == 1 and "did you mean name?" in done.stderr and done.stderr.count("\n") == 1


def test_the_account_is_that_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"),
                            ("AWS_ENDPOINT_URL", f"http://{host}:{port}")):
            monkeypatch.setenv(name, value)
        assert aws_cli.account_of("eu-north-1") == ACCOUNT
    finally:
        server.stop()


def command(*arguments: str, context: dict[str, str] | None = None) -> list[str]:
    context = context or {}
    return aws_cli.cli_command(aws_cli.arguments(arguments), context, read(context, "1"), ACCOUNT)


def test_what_each_verb_asks_of_the_cli() -> None:
    out = ["--output", "cdk.out.aws"]
    assert command("bootstrap") == ["bootstrap", f"aws://{ACCOUNT}/eu-north-1", *out]
    assert command("diff") == ["diff", *out]
    assert command("deploy") == ["deploy", "--all", *out]
    assert command("deploy", "--yes") == ["deploy", "--all", "--require-approval", "never", *out]
    assert command("destroy", "--yes") == ["destroy", "--all", "--force", *out]
    assert command("bootstrap", context={"region": "eu-west-1"}) == [
        "bootstrap", f"aws://{ACCOUNT}/eu-west-1", "-c", "region=eu-west-1", *out]


def test_context_comes_from_make_and_from_the_command_line() -> None:
    environment = {"CDK_CONTEXT_JSON": '{"name": "plant2", "ephemeral": true}'}
    assert aws_cli.context_of(["name=plant3"], environment) == {"name": "plant3", "ephemeral": "true"}
    assert aws_cli.context_of([], {}) == {}


@pytest.mark.parametrize("pairs, environment", [
    (["name"], {}), ([], {"CDK_CONTEXT_JSON": "{"}), ([], {"CDK_CONTEXT_JSON": "[]"})])
def test_context_that_cannot_be_read_says_what_is_expected(pairs: list[str], environment: dict[str, str]) -> None:
    with pytest.raises(aws_cli.CliFault, match="expected"):
        aws_cli.context_of(pairs, environment)


def test_a_certificate_request_fills_a_slot(tmp_path: Path) -> None:
    file = tmp_path / "bridge.csr"
    file.write_text(REQUEST + "\n")
    asked = command("deploy", "--csr", str(file), "--slot", "B")
    assert asked[asked.index("--parameters") + 1] == f"EdgeCloudDevice:CsrB={REQUEST}\n"
    second = command("deploy", "--csr", str(file), "--thing", "site-b",
                     context={"things": "EdgeCloudAWS,site-b", "name": "p"})
    assert second[second.index("--parameters") + 1].startswith("PDevice:SiteBCsrA=-----BEGIN")


@pytest.mark.parametrize("content, arguments, said", [
    (REQUEST.replace("CERTIFICATE REQUEST", "PRIVATE KEY"), ("deploy",), "begins with"),
    (None, ("deploy",), "No such file"),
    (REQUEST, ("diff",), "goes with deploy"),
    (REQUEST, ("deploy", "--thing", "Other"), "one of the things EdgeCloudAWS"),
])
def test_what_is_no_request_is_refused(
        tmp_path: Path, content: str | None, arguments: tuple[str, ...], said: str) -> None:
    file = tmp_path / "bridge.csr"
    if content:
        file.write_text(content)
    with pytest.raises(aws_cli.CliFault, match=said):
        command(*arguments, "--csr", str(file))


def test_the_cli_is_pinned_to_version_2() -> None:
    wanted = json.loads((aws_cli.CLI_FOLDER / "package.json").read_text())["dependencies"]["aws-cdk"]
    locked = json.loads((aws_cli.CLI_FOLDER / "package-lock.json").read_text())["packages"]["node_modules/aws-cdk"]
    assert wanted == locked["version"] == "2.1148.1"
    assert locked["integrity"].startswith("sha512-") and "resolved" not in locked


def folder_with_cli(tmp_path: Path, version: str) -> Path:
    package = tmp_path / "node_modules" / "aws-cdk"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))
    lock = {"packages": {"node_modules/aws-cdk": {"version": "2.0.1"}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    return tmp_path


def test_an_installed_cli_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = folder_with_cli(tmp_path, "2.0.1")
    found = npm.installed(folder, "aws-cdk", lambda: pytest.fail("nothing is to be installed"))
    assert found == tmp_path / "node_modules" / "aws-cdk"


class FailingNpm:
    """Stands for the wheel's npm where the registry cannot be reached."""

    def npm(self, words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", "npm warn x\nnpm error code ENOTFOUND\nnpm error network y\n")


def test_another_version_is_replaced_and_npms_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(npm.NpmFault, match="npm error code ENOTFOUND"):
        npm.installed(folder_with_cli(tmp_path, "1.0.0"), "aws-cdk", FailingNpm)


def test_without_the_wheel_it_says_what_to_do(tmp_path: Path) -> None:
    def absent() -> None:
        raise ImportError

    with pytest.raises(npm.NpmFault, match=r"own Node\.js: cd .* && npm ci"):
        npm.installed(folder_with_cli(tmp_path, "1.0.0"), "aws-cdk", absent)
