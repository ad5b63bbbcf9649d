"""The back-test: the bridge's own verdicts on a file, as CSV, in words and as a picture; and what it refuses."""
import csv
import gzip
import io
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from contract import batch
from edge_bridge import backtest, detectors
from tests.streams import stream

ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


def csv_file(path: Path, values: list[float], header: str = "timestamp,sensor1,sensor2") -> Path:
    lines = (f"{1_760_000_000 + i / 10:.1f},{20 + i * 37 % 100 / 100},{value}\n" for i, value in enumerate(values))
    path.write_text(header + "\n" + "".join(lines))
    return path


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    values = stream("burst", 1, 900).values
    return csv_file(tmp_path_factory.mktemp("backtest") / "burst.csv", values), values


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]], str]:
    """Exit code, rows of standard output, standard error."""
    code = backtest.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, list(csv.DictReader(io.StringIO(shown.out))), shown.err


@pytest.mark.parametrize("mode", ["seed", "forest", "context"])
def test_it_says_what_the_bridge_would_have_said(mode: str, spoiled: tuple[Path, list[float]],
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    path, values = spoiled
    code, rows, err = run(path, "--mode", mode, capsys=capsys)
    verdicts = detectors.judged(
        detectors.factory(mode)(), [(value, 1_760_000_000_000 + 100 * i) for i, value in enumerate(values)])
    assert code == 0 and tuple(rows[0]) == backtest.HEADER
    assert [row["anomaly"] for row in rows] == ["true" if verdict.anomaly else "false" for verdict in verdicts]
    assert [float(row["score"]) for row in rows] == pytest.approx([-(verdict.score or 0) for verdict in verdicts])
    assert [row["reason"] for row in rows] == [verdict.reason or "" for verdict in verdicts]
    assert [float(row["value"]) for row in rows] == values and rows[1]["timestamp"] == "1760000000.1"
    flagged = sum(verdict.anomaly for verdict in verdicts)
    assert err.startswith(f"{mode}: 900 readings, {flagged} anomalies (") and "readings/s" in err


def test_an_anomaly_has_a_score_above_0_and_nothing_else_has(spoiled: tuple[Path, list[float]],
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("seed", "forest"):
        _, rows, _ = run(spoiled[0], "--mode", mode, capsys=capsys)
        assert all((float(row["score"]) > 0) == (row["anomaly"] == "true") for row in rows)
        assert any(row["anomaly"] == "true" for row in rows)


def test_two_modes_are_compared(spoiled: tuple[Path, list[float]], capsys: pytest.CaptureFixture[str]) -> None:
    _, rows, err = run(spoiled[0], "--compare", "seed", capsys=capsys)
    forest, seed, both = err.splitlines()
    assert forest.startswith("forest: ") and seed.startswith("seed: ") and both.startswith("forest and seed: both ")
    assert len(rows) == 900, "standard output holds the first mode's verdicts"
    figures = [int(word.strip(",")) for word in both.split() if word.strip(",").isdigit()]
    assert sum(figures) == 900 and figures[2] > figures[1], "the seed's way flags far more"


def test_the_picture(spoiled: tuple[Path, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "out.png"
    code, _, _ = run(spoiled[0], "--compare", "seed", "--plot", picture, capsys=capsys)
    assert code == 0 and picture.read_bytes().startswith(PNG) and picture.stat().st_size > 20_000
    code, _, err = run(spoiled[0], "--plot", tmp_path / "no" / "out.png", capsys=capsys)
    assert code == 1 and "cannot be written" in err


def test_without_matplotlib_there_is_a_clear_word(spoiled: tuple[Path, list[float]], tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run(spoiled[0], "--plot", tmp_path / "out.png", capsys=capsys)
    assert code == 1 and "--plot needs matplotlib" in err


def archive_object(path: Path, values: list[float], packed: bool) -> Path:
    """Batches of two devices, one a line, as the archive has them."""
    def row(number: int, value: float) -> batch.Row:
        at_ms = 1_760_000_000_000 + 100 * number
        return batch.Row(number, at_ms, Decimal(at_ms) / 1000, at_ms, None, None,
                         {"sensor1": Decimal(20), "sensor2": Decimal(str(value))}, {}, None, None)
    lines = []
    for start in range(0, len(values), 250):
        series = [batch.pack(device, [row(start + i, value) for i, value in enumerate(values[start:start + 250])])
                  for device in ("pi-1", "pi-2")]
        lines.append(batch.seal_series("readings", "0123456789abcdef01", series)[1])
    raw = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_archive_objects(packed: bool, spoiled: tuple[Path, list[float]], tmp_path: Path,
                         capsys: pytest.CaptureFixture[str]) -> None:
    path, values = spoiled
    _, plain, _ = run(path, capsys=capsys)
    code, rows, err = run(archive_object(tmp_path / "part-0.gz", values, packed), capsys=capsys)
    assert code == 0 and "1800 readings" in err
    assert [float(row["value"]) for row in rows[:500]] == values[:250] * 2, "in the order of the object"
    said = [row["anomaly"] for row in rows]
    starts = range(0, len(said), 500)
    firsts = [one for start in starts for one in said[start:start + len(said[start:start + 500]) // 2]]
    assert firsts == [row["anomaly"] for row in plain], "each device has a detector of its own"


def test_a_device_may_have_any_separator_of_lines_in_its_name(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    row = batch.Row(1, 1_760_000_000_000, Decimal(1_760_000_000), 1_760_000_000_000, None, None,
                    {"sensor2": Decimal(1)}, {}, None, None)
    sealed = batch.seal_series("readings", "0123456789abcdef01", [batch.pack("roof\u2028north", [row])])[1]
    as_the_rule_writes_it = sealed.replace(rb"\u2028", "\u2028".encode())
    (tmp_path / "object").write_bytes(as_the_rule_writes_it + b"\r\n")
    code, rows, err = run(tmp_path / "object", capsys=capsys)
    assert code == 0 and [row["value"] for row in rows] == ["1"], err


def test_fields_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [0.5 + (i * 61 % 100 - 50) / 1000 for i in range(300)] + [3.0]
    code, rows, err = run(csv_file(tmp_path / "a.csv", values), "--column", "sensor1+sensor2", capsys=capsys)
    assert code == 0 and rows[-1]["anomaly"] == "true" and rows[-1]["value"].endswith("+3.0") and "301 readings" in err


def test_incidents_are_counted_by_the_bridges_own_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [0.5 + (i * 61 % 100 - 50) / 1000 for i in range(2400)]
    for spike in (300, 310, 1500):  # one a second apart, then two minutes
        values[spike] = 4.0
    _, _, err = run(csv_file(tmp_path / "a.csv", values), capsys=capsys)
    assert "3 anomalies" in err and "2 incidents: spike 3" in err


@pytest.mark.parametrize(("text", "column", "complaint"), [
    ("timestamp,sensor2\n1,0.5\n2,x\n", "sensor2", "line 3: sensor2 is 'x'; expected a number"),
    ("timestamp,sensor2\n1,0.5\n2,nan\n", "sensor2", "line 3: sensor2 is 'nan'; expected a number"),
    ("timestamp,sensor2\n1,0.5\n2\n", "sensor2", "line 3: 2 fields; expected 2"),
    ("timestamp,sensor2\n1,0.5,7\n", "sensor2", "line 2: 3 fields; expected 2"),
    ("timestamp,sensor2\nyesterday,0.5\n", "sensor2", "line 2: bad timestamp"),
    ("timestamp,value\n1,0.5\n", "sensor2", "no column 'sensor2'; its columns are timestamp, value"),
    ("sensor2\n1\n", "sensor2", "no column 'timestamp'"),
    ("timestamp,sensor2\n", "sensor2", "no readings"),
    ("", "sensor2", "no column 'timestamp'"),
    (f"timestamp,sensor2\n1,{'5' * 200_000}\n", "sensor2", "field larger than field limit"),
    ('{"v":1}\n', "sensor2", "line 1: no batch"),
    ('{"v":1,', "sensor2", "line 1: no batch")])
def test_a_bad_file_is_refused_with_the_place(text: str, column: str, complaint: str, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    code, rows, err = run(path, "--column", column, capsys=capsys)
    assert code == 1 and not rows and complaint in err and str(path) in err


def test_a_file_that_is_not_there_or_is_spoiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(tmp_path / "none.csv", capsys=capsys)
    assert code == 1 and "cannot be read" in err
    whole = gzip.compress(b"timestamp,sensor2\n" * 100)
    for spoiled_bytes in (whole[:-9], whole[:10] + b"\xff" * 9 + whole[19:]):
        (tmp_path / "spoiled.gz").write_bytes(spoiled_bytes)
        code, _, err = run(tmp_path / "spoiled.gz", capsys=capsys)
        assert code == 1 and "spoiled.gz cannot be read" in err


def test_a_mode_that_is_not_there(spoiled: tuple[Path, list[float]], capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, err = run(spoiled[0], "--mode", "oracle", capsys=capsys)
    assert code == 2 and not rows and "expected context, forest, seed" in err
    code, _, _ = run(spoiled[0], "--mode", "edge_bridge.detectors.forest:ForestDetector", capsys=capsys)
    assert code == 0


def test_iso_timestamps_and_further_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "iso.csv"
    path.write_text("note,value,timestamp\n" + "".join(f"x,{i % 7},2014-04-{i + 1:02} 00:00:00\n" for i in range(30)))
    code, rows, _ = run(path, "--column", "value", "--mode", "context", capsys=capsys)
    assert code == 0 and rows[29]["timestamp"] == "2014-04-30 00:00:00"


def test_as_a_command(spoiled: tuple[Path, list[float]]) -> None:
    ran = subprocess.run([sys.executable, "-m", "edge_bridge.backtest", str(spoiled[0]), "--mode", "forest"], cwd=ROOT,
                         capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == ",".join(backtest.HEADER) and len(ran.stdout.splitlines()) == 901
    assert ran.stderr.startswith("forest: 900 readings")
