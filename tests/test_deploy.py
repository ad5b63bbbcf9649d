"""What starts and shows the demo: processes, ports, context, set-up."""
import json
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import context, control, env_file, lan_broker, setup
from deploy.arrivals import percentiles
from deploy.kafka import Kafka
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT, Part, PartFailed, clean_environment, free_port, python_module, wait_until


def test_a_taken_port_gives_the_next_free_one() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert free_port(taken) > taken


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(PartFailed, match="in vain for: the moon"):
        wait_until("the moon", lambda: False, within_s=0.1)


def test_a_part_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    part = Part("oven", [sys.executable, "-c", "raise SystemExit('no gas')"], tmp_path / "oven.log").start()
    with pytest.raises(PartFailed, match=r"oven ended with exit code 1:\s+no gas"):
        part.wait_ready("heat", lambda: False, 20)


def test_a_part_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    part = Part("mule", [sys.executable, "-c", code], tmp_path / "mule.log").start()
    part.wait_ready("its line", lambda: "up" in part.log.read_text(), 20)
    assert part.stop(within_s=0.3) == -9
    assert not part.running


def test_no_aws_account_leaks_into_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    leaked = {name for name in clean_environment() if name.startswith("AWS_")}
    assert leaked == {"AWS_EC2_METADATA_DISABLED"}


def test_context_words_become_json() -> None:
    assert context.parse('name=site2 "things=A,B"') == {"name": "site2", "things": "A,B"}
    with pytest.raises(ValueError, match="expected key=value"):
        context.parse("ephemeral")


