"""What a template may set of a function, and what is refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from local_cloud.errors import DeployError, Unsupported
from local_cloud.functions import FunctionService


def test_code_that_is_not_there_stops_the_deployment(tmp_path: Path):
    with pytest.raises(DeployError, match="nowhere is no directory"):
        FunctionService("123456789012", "eu-north-1", {}, tmp_path).create(
            "f", {"Handler": "handlers.echo", "Runtime": "python3.13"}, tmp_path / "nowhere")


@pytest.mark.parametrize(("properties", "name"), [
    ({"Runtime": "nodejs22.x"}, "Runtime"),
    ({"PackageType": "Image"}, "PackageType"), ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart"),
    ({"Timeout": 901}, "Timeout"), ({"LoggingConfig": {"Nonsense": 1}}, "Nonsense")])
def test_a_property_that_is_not_honoured_is_named(tmp_path: Path, properties: dict[str, Any], name: str):
    service = FunctionService("123456789012", "eu-north-1", {}, tmp_path)
    with pytest.raises(Unsupported, match=name):
        service.create("f", {"Handler": "handlers.echo", "Runtime": "python3.13", **properties}, tmp_path)


@pytest.mark.parametrize(("properties", "text"), [
    ({"Handler": "nodot"}, "module.function"), ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "AWS_REGION")])
def test_what_lambda_refuses_is_refused(tmp_path: Path, properties: dict[str, Any], text: str):
    service = FunctionService("123456789012", "eu-north-1", {}, tmp_path)
    with pytest.raises(DeployError, match=text):
        service.create("f", {"Handler": "handlers.echo", "Runtime": "python3.13", **properties}, tmp_path)
