"""The command line of the rule SQL evaluator, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "local_cloud.rule_sql", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, timeout=60, check=False)


def test_output_is_printed_as_json_with_exact_numbers(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"t": 0.30000000000000004, "x": 1}')
    done = run("SELECT t, topic(2) AS n FROM 'a/+'", "--topic", "a/b", "--payload", str(payload))
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"t":0.30000000000000004,"n":"b"}\n', b"")


def test_payload_from_standard_input_and_client_id() -> None:
    sql = "SELECT *, clientid() AS site WHERE x > 1"
    done = run(sql, "--topic", "$aws/rules/r/t", "--payload", "-", "--client-id", "c1", given=b'{"x": 2}')
    assert (done.returncode, done.stdout) == (0, b'{"x":2,"site":"c1"}\n')


def test_binary_payload_is_written_as_it_is() -> None:
    done = run("SELECT * FROM 'a'", "--topic", "a", "--payload", "-", given=b"\xff\x00")
    assert (done.returncode, done.stdout) == (0, b"\xff\x00\n")


def test_a_rule_that_does_not_fire_prints_nothing_and_exits_3() -> None:
    for topic, x in (("a", 1), ("b", 9)):
        done = run(f"SELECT * FROM 'a' WHERE {x} > 5", "--topic", topic, "--payload", "-", given=b"{}")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_faults_exit_2_with_clause_and_position() -> None:
    done = run("SELECT * FROM 'a' WHERE nope() = 1", "--topic", "a", "--payload", "-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"SqlError: WHERE at character 25: unknown function nope()\n"
    done = run("SELECT get_secret('a') AS s", "--topic", "a")
    assert done.returncode == 2 and done.stderr.startswith(b"Unsupported: SELECT at character 8: get_secret()")


def test_a_missing_file_and_missing_arguments_exit_2(tmp_path: Path) -> None:
    done = run("SELECT *", "--payload", str(tmp_path / "none.json"))
    assert done.returncode == 2 and b"none.json: No such file" in done.stderr
    assert run().returncode == 2
    assert run("SELECT *", "--cases", "x").returncode == 2


def test_batch_answers_every_case_and_goes_on_after_faulty_ones(tmp_path: Path) -> None:
    cases: list[Any] = [
        {"id": "e", "kind": "expr", "expr": "1 + 1", "expected": "ignored"},
        {"id": "u", "kind": "expr", "expr": "missing"},
        {"id": "k", "kind": "influx_line", "expr": "1"},
        {"id": "bad", "kind": "expr", "expr": "nope("},
        {"id": "no", "kind": "rule", "sql": "SELECT * FROM 'a' WHERE false", "topic": "a", "payload": {}},
        {"id": "void", "kind": "rule", "sql": "SELECT VALUE x FROM 'a'", "topic": "a", "payload": {}},
        {"id": "half", "kind": "rule"},
        {"id": "v1", "kind": "expr", "expr": "1", "sql_version": "2015-10-08"},
        {"id": "f", "kind": "topic_filter", "filter": "a/+", "topic": "a/b"},
        {"id": "ff", "kind": "topic_filter", "filter": "a/#/b", "topic": "a/b"},
        {"id": "t", "kind": "template", "template": "x/${topic()}", "topic": "a/b"},
        "nonsense",
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    done = run("--cases", str(path))
    assert (done.returncode, done.stderr) == (0, b"")
    got = {line["id"]: line["got"] for line in map(json.loads, done.stdout.splitlines())}
    faults = {key: got.pop(key)["$error"] for key in ("k", "bad", "half", "v1", "ff", 11)}
    assert got == {
        "e": 2,
        "u": {"$undefined": True},
        "no": {"$no_output": True},
        "void": "",
        "f": True,
        "t": "x/a/b",
    }
    assert "influx_line" in faults["k"] and "sql" in faults["half"] and "2015-10-08" in faults["v1"]


def test_batch_of_something_else_exits_2(tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    for text in ("{", '"text"'):
        path.write_text(text)
        done = run("--cases", str(path))
        assert done.returncode == 2 and b"cases.json" in done.stderr and done.stdout == b""
