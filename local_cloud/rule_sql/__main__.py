"""The command line: one statement on one payload, or a file of cases.

    python -m local_cloud.rule_sql "SELECT …" --topic T --payload FILE|-      output as JSON
    python -m local_cloud.rule_sql --cases FILE                               one JSON line a case

Exit codes: 0 output printed, 2 wrong or unsupported, 3 the rule does not fire.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local_cloud.rule_sql.cases import fires, run_cases
from local_cloud.rule_sql.errors import SqlError
from local_cloud.rule_sql.json_text import to_payload
from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.statement import compile_statement
from local_cloud.rule_sql.values import NO_OUTPUT

FAULT, NOT_FIRED = 2, 3


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m local_cloud.rule_sql", description=__doc__.splitlines()[0])
    parser.add_argument("sql", nargs="?", help="the rule's SQL (version 2016-03-23)")
    parser.add_argument("--topic", default="", help="the topic the message was published to")
    parser.add_argument("--payload", metavar="FILE", help="the payload; - reads standard input")
    parser.add_argument("--client-id", help="the MQTT client that published; without it clientid() is n/a")
    parser.add_argument("--cases", metavar="FILE", help="run a JSON list of cases; - reads standard input")
    options = parser.parse_args(arguments)
    if (options.sql is None) == (options.cases is None):
        parser.error("give either a statement or --cases FILE")
    try:
        if options.cases is not None:
            for line in run_cases(_read(options.cases)):
                print(line)
            return 0
        payload = b"" if options.payload is None else _read(options.payload)
        return _evaluate(options.sql, Message(options.topic, payload, client_id=options.client_id))
    except SqlError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
    except OSError as fault:
        print(f"cannot read {fault.filename}: {fault.strerror}", file=sys.stderr)
    except ValueError as fault:
        print(f"{options.cases}: {fault}", file=sys.stderr)
    return FAULT


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _evaluate(sql: str, message: Message) -> int:
    statement = compile_statement(sql)
    value = statement.evaluate(message) if fires(statement, message) else NO_OUTPUT
    if value is NO_OUTPUT:
        return NOT_FIRED
    sys.stdout.buffer.write(to_payload(value) + b"\n")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
