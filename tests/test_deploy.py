"""What starts and shows the demo: processes, ports, context, set-up."""
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy import context, lan_broker, setup
from deploy.kafka import Kafka
from deploy.processes import ROOT, Part, PartFailed, clean_environment, free_port, python_module, wait_until
from deploy.watch import percentiles


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
