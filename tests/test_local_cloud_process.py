"""The local cloud as a process: taken ports, what a stop and a kill leave behind, and starts that are refused."""

import signal
import socket
import subprocess
from pathlib import Path

from tests.local_cloud_rig import DEADLINE_S, FOREIGN, ROOT, command, start, write_assembly
from tests.waiting import eventually


def descendants(pid: int) -> set[int]:
    """Process ids below `pid` (ps is on every Linux and macOS)."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        if not more:
            return found
        found |= more


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still run (zombies of a dead parent aside)."""
    listed = subprocess.run(["ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    states = {int(pid): state for pid, state in (line.split() for line in listed.splitlines())}
    return {pid for pid in pids if not states.get(pid, "Z").startswith("Z")}


def test_taken_ports_are_moved_and_a_stop_leaves_no_process_and_no_ready_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start(tmp_path, "--gateway-port", str(port), "--api-port", str(port))
        assert running.ready["ports"]["gateway"] > port and running.ready["ports"]["api"] > port
        log = running.log.read_text()
        assert f"device gateway: port {port} is taken" in log and f"HTTP API: port {port} is taken" in log
    below = descendants(running.process.pid)
    assert len(below) >= 3, "moto and a worker for each function"
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0, running.log.read_text()
    eventually(lambda: not alive(below))
    assert not (tmp_path / "ready.json").exists()
    assert "Traceback" not in running.log.read_text()


def test_a_killed_local_cloud_leaves_no_process_either(tmp_path: Path) -> None:
    running = start(tmp_path)
    below = descendants(running.process.pid)
    running.process.kill()
    running.process.wait(10)
    eventually(lambda: not alive(below))


def refused(directory: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a local cloud that does not start."""
    done = subprocess.run(command(directory, *options), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip()


def test_a_missing_assembly_is_one_clear_line(tmp_path: Path) -> None:
    code, text = refused(tmp_path)
    assert code == 2 and "manifest.json is missing" in text and len(text.splitlines()) == 1


def test_a_control_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = refused(FOREIGN, "--control-port", str(taken.getsockname()[1]))
    assert code == 2 and "control: port" in text and "is taken" in text


def test_an_unknown_type_stops_the_start_with_its_logical_id(tmp_path: Path) -> None:
    bus = {"Type": "AWS::Events::EventBus", "Properties": {"Name": "x"}}
    write_assembly(tmp_path, "S", {"Resources": {"Bus": bus}})
    code, text = refused(tmp_path)
    assert code == 2 and "stack S, resource Bus (AWS::Events::EventBus): unknown resource type" in text
