"""The local cloud's command line: its defaults are Options' own, every option arrives, and a wrong one is named."""

from dataclasses import fields
from pathlib import Path

import pytest

from local_cloud import options
from local_cloud.errors import DeployError
from local_cloud.options import Options

EVERY = [
    "cdk.out", "--region", "us-east-1", "--state", "s", "--host", "0.0.0.0", "--name", "n", "--alarm-speed", "60",
    "--gateway-port", "1", "--api-port", "2", "--web-port", "3", "--aws-port", "4", "--control-port", "5",
    "--aws-endpoint", "http://a", "--dynamodb-endpoint", "http://d", "--quotas", "lifted", "--iam", "lifted",
    "--no-auto-login", "--trust-published-port", "--parameter", "S:Name=value", "--parameter", "S:Other=a=b"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_CLOUD_DYNAMODB_ENDPOINT", raising=False)


def test_without_options_the_defaults_hold() -> None:
    command = options.read(["cdk.out"])
    assert command == options.Command(Options(Path("cdk.out")), ready_file=None, verbose=False)


def test_every_option_arrives() -> None:
    command = options.read([*EVERY, "--ready-file", "r.json", "--verbose"])
    assert command.ready_file == Path("r.json") and command.verbose
    plain = Options(Path("other"))
    unchanged = [one.name for one in fields(Options)
                 if getattr(command.options, one.name) == getattr(plain, one.name)]
    assert unchanged == [], "an option of Options that the command line cannot set"
    assert command.options.parameters == {"S": {"Name": "value", "Other": "a=b"}}
    assert (command.options.quotas, command.options.iam, command.options.auto_login) == (False, False, False)
    assert command.options.names == ("n",) and command.options.web_port == 3


def test_the_environment_can_name_the_dynamodb_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_CLOUD_DYNAMODB_ENDPOINT", "http://127.0.0.1:8000")
    assert options.read(["cdk.out"]).options.dynamodb_endpoint == "http://127.0.0.1:8000"


def test_a_parameter_that_names_no_stack_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeployError, match="--parameter 'Name=value': expected STACK:NAME=VALUE"):
        options.read(["cdk.out", "--parameter", "Name=value"])
    with pytest.raises(SystemExit):
        options.read(["cdk.out", "--quotas", "half"])
    assert "invalid choice: 'half'" in capsys.readouterr().err