def test_context_on_the_command_line_refuses_with_one_line() -> None:
    done = subprocess.run(python_module("deploy.context", "oops"), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("target", [
    "synth", "diff", "deploy", "rebuild", "provision", "verify", "shadow", "web", "user", "token"])
def test_a_context_that_cannot_be_read_stops_the_command(target: str, tmp_path: Path) -> None:
    """Else `make deploy CONTEXT="name plant2"` would deploy the default deployment instead."""
    ran, python = tmp_path / "ran", tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *deploy.context*) exec {sys.executable} "$@";; esac\ntouch {ran}\n')
    python.chmod(0o755)
    make = ["make", "-o", "setup", f"PY={python}", target]
    done = subprocess.run([*make, "CONTEXT=name plant2"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "expected key=value" in done.stderr and not ran.exists()
    subprocess.run([*make, "CONTEXT=name=plant2"], cwd=ROOT, check=True, capture_output=True)
    assert ran.exists()


def test_the_demo_of_a_bridge_at_another_site_has_both_names(tmp_path: Path) -> None:
    pipeline = Pipeline(Plan(directory=tmp_path, assembly=tmp_path, context_json='{"things": "Spare@Mill,Other"}'))
    assert (pipeline.thing, pipeline.site, pipeline.stack_prefix) == ("Spare", "Mill", "EdgeCloud")


@pytest.mark.parametrize(("words", "said"), [
    ("oops", "demo: CONTEXT: got 'oops', expected key=value"), ('name="a', "expected key=value words, quotes closed"),
    ("nmae=plant2", "did you mean name?")])
def test_a_demo_with_a_wrong_context_ends_with_one_line(words: str, said: str) -> None:
    done = subprocess.run(python_module("deploy.demo", "--context", words), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr and done.stderr.count("\n") == 1


def test_context_of_the_environment_is_overridden_word_by_word() -> None:
    environment = {"CDK_CONTEXT_JSON": '{"name": "a", "region": "eu-west-1"}'}
    assert context.merged("name=b", environment) == {"name": "b", "region": "eu-west-1"}
    for text in ("{", "[]", "3"):
        with pytest.raises(ValueError, match="expected a JSON object"):
            context.merged("", {"CDK_CONTEXT_JSON": text})


class Answers(BaseHTTPRequestHandler):
    """GET /good and POST echo; all else is refused with words."""

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/good" else 409, b'{"n": 1.5}' if self.path == "/good" else b"no such rule")

    def do_POST(self) -> None:
        self.answer(200, self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_the_control_ports_answers_and_its_refusals_in_its_own_words() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert control.ask(url, "/good") == {"n": 1.5} and control.tell(url, "/faults", {"cut": {}}) == {"cut": {}}
        with pytest.raises(PartFailed, match=r"GET http://127\.0\.0\.1:\d+/other: answered 409: no such rule"):
            control.ask(url, "/other")
        server.shutdown()
    with pytest.raises(PartFailed, match="refused"):
        control.ask(url, "/good")


def test_an_env_file_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "bridge.env"
    assert env_file.read(path) == {} == env_file.read(tmp_path)
    env_file.write(path, {"THING": "A", "MQTT_PASSWORD": "a=b#c"}, "made here")
    assert env_file.read(path) == {"THING": "A", "MQTT_PASSWORD": "a=b#c"}
    assert path.read_text().startswith("# made here\nTHING=A\n") and path.stat().st_mode & 0o777 == 0o600
    path.write_text("# X=1\nexport THING = B \n\nnothing\n")
    assert env_file.read(path) == {"THING": "B"}


def test_a_ready_file_that_an_earlier_start_left_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    """A container that was killed starts again on the same /tmp."""
    shutil.copytree(ROOT / "tests" / "data" / "foreign_cdk_out", tmp_path / "cdk.out")
    template = tmp_path / "cdk.out" / "GreenhouseBeds.template.json"
    template.write_text(template.read_text().replace('"Request"', '"CsrA"').replace("AWS::S3::Bucket", "AWS::No::Such"))
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps({"ca_file": str(tmp_path / "gone.pem")}))
    done = subprocess.run(python_module(
        "deploy.local_cloud_start", "--assembly", str(tmp_path / "cdk.out"), "--certs", str(tmp_path / "certs"),
        "--state", str(tmp_path / "state"), "--host", "127.0.0.1", "--ready-file", str(ready)),
        cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "AWS::No::Such" in done.stderr and "Traceback" not in done.stderr


def test_percentiles_of_none_one_and_many() -> None:
    assert percentiles([]) == {"p50": None, "p95": None}
    assert percentiles([7]) == {"p50": 7, "p95": 7}
    assert percentiles(list(range(100))) == {"p50": 50, "p95": 95}


def test_the_embedded_kafka_takes_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from confluent_kafka import Producer

    monkeypatch.delenv("BOOTSTRAP_SERVERS", raising=False)
    kafka = Kafka()
    delivered: list[object] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce("edge-data", b"{}", on_delivery=lambda error, _: delivered.append(error))
    assert producer.flush(20) == 0 and delivered == [None]
    kafka.close()


def test_given_kafka_brokers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTSTRAP_SERVERS", "kafka.example:9092")
    assert Kafka().bootstrap_servers == "kafka.example:9092"


def test_setup_has_nothing_to_do_when_the_locks_are_installed(tmp_path: Path) -> None:
    lock = setup.LOCKS / "base.lock"
    (tmp_path / "edgecloud-base.stamp").write_text(setup.fingerprint(lock))
    done = subprocess.run([sys.executable, "deploy/setup.py", "--venv", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert done.stdout == ""


def test_setup_says_which_python_it_wants() -> None:
    assert "expected 3.11 or newer" in (ROOT / "deploy" / "setup.py").read_text()
    done = subprocess.run(["make", "setup", "PYTHON="], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "no Python 3.11 or newer found" in done.stderr


@pytest.mark.parametrize("kind", ["embedded", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))])
def test_two_demos_started_at_once_have_a_broker_each(kind: str, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that finds its port taken in the last moment must not take the other's broker for its own."""
    monkeypatch.setenv("LAN_BROKER", kind)
    together, started = threading.Barrier(3), []

    def start(number: int) -> None:
        together.wait()
        started.append(lan_broker.start(tmp_path / str(number), lan=False))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({broker.port for broker in started}) == 3
        assert [broker.kind for broker in started] == [kind] * 3 and all(broker.part.running for broker in started)
    finally:
        for broker in started:
            broker.part.stop()
