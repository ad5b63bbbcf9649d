"""docs/settings.md and docs/contract.md, from the tables and golden examples that the programs themselves read.

`python -m deploy.reference --write` writes them, without an option it prints them; a test fails when they are stale.
"""
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from contract import payloads, routes, topics
from deploy.processes import ROOT
from device import settings as publisher
from edge_bridge import settings as bridge
from infra import settings as stacks

EXAMPLES = ROOT / "contract" / "examples"
MADE_BY = "Made by `python -m deploy.reference --write`; do not edit."

# Golden example: what it is. Those of the HTTP API begin with api_.
MESSAGES = {
    "reading": f"A reading on `{topics.SENSOR_DATA}` or `{topics.SENSOR_DATA}/<device>`, port {topics.LAN_PORT}: any "
               "further numeric field is a measurement.",
    "reading_spool": "The same from our publisher: `spool` (a random id made with the spool file), `seq` (by one, "
                     "across reboots), `first` (the lowest it still holds).",
    "ack": f"From the bridge, on `{topics.sensor_ack('<device>')}`, QoS 1, retained: all of this spool up to `seq` is "
           "on disk.",
    "camera_event": f"A camera's count, in Kafka's topic `{topics.EDGE_DATA}`.",
    "batch_readings": "A sealed batch of readings, by Basic Ingest to the rule `<name>_readings`: columns of integers "
                      "with a decimal exponent.",
    "batch_events": "A sealed batch of events, by Basic Ingest to the rule `<name>_events`.",
    "alert": f"An anomaly, on `{topics.ALERTS}`: the first three fields never change.",
    "alert_also": "Several anomalies of a device in one message: the newest in front, the others in `also`.",
    "alert_incident": "An anomaly with the incident that it opens, continues or closes.",
    "status": f"The ledger, on `{topics.status('<thing>')}`, every 30 s.",
    "receipt": f"From the cloud, on `{topics.receipts('<thing>')}`: these batches and alert messages are stored.",
}


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    heads = list(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(_cell(each) for each in row) + " |"
    yield ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def settings() -> str:
    """docs/settings.md: of the bridge, the publisher and the stacks, each row with its default."""
    lines = ["# Settings", "", MADE_BY, "", "## The bridge", "",
             "From the environment; a fault stops the start, and all faults are told at once.", ""]
    lines += _table(("Variable", "Default", "What it means"),
                    ((_code(row.name), _code(row.default), row.sentence) for row in bridge.TABLE))
    lines += ["## The publisher on the Pi", "",
              f"A flag, else the environment, else the default; the password only by `{publisher.PASSWORD_ENV}`.", ""]
    lines += _table(("Flag", "Variable", "Default", "What it means"),
                    ((_code(f"--{row.flag}"), _code(row.env), _code(row.default), row.sentence)
                     for row in publisher.SETTINGS))
    lines += ["## The stacks", "", 'CDK context: `-c key=value`, or `make deploy CONTEXT="key=value ..."`.', ""]
    lines += _table(("Key", "Default", "What it means"),
                    ((_code(row.key), _code(row.default), row.sentence) for row in stacks.TABLE))
    lines += ["The camera's are told by `python -m device.camera --help`.", ""]
    return "\n".join(lines)


def contract() -> str:
    """docs/contract.md: topics, routes and every golden example."""
    lines = ["# The contract", "", MADE_BY, "", "What Pis, cameras, consumers and dashboards rely on; `contract/` "
             "is its code, `contract/examples/` its golden files.", "", "## Messages", ""]
    for name, sentence in MESSAGES.items():
        lines += [f"### {name}", "", sentence, "", "```json", _example(name), "```", ""]
    lines += ["## Routes in the cloud", ""]
    lines += _table(("Route", "IoT rule", "From", "Function"),
                    ((row.name, _code(routes.rule_name("<name>", row.name)),
                      _code(row.topic or "Basic Ingest"), _code(f"lambdas/{row.handler}.py")) for row in routes.ROUTES))
    lines += ["## HTTP API", "", f"Locally on port {routes.API_PORT}. Errors are `application/problem+json`.", ""]
    lines += _table(("Method", "Path"), ((row[0], _code(row[1])) for row in routes.API))
    for path in sorted(EXAMPLES.glob("api_*.json")):
        lines += [f"### {path.stem}", "", "```json", _example(path.stem), "```", ""]
    lines += ["## Fields of a message that are no measurement", "",
              ", ".join(_code(name) for name in sorted(payloads.RESERVED)), ""]
    return "\n".join(lines)


def _example(name: str) -> str:
    return (EXAMPLES / f"{name}.json").read_text(encoding="utf-8").strip()


DOCUMENTS = {ROOT / "docs" / "settings.md": settings, ROOT / "docs" / "contract.md": contract}


def write(documents: dict[Path, str]) -> None:
    """Write each text to its path."""
    for path, text in documents.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    """Print the documents, or write them with --write."""
    made = {path: make() for path, make in DOCUMENTS.items()}
    if sys.argv[1:] == ["--write"]:
        write(made)
    else:
        print("\n".join(made.values()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
