"""`python -m tests.trino`: the saved Athena queries in Trino itself, on which Athena's engine 3 is built, over lines as
they lie in the archive; what they answer is compared with what contract/batch.py unpacks. Needs Java 17 and Maven."""
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from contract import alerts, batch
from deploy.processes import ROOT
from infra.archive_queries import QUERIES
from tests.maven import jars
from tests.messages import OUTBOX, SITE, T0_MS, anomaly, by_rule, event, row, sealed

POM, PROGRAM = ROOT / "tests" / "trino.pom.xml", ROOT / "tests" / "Trino.java"
Rows = list[list[str]]


def lines() -> list[tuple[str, str]]:
    """(route, line): every way in which a column is packed, and repeats of batches and of an anomaly."""
    whole = {"sensor1": "20.25", "sensor2": "0.4987"}
    texts = [0, "2026-11-22T07:24:01Z", "2026-11-22T12:54:02+05:30"]
    readings = [
        {"pi-1": [row(n, whole) for n in range(50)], "pi-2": [row(7, {"x": "1E-60"}), row(9, {"x": "5E+40"})]},
        {"pi-3": [row(n, {"t": n} if n % 2 else {"u": "-1.5"}) for n in range(6)], "pi-4": [row(0, {"a": 3})]},
        {"pi-5": [row(n, {"t": n}, timestamp=Decimal("1795332240.5") if text == 0 else text)
                  for n, text in enumerate(texts)]}]
    found = [("readings", by_rule(sealed("readings", one))) for one in readings for _ in range(2)]
    found.append(("events", by_rule(sealed("events", {"camera-01": [event(n, n % 4) for n in range(5)]}))))
    told = [alerts.seal(OUTBOX, "pi-1", [anomaly(n, f"{n}.5") for n in of_one])[1]
            for of_one in ((1, 2, 3), (3,), (9,))]
    return found + [("alerts", by_rule(one)) for one in (*told, told[0])]


def answers(archive: list[tuple[str, str]]) -> dict[str, Rows]:
    """{query: rows} over these lines, all of them of today, which is when the queries look."""
    values = ",\n".join("('{}', cast(current_date AS varchar), '{}')".format(route, line.replace("'", "''"))
                        for route, line in archive)
    with tempfile.TemporaryDirectory(prefix="trino-") as folder:
        files = []
        for query in QUERIES:
            files.append(Path(folder) / f"{query.logical_id}.sql")
            table = f"WITH archive (route, day, line) AS (VALUES {values}),\n"
            files[-1].write_text(query.sql.replace("WITH ", table, 1))
        classpath = f"{jars(POM, 'trino-main')}/*"
        done = subprocess.run(["java", "-Xmx900m", "-cp", classpath, str(PROGRAM), *map(str, files)],
                              stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    parts = done.stdout.split("--\n")[:-1]
    # Some of Trino's libraries print warnings there; a row has tabs.
    return {query.logical_id: [line.split("\t") for line in part.splitlines() if "\t" in line]
            for query, part in zip(QUERIES, parts, strict=True)}


def unpacked(archive: list[tuple[str, str]]) -> Counter[tuple[Any, ...]]:
    """(site, device, moment in ms, field, value) of every batch, counted once."""
    found = {one.id: one for one in (batch.read(line) for route, line in archive if route in ("readings", "events"))}
    return Counter((one.site, series["device"], each.at_ms, field, float(value)) for one in found.values()
                   for series in one.series for each in batch.unpack(series) for field, value in each.values.items())


def faults(archive: list[tuple[str, str]], got: dict[str, Rows]) -> list[str]:
    """What the queries answer differently."""
    want = unpacked(archive)
    rows = Counter((site, device, _at_ms(moment), field, _close(float(value)))
                   for site, device, moment, field, value in got["Readings"])
    wrong = [] if rows == Counter({(*key[:4], _close(key[4])): n for key, n in want.items()}) else ["Readings"]
    by_hour = {(site, device, field, _at_ms(hour)): int(n) for site, device, field, hour, n, *_ in got["Hours"]}
    if by_hour != Counter((site, device, field, at_ms - at_ms % 3_600_000)
                          for site, device, at_ms, field, _ in want.elements()):
        wrong.append("Hours")
    day = datetime.fromtimestamp(T0_MS / 1000).date().isoformat()
    return wrong if got["Anomalies"] == [[SITE, "pi-1", "sensor2", day, "4", "1.5", "9.5"]] else [*wrong, "Anomalies"]


def _at_ms(moment: str) -> int:
    assert moment.endswith(" UTC"), f"{moment}: an hour of another zone would be another hour"
    return round(datetime.fromisoformat(moment.replace(" UTC", "+00:00")).timestamp() * 1000)


def _close(value: float) -> str:
    return f"{value:.12e}"


def main() -> int:
    """Exit code 1 when a query answers otherwise than the contract unpacks."""
    archive = lines()
    wrong = faults(archive, answers(archive))
    for query in QUERIES:
        print(f"{'✗' if query.logical_id in wrong else '✓'} {query.title}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
