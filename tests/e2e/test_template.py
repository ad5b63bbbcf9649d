"""Our own template on the local cloud: destroyed and deployed again, and with its contexts."""
import json
import socket
from pathlib import Path

import pytest

from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT, free_port
from deploy.synth import synthesize

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_destroy_then_deploy_again(tmp_path: Path) -> None:
    plan = Plan(directory=tmp_path, assembly=ROOT / ".demo" / "cdk.out")
    synthesize(plan.assembly, plan.context_json)
    pipeline = Pipeline(plan)
    try:
        pipeline.start_local_cloud()
        first = pipeline.ready
        retained = pipeline.control("/destroy")
        assert len([line for line in json.dumps(retained).split('"') if "EdgeCloudStorage" in line]) >= 4
        again = pipeline.control("/deploy")
        assert again["resources"] == first["resources"] and first["resources"]["refused"] == 0
        names, before = again["physical_names"]["EdgeCloudStorage"], first["physical_names"]["EdgeCloudStorage"]
        for kept in ("Readings", "Rollups", "Alerts", "Archive"):
            assert names[kept] != before[kept], "a retained resource must not be taken over"
        tables = pipeline.client("dynamodb").list_tables()["TableNames"]
        assert {names["Readings"], before["Readings"]} <= set(tables)
    finally:
        pipeline.close()


def test_another_name_and_thing_run_as_well_though_a_port_is_taken_in_between(tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    context = json.dumps({"name": "plant2", "things": "SiteB"})
    assembly = tmp_path / "cdk.out"
    synthesize(assembly, context)
    pipeline = Pipeline(Plan(directory=tmp_path / "run", assembly=assembly, context_json=context, seconds=3, pis=1))
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = iter([other.getsockname()[1]])
        monkeypatch.setattr("deploy.pipeline.free_port", lambda preferred: next(found, None) or free_port(preferred))
        try:
            pipeline.start()
            assert next(found, None) is None, "the taken port was tried"
            for part in pipeline.devices:
                part.wait_for_end(60)
            pipeline.drain()
            assert pipeline.stack_prefix == "Plant2"
            keys = {item["pk"] for item in pipeline.table("readings").scan()["Items"]}
            assert keys == {"SiteB#pi-1", "SiteB#camera-01"}
        finally:
            pipeline.close()
