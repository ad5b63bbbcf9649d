"""One batch id can be followed through the log of every hop; where there is no log, what the hop wrote has it."""
import asyncio
import gzip
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import alarms
from deploy.pipeline import Pipeline, Plan
from deploy.processes import wait_until
from local_cloud import log_lines
from local_cloud.control import ControlPort
from local_cloud.functions import FunctionService
from tests.synthesized import assembly


def service(directory: Path, **logs: str) -> FunctionService:
    """Functions by name with what their logs hold; they are not run."""
    made = FunctionService("123456789012", "eu-north-1", {}, directory / "logs")
    for name, text in logs.items():
        function = made.create(name, {"Runtime": "python3.13", "Code": {}, "Handler": "a.b"}, directory)
        function.log_path.write_text(text)
    return made


def test_lines_of_all_functions_come_by_time_json_as_objects(tmp_path: Path) -> None:
    functions = service(
        tmp_path, persist='{"timestamp": "2026-11-22T10:00:02Z", "message": "stored", "batches": ["ab12"]}\nother\n',
        aggregate='a plain line about ab12\n{"timestamp": "2026-11-22T10:00:03Z", "batches": ["ab12"]}\n')
    aside = tmp_path / "logs" / "persist.log.1"
    aside.write_text('{"timestamp": "2026-11-22T10:00:01Z", "batch": "ab12"}\n')
    found = log_lines.holding(functions, "ab12")
    assert [(one["function"], one["at"][-3:-1]) for one in found] == [
        ("aggregate", ""), ("persist", "01"), ("persist", "02"), ("aggregate", "03")]
    assert found[0]["line"] == "a plain line about ab12" and found[2]["line"]["batches"] == ["ab12"]
    assert log_lines.holding(functions, "cd34") == []


def test_the_control_port_wants_to_know_what_to_look_for(tmp_path: Path) -> None:
    cloud: Any = SimpleNamespace(running=True, logs=lambda text: log_lines.holding(service(tmp_path, one=text), text))

    def ask(url: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    async def story() -> None:
        port = ControlPort(cloud)
        await port.start(0)
        try:
            status, answer = await asyncio.to_thread(ask, f"http://127.0.0.1:{port.port}/logs")
            assert status == 400 and "?holding=TEXT" in answer["error"]
            asked = f"http://127.0.0.1:{port.port}/logs?holding=a%20b"
            assert await asyncio.to_thread(ask, asked) == (200, [{"function": "one", "at": "", "line": "a b"}])
        finally:
            await port.close()

    asyncio.run(story())


@contextmanager
def running(directory: Path) -> Iterator[Pipeline]:
    """The whole pipeline with monitoring=full, one Pi, and a bridge that logs everything."""
    plan = Plan(directory=directory, assembly=assembly(("monitoring", "full")), seconds=3, pis=1, cameras=1,
                bridge_environment={"LOG_LEVEL": "DEBUG"})
    pipeline = Pipeline(plan)
    try:
        pipeline.start_local_cloud()
        pipeline.start_sources()
        pipeline.start_bridge()
        pipeline.start_devices()
        for part in pipeline.devices:
            part.wait_for_end(90)
        pipeline.drain()
        yield pipeline
    finally:
        pipeline.close()


def lines_holding(pipeline: Pipeline, text: str) -> list[dict[str, Any]]:
    url = f"{pipeline.ready['endpoints']['control']}/logs?holding={urllib.parse.quote(text)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return list(json.load(answer))


def archived(pipeline: Pipeline, prefix: str) -> str:
    """All that the archive stream of a route has written."""
    s3, bucket = pipeline.client("s3"), pipeline.archive_bucket()
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
    return "".join(gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).decode() for key in keys)


def watched(pipeline: Pipeline, names: dict[str, str]) -> None:
    """Let `watch` run now; what it prints is what the alarm on silent bridges looks at."""
    (schedule,) = [ref for ref, name in names.items() if re.fullmatch("WatchSchedule[0-9A-F]{8}", name)]
    pipeline.control(f"/fire?rule={schedule}")

    def values() -> list[float | None]:
        (silent,) = [one["values"] for one in alarms.states(pipeline.ready["endpoints"]["control"])
                     if one["logical_id"] == "BridgesSilentAlarm"]
        return list(silent)

    wait_until("bridges_silent to be measured", lambda: values()[-1] is not None, 60)
    assert values()[-1] == 0


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_one_batch_is_followed_through_every_hop(tmp_path: Path) -> None:
    with running(tmp_path) as pipeline:
        bridge = pipeline.parts["bridge"].log.read_text()
        batches = re.findall(r"sealed readings ([0-9a-f]{24})", bridge)
        names = {ref: name for name, ref in pipeline.ready["physical_names"][f"{pipeline.stack_prefix}Ingest"].items()}
        assert len(batches) >= 2
        for batch_id in batches[0], batches[-1]:
            hops = re.findall(rf"edge_bridge\.shipments: (\w+) readings {batch_id}", bridge)
            assert (hops[0], hops[-1]) == ("sealed", "receipted")
            assert hops[1:-1] in ([], ["sent"]), "a receipt may overtake the PUBACK"
            found = lines_holding(pipeline, batch_id)
            told = sorted((names[one["function"]][:-8], one["line"]["message"]) for one in found)
            assert told == [("AggregateFunction", "counted"), ("PersistFunction", "receipted"),
                            ("PersistFunction", "stored")]
            assert all(batch_id in one["line"]["batches"] and one["line"]["requestId"] for one in found)
            assert f'"id":"{batch_id}"' in archived(pipeline, "archive/readings/"), "the rule handed it on twice"
        watched(pipeline, names)
        found = alarms.states(pipeline.ready["endpoints"]["control"])
        assert alarms.up(found) == [] and len(found) > 40, [one for one in found if one["state"] == "ALARM"]
        assert alarms.line(found) == f"alarms: none of {len(found)} is up"


def test_alarms_that_are_up_are_told_with_what_they_mean() -> None:
    found = [{"logical_id": "B", "state": "ALARM", "description": "why b"},
             {"logical_id": "A", "state": "ALARM", "description": "why a"}, {"logical_id": "C", "state": "OK"}]
    assert alarms.up(found) == ["A", "B"]
    assert alarms.line(found) == "alarms that are up: B (why b); A (why a)"
