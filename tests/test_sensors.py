"""Sensors and who the device is: seeded simulation, the CPU's files, lines, functions of the user's."""
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from contract import numbers, topics
from device import identity, sensors


def test_the_simulation_has_the_shape_that_the_issue_names() -> None:
    read = sensors.simulated(seed="a")
    readings = [read() for _ in range(4000)]
    assert all(re.fullmatch(r"\d+\.\d{2}", str(r["sensor1"])) for r in readings)
    assert all(re.fullmatch(r"-?\d+\.\d{4}", str(r["sensor2"])) for r in readings)
    assert abs(sum(r["sensor1"] for r in readings) / 4000 - 20) < Decimal("0.05")
    far = [r for r in readings if abs(r["sensor2"] - Decimal("0.5")) > Decimal("0.25")]
    assert 0.06 < len(far) / 4000 < 0.10, "8 % outliers"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 300)])
def test_the_share_of_outliers_is_adjustable(share: float, expected: int) -> None:
    read = sensors.simulated(seed=1, outliers=share)
    assert sum(abs(read()["sensor2"] - Decimal("0.5")) > Decimal("0.29") for _ in range(300)) == expected


def test_the_same_seed_gives_the_same_values() -> None:
    runs = [[sensors.simulated(seed, extra=("humidity",))() for _ in range(3)] for seed in ("1", "1", "2")]
    assert runs[0] == runs[1] != runs[2]


def test_further_fields_need_no_code() -> None:
    reading = sensors.open_sensor("simulated", extra=("humidity", "pressure"))()
    assert list(reading) == ["sensor1", "sensor2", "humidity", "pressure"]


@pytest.fixture
def zones(tmp_path: Path) -> Path:
    for name, kind, temperature in (("zone0", "acpitz", "27800\n"), ("zone1", "cpu-thermal", "48312\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(kind + "\n")
        (tmp_path / name / "temp").write_text(temperature)
    return tmp_path


def test_cpu_reads_the_cpus_zone_and_the_load(zones: Path) -> None:
    reading = sensors.cpu(str(zones / "zone*"))()
    assert reading["sensor1"] == Decimal("48.31")
    assert reading["sensor2"] >= 0 and re.fullmatch(r"\d+\.\d{4}", str(reading["sensor2"]))


def test_cpu_takes_the_first_zone_when_none_says_it_is_the_cpus(zones: Path) -> None:
    (zones / "zone1" / "type").write_text("battery\n")
    assert sensors.cpu(str(zones / "zone*"))()["sensor1"] == Decimal("27.80")


def test_cpu_says_what_is_missing(zones: Path, tmp_path: Path) -> None:
    with pytest.raises(sensors.SensorError, match=r"no CPU temperature here.*--sensor simulated"):
        sensors.cpu(str(tmp_path / "nothing*"))
    read = sensors.cpu(str(zones / "zone*"))
    (zones / "zone1" / "temp").write_text("")
    with pytest.raises(sensors.SensorError, match="cannot read the CPU temperature"):
        read()


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.FileIO]]:
    """(end to read from, end to write to)."""
    out, into = os.pipe()
    writer = io.FileIO(into, "w")
    yield out, writer
    writer.close()
    os.close(out)


def test_lines_arrive_as_they_are_written(pipe: tuple[int, io.FileIO]) -> None:
    out, writer = pipe
    read = sensors.from_lines(out)
    writer.write(b'{"sensor1": 20.10, "sensor2": 1}\n\n  \n{"sens')
    assert numbers.dumps(read()) == '{"sensor1":20.10,"sensor2":1}'
    got: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: got.append(read()), daemon=True)
    thread.start()
    writer.write(b'or2": 2}\r\n{"sensor2": 3}')
    thread.join(5)
    assert got == [{"sensor2": 2}]
    writer.close()
    assert read() == {"sensor2": 3}, "the last line may lack its newline"
    with pytest.raises(EOFError):
        read()


