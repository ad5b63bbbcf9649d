"""The bench's cloud, a process of its own: the gateway with its quotas on, the rules' SQL, and a sink behind them.

`python -m tests.bench.cloud DIRECTORY` prints one line of JSON when it is ready and one for each line it is sent.
`Cloud` is the other end of that. The sink is a second process: it unpacks what the rules' action was handed, compares
every value with what was made, and only then sends the receipt.
"""
import asyncio
import json
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contract import batch, numbers, routes, topics
from local_cloud.actions import Action
from local_cloud.gateway import Gateway, Limits, Publish, Registry
from local_cloud.pki import LocalCa
from local_cloud.rule_engine import RuleEngine
from local_cloud.rule_sql import to_payload
from tests.bench import load

THING = "EdgeCloudAWS"
_VERSION = "2016-03-23"
_ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}


class Sink:
    """Takes the action's payloads, one after the other; counts each reading of the load once."""

    def __init__(self) -> None:
        self._seen = {device: bytearray() for device in load.DEVICES}

    def take(self, payload: bytes, now_s: float) -> dict[str, Any]:
        """What this payload brought: readings new, doubled, wrong; ages in seconds of the alerts in it."""
        message = numbers.loads(payload)
        answer = {"id": message.get("id"), "new": 0, "doubled": 0, "wrong": 0, "other": 0, "ages_s": []}
        if "id" not in message:
            return answer  # the status message: nothing to compare, nothing to receipt
        if "series" not in message:
            answer["ages_s"] = [now_s - float(one["timestamp"]) for one in [message, *message.get("also", [])]]
            return answer
        for series in batch.read(message).series:
            self._take_series(series, answer)
        return answer

    def _take_series(self, series: dict[str, Any], answer: dict[str, Any]) -> None:
        rows = batch.unpack(series)
        if series["device"] not in self._seen:
            answer["other"] += len(rows)
            return
        device, seen = load.DEVICES.index(series["device"]), self._seen[series["device"]]
        for row in rows:
            index = load.index_of(row.at_ms)
            if load.expected(device, index) != (row.at_ms, row.values) or row.extra:
                answer["wrong"] += 1
                continue
            if index >= len(seen):
                seen.extend(bytes(index + 10_000 - len(seen)))
            answer["doubled" if seen[index] else "new"] += 1
            seen[index] = 1


def _run_sink(pipe: Any) -> None:
    """The sink's process: payloads in, answers out, until an empty one."""
    sink = Sink()
    while True:
        payload = pipe.recv_bytes()
        if not payload:
            return
        pipe.send_bytes(json.dumps(sink.take(payload, time.time())).encode())


class Figures:
    """What the gateway took and the sink answered, as it came."""

    def __init__(self) -> None:
        self.publishes: list[tuple[float, int]] = []
        self.arrivals: list[tuple[float, int]] = []  # when, how many readings new
        self.totals = {"new": 0, "doubled": 0, "wrong": 0, "other": 0}
        self.ages_s: list[float] = []

    def took(self, answer: dict[str, Any]) -> None:
        """One answer of the sink."""
        for name in self.totals:
            self.totals[name] += answer[name]
        self.ages_s += answer["ages_s"]
        self.arrivals.append((time.time(), answer["new"]))

    def busiest_second(self) -> tuple[int, int]:
        """The most publishes, and the most payload bytes, that one second had."""
        most, most_bytes, first, window_bytes = 0, 0, 0, 0
        for at, (at_s, size_bytes) in enumerate(self.publishes):
            window_bytes += size_bytes
            while self.publishes[first][0] <= at_s - 1.0:
                window_bytes -= self.publishes[first][1]
                first += 1
            most, most_bytes = max(most, at - first + 1), max(most_bytes, window_bytes)
        return most, most_bytes


