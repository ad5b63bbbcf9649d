"""`make web`: the page's files, where they come from, what they are told; into a bucket of moto's."""
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from deploy import npm, web
from deploy.cost_design import DesignFault
from deploy.target import TargetFault
from deploy.web import WEB, Addresses

HERE = Addresses("https://abc.execute-api.eu-north-1.amazonaws.com", "https://in.auth.eu-north-1.amazoncognito.com",
                 "c1")
BUCKET = "page"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


def keys(s3: Any) -> set[str]:
    return {one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def test_everything_that_the_page_names_is_published(s3: Any) -> None:
    assert web.publish(s3, BUCKET, HERE) == len(keys(s3))
    named = set(re.findall(r'(?:href|src)="([^"#:]+)"', (WEB / "app" / "index.html").read_text()))
    for path in (WEB / "app").glob("*.js"):
        named |= {name.removeprefix("./") for name in re.findall(r'from "(\./[^"]+)"', path.read_text())}
    assert named <= keys(s3) and {"vendor/uPlot.esm.js", "config.json"} <= keys(s3)
    for key in keys(s3):
        head = s3.head_object(Bucket=BUCKET, Key=key)
        assert (head["ContentType"], head["CacheControl"]) == (web.CONTENT_TYPES[Path(key).suffix], "no-cache")


def test_the_page_is_told_where_the_api_is_and_may_ask_nobody_else(s3: Any) -> None:
    web.publish(s3, BUCKET, HERE, {"usd_per_million_readings": 0.04})
    told = json.loads(s3.get_object(Bucket=BUCKET, Key="config.json")["Body"].read())
    assert told == {"api": HERE.api, "signIn": HERE.sign_in, "client": "c1",
                    "cost": {"usd_per_million_readings": 0.04}}
    page = s3.get_object(Bucket=BUCKET, Key="index.html")["Body"].read().decode()
    assert page.count(f"content=\"connect-src 'self' {HERE.api} {HERE.sign_in}\"") == 1
    assert page.index("Content-Security-Policy") < page.index("<script"), "what comes before is not bound by it"


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    for path in (WEB / "app").iterdir():
        text = path.read_text()
        assert not re.search(r"""(?:src|href)=["']https?:|@import|url\(["']?http|from "https?:""", text), path
        assert path.suffix != ".html" or not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path
        assert not re.search(r"\.innerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(", text), path


def test_what_is_no_part_of_the_page_any_more_goes(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="old.js", Body=b"old")
    web.publish(s3, BUCKET, HERE)
    assert "old.js" not in keys(s3) and "index.html" in keys(s3)
    web.publish(s3, BUCKET, HERE)
    assert "index.html" in keys(s3)


def test_an_address_that_would_break_out_of_the_policy_is_refused() -> None:
    with pytest.raises(TargetFault, match="letters"):
        list(web.files(HERE._replace(api='https://x"><script>')))


def test_uplot_is_the_locked_one_and_git_does_not_have_it(tmp_path: Path) -> None:
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]["node_modules/uplot"]
    assert json.loads((WEB / "package.json").read_text())["dependencies"]["uplot"] == locked["version"]
    assert locked["integrity"].startswith("sha512-")
    assert json.loads((npm.installed(WEB, "uplot") / "package.json").read_text())["version"] == locked["version"]
    assert "node_modules/" in (WEB.parent / ".gitignore").read_text().splitlines()
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": {"node_modules/uplot": {"version": "0.0.0"}}}))
    with pytest.raises(npm.NpmFault, match="npm"):
        npm.installed(tmp_path, "uplot")


def test_what_it_costs_is_reckoned_once(tmp_path: Path) -> None:
    from local_cloud.cost import prices

    (tmp_path / "A.template.json").write_text("{}")
    known = {"usd_per_million_readings": 1.5, "fixed_usd_per_month": 2.0, "prices_of": "2026-11-22"}
    of = web.sha256(b"{}" + prices.FILE.read_bytes()).hexdigest()
    (tmp_path / web.COST).write_text(json.dumps({"of": of, "cost": known}))
    assert web.cost_of(tmp_path) == known
    (tmp_path / "A.template.json").write_text('{"Resources": {}}')
    with pytest.raises(DesignFault):  # other templates are reckoned anew, and these are none of ours
        web.cost_of(tmp_path)