@pytest.mark.parametrize(("line", "reason"), [
    (b"no json", "broken JSON"), (b"[1]", "expected a dict"), (b'{"sensor2": "1"}', "expected a number"),
    (b'{"sensor2": NaN}', "no such number"), (b'{"sensor2": true}', "expected a number"), (b"\xff", "bad UTF-8"),
])
def test_a_bad_line_is_named_and_the_next_one_read(line: bytes, reason: str, pipe: tuple[int, io.FileIO]) -> None:
    out, writer = pipe
    read = sensors.from_lines(out)
    writer.write(line + b'\n{"sensor2": 1}\n')
    with pytest.raises(sensors.SensorError, match=reason):
        read()
    assert read() == {"sensor2": 1}


def test_an_interpreter_that_waits_for_a_line_ends_without_complaint() -> None:
    """A thread that blocks in sys.stdin holds its lock, and the interpreter aborts at exit."""
    program = ("import threading, time\nfrom device import sensors\nread = sensors.from_lines()\n"
               "thread = threading.Thread(target=read, daemon=True)\nthread.start()\nthread.join(0.2)\nprint('done')\n")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, cwd=Path(__file__).resolve().parent.parent) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.wait(20) == 0
        assert (process.stdout.read(), process.stderr.read()) == (b"done\n", b"")


def test_a_function_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_sensor_for_test.py").write_text(
        "def good():\n    return {'sensor1': 20.1, 'sensor2': 1e-7, 'n': 3}\n"
        "def bad():\n    return {'sensor2': float('nan')}\ndef odd():\n    return 5\ndef raising():\n    [][0]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    good = sensors.open_sensor("my_sensor_for_test:good")()
    assert good == {"sensor1": Decimal("20.1"), "sensor2": Decimal("1E-7"), "n": 3}, "floats as Python prints them"
    for name, reason in (("bad", "sensor2 = nan"), ("odd", "expected a dict"), ("raising", "raised IndexError")):
        with pytest.raises(sensors.SensorError, match=reason):
            sensors.open_sensor("my_sensor_for_test:" + name)()


def test_a_float_of_another_library_is_a_number_all_the_same() -> None:
    class Float64(float):
        """As NumPy 2 shows its own."""

        def __repr__(self) -> str:
            return f"np.float64({float(self)})"

    assert sensors.exact({"sensor2": Float64(0.1)}) == {"sensor2": Decimal("0.1")}


def test_an_input_that_cannot_be_read_is_said_and_ends_the_run(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    read = sensors.from_lines(descriptor)
    with pytest.raises(sensors.SensorError, match="stdin cannot be read"):
        read()
    with pytest.raises(EOFError):
        read()
    os.close(descriptor)


@pytest.mark.parametrize("name", ["no_such_module_here:read", "os:no_such_function", "thermometer"])
def test_an_unknown_sensor_is_refused(name: str) -> None:
    with pytest.raises(sensors.SensorError, match=r"expected .*module:function"):
        sensors.open_sensor(name)


@pytest.mark.parametrize(("cpu_info", "machine_id", "expected"), [
    ("processor : 0\nSerial\t\t: 00000000a3FE12c9\nModel : Pi\n", "1234567890abcdef\n", "00000000a3fe12c9"),
    ("processor : 0\nSerial\t\t: 0000000000000000\n", "1234567890abcdef\n", "1234567890abcdef"),
    (None, "1234567890abcdef\n", "1234567890abcdef"),
])
def test_the_serial_is_the_machines_own(cpu_info: str | None, machine_id: str, expected: str, tmp_path: Path) -> None:
    for name, text in (("cpuinfo", cpu_info), ("machine-id", machine_id)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert identity.hardware_serial(str(tmp_path / "cpuinfo"), str(tmp_path / "machine-id")) == expected


def test_the_device_is_named_by_host_and_serial() -> None:
    assert identity.device_id("raspberrypi.lan", "00000000a3fe12c9") == "raspberrypi-fe12c9"
    assert identity.device_id("Jo's Mac/+#.local", "ab") == "Jo-s-Mac-ab"
    assert identity.device_id("", "") == "device"
    assert topics.check_device(identity.device_id()) == identity.device_id(), "the same at each start"
