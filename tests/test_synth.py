"""`python app.py` and the pinned CDK CLI make the same assembly: what runs locally is what would be deployed."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import aws_cli, npm
from tests.synthesized import PARTS, ROOT, flags

# The CLI looks for AWS credentials of its own accord; here it must find none, and must not ask an EC2 address for them.
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))},
               "AWS_EC2_METADATA_DISABLED": "true",
               "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
# An empty PATH (no docker, git, npm, cdk), proxies that lead nowhere, an endpoint for AWS that refuses.
NOWHERE = "http://127.0.0.1:9"
BARE = {"PATH": "", "HOME": os.path.expanduser("~"), "http_proxy": NOWHERE, "https_proxy": NOWHERE,
        "AWS_ENDPOINT_URL": NOWHERE}
CHOICES = {"name": "plant2", "ephemeral": "true", "things": "Plant2Bridge"}


def by_app(out: Path, environment: dict[str, str]) -> dict[str, bytes]:
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True,
                          env={**environment, "CDK_OUTDIR": str(out)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return produced(out)


def by_cli(out: Path, *options: str) -> dict[str, bytes]:
    try:
        cli = npm.installed(aws_cli.CLI_FOLDER, "aws-cdk") / "bin" / "cdk"
    except npm.NpmFault as fault:
        pytest.skip(f"the CDK CLI cannot be installed here: {fault}")
    log = out.with_suffix(".log")
    with open(log, "w") as file:
        code = aws_cli.run_cli(cli, ["synth", "--quiet", "--output", str(out), *options], ENVIRONMENT,
                               stdout=file, stderr=subprocess.STDOUT)
    assert code == 0, log.read_text()
    return produced(out)


def produced(out: Path) -> dict[str, bytes]:
    """Every template and asset manifest by file name, and each staged package's file names."""
    made = {path.name: path.read_bytes()
            for pattern in ("*.template.json", "*.assets.json") for path in out.glob(pattern)}
    for asset in out.glob("asset.*"):
        made[asset.name] = "\n".join(sorted(str(path.relative_to(asset)) for path in asset.rglob("*.py"))).encode()
    return made


def test_both_ways_give_the_same_bytes(tmp_path: Path) -> None:
    """app.py without account, network and programs; the CLI with what this machine has."""
    plain = by_app(tmp_path / "plain", BARE)
    assert {f"EdgeCloud{part}.template.json" for part in PARTS} < set(plain)
    assert by_cli(tmp_path / "cli") == plain


def test_both_ways_give_the_same_bytes_with_context(tmp_path: Path) -> None:
    plain = by_app(tmp_path / "plain", {**ENVIRONMENT, "CDK_CONTEXT_JSON": json.dumps(CHOICES)})
    assert {f"Plant2{part}.template.json" for part in PARTS} < set(plain)
    options = [word for key, value in CHOICES.items() for word in ("-c", f"{key}={value}")]
    assert by_cli(tmp_path / "cli", *options) == plain


def test_without_an_outdir_it_goes_to_cdk_out() -> None:
    """What `python app.py` alone would do, without writing into the tree: the folder is chosen in app.py."""
    program = ("import app, infra.deployment as d; seen = []; "
               "d.build = lambda c, o: seen.append(o) or type('A', (), {'synth': lambda self: None})(); "
               "app.main(); print(seen[0])")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "cdk.out"), done.stderr


def test_cdk_json_runs_app_py() -> None:
    assert json.loads((ROOT / "cdk.json").read_text())["app"] == "python3 app.py"
    assert len(flags()) > 80