class _Server:
    """Gateway, rules and the pipe to the sink, on one event loop."""

    def __init__(self, directory: Path, pipe: Any) -> None:
        self._ca, self._pipe = LocalCa(directory / "ca"), pipe
        self._directory = directory
        self._to_sink, self._from_sink = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._figures = Figures()
        self._engine = RuleEngine("123456789012", "eu-north-1", self)  # type: ignore[arg-type]
        for route in routes.ROUTES:
            self._engine.create(routes.rule_name("edgecloud", route.name), {
                "Sql": routes.sql(route, [THING]), "AwsIotSqlVersion": _VERSION, "Actions": [{"Sink": {}}]})
        self._registry = Registry()
        self._gateway = Gateway(self._registry, Limits(), self._take, self._ca)

    def compile(self, specification: Any, statement: Any) -> Action:
        """The rules' one kind of action: the output goes to the sink."""
        return Action("SinkAction", "sink", self._hand_over)

    async def _hand_over(self, message: Any, output: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._to_sink, self._pipe.send_bytes, to_payload(output))

    def _take(self, publish: Publish) -> Awaitable[None] | None:
        self._figures.publishes.append((time.time(), len(publish.payload)))
        return self._engine.handle(publish) if publish.client_id == THING else None

    async def _send_receipts(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            answer = json.loads(await loop.run_in_executor(self._from_sink, self._pipe.recv_bytes))
            self._figures.took(answer)
            if answer["id"] is None:
                continue
            receipt = numbers.dumps(routes.receipt([answer["id"]])).encode()
            await self._gateway.publish(topics.receipts(THING), receipt, qos=1)

    def _register(self) -> dict[str, str]:
        from tests.gateway_rig import make_device, rsa
        device = make_device(self._ca, THING, rsa.generate_private_key(public_exponent=65537, key_size=2048))
        certificate = self._registry.add_certificate(device.pem)
        self._registry.add_thing(THING)
        self._registry.attach_thing(THING, certificate.arn)
        self._registry.add_policy("bench", _ANYTHING)
        self._registry.attach_policy("bench", certificate.arn)
        return {"ROOT_CA": str(device.ca_path), "CERTIFICATE": str(device.certificate_path),
                "PRIVATE_KEY": str(device.key_path)}

    def _answer(self) -> dict[str, Any]:
        figures, counters = self._figures, self._gateway.counters
        publishes, size_bytes = figures.busiest_second()
        return {**figures.totals, "arrivals": figures.arrivals, "ages_s": figures.ages_s,
                "published": figures.publishes, "most_publishes_in_1_s": publishes,
                "most_bytes_in_1_s": size_bytes, "counters": counters.as_dict()}

    async def run(self) -> None:
        """Serve until the standard input closes."""
        files = self._register()
        await self._gateway.start("127.0.0.1", 0)
        receipts = asyncio.ensure_future(self._send_receipts())
        print(json.dumps({**files, "IOT_ENDPOINT": "localhost", "IOT_PORT": str(self._gateway.port)}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(self._answer()), flush=True)
        receipts.cancel()
        await self._gateway.close()
        self._pipe.send_bytes(b"")  # ends the sink, and with it the thread that waits for its answers


def _serve(directory: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=_run_sink, args=(there,), daemon=True)
    sink.start()
    there.close()
    asyncio.run(_Server(directory, here).run())
    sink.join(10)


class Cloud:
    """The process above, as the bench uses it. `environment`: what a bridge needs to reach it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._process = subprocess.Popen([sys.executable, "-m", "tests.bench.cloud", str(directory)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment: dict[str, str] = self._line()
        self._lock = threading.Lock()

    def _line(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bench's cloud ended with {self._process.wait()}; expected it to answer")
        return json.loads(line)

    def figures(self) -> dict[str, Any]:
        """What it has seen so far."""
        with self._lock:
            assert self._process.stdin
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            found: dict[str, Any] = self._line()
            return found

    def await_readings(self, count: int, within_s: float) -> dict[str, Any]:
        """The figures once the sink has `count` readings, or at the deadline."""
        return self.await_figures(lambda figures: figures["new"] >= count, within_s)

    def await_figures(self, enough: Callable[[dict[str, Any]], bool], within_s: float) -> dict[str, Any]:
        """The figures once they are enough, or at the deadline."""
        deadline_s = time.monotonic() + within_s
        while not enough(figures := self.figures()) and time.monotonic() < deadline_s:
            time.sleep(0.25)
        return figures

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
