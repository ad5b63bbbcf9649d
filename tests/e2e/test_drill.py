"""The drill against a running pipeline: link cut, bridge killed, disk full; nothing is lost and all runs on."""
import threading
from pathlib import Path

import pytest

from deploy import drill
from deploy.drill_demo import RunningDemo
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


def test_a_drill_ends_with_everything_in_the_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline(Plan(directory=tmp_path, assembly=ROOT / ".demo" / "cdk.out", pis=1))
    over, restarted = threading.Event(), []

    def supervise() -> None:
        while not over.wait(0.2):
            restarted.extend(pipeline.check())

    supervisor = threading.Thread(target=supervise)
    try:
        pipeline.start()
        supervisor.start()
        demo = RunningDemo(tmp_path)
        demo.wait_recovered(lambda: None)
        for fault in drill.chosen("cut,disk"):
            drill.break_it(demo, fault._replace(seconds=5))
        verdict = drill.judge(demo)
        assert verdict.good, str(verdict)
        assert restarted == ["bridge"] and demo.pid("bridge") == pipeline.parts["bridge"].process.pid
        told = capsys.readouterr().out
        assert "cut: all is well again" in told and "disk: all is well again" in told and "reaches mqtt" in told
    finally:
        over.set()
        if supervisor.ident:
            supervisor.join()
        pipeline.close()
