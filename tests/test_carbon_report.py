"""The replay of a day: always normal against the policy, also where it saves nothing."""
import json
from pathlib import Path
from typing import Any

import pytest

from contract import carbon
from edge_bridge import carbon_curve, carbon_report
from edge_bridge.carbon_curve import Curve
from edge_bridge.carbon_report import PARTS, Day, Replay, Work

NOTHING = Work(devices=1, rate=10, batch_age_s=10, cameras=0, outage_h=0, core_w=4, cloud_g=40)
MUCH = NOTHING._replace(devices=20, cameras=2, outage_h=4)


def both(curve: Curve, work: Work, policy: str = "") -> tuple[Day, Day]:
    start_s = carbon_report.start_of(curve)
    return Replay(curve, start_s, work, None).run(), Replay(curve, start_s, work, carbon.policy(policy)).run()


def test_the_policy_saves_and_does_the_same_work() -> None:
    normal, adapted = both(carbon_curve.built_in(), MUCH)
    assert sum(adapted.grams.values()) < sum(normal.grams.values())
    assert adapted.used_j["network"] == pytest.approx(normal.used_j["network"]), "every byte is sent in both"
    assert adapted.grams["cameras"] < normal.grams["cameras"] and adapted.batches < normal.batches
    assert normal.high_h == 0 and 3 < adapted.high_h < 10 and adapted.longest_age_s == 30
    assert normal.drained_s and adapted.drained_s and adapted.drained_s > normal.drained_s


def test_always_normal_is_what_arithmetic_says() -> None:
    day, _ = both(Curve({0.0: 100.0}, daily=True), NOTHING)
    assert day.batches == pytest.approx(8640)
    cpu_s = 864_000 * carbon_report.COSTS["reading"][0] + 8640 * carbon_report.COSTS["batch"][0] + 86_400 * (
        carbon_report.COSTS["idle_second"][0])
    assert day.grams["bridge"] == pytest.approx((cpu_s * 4 + 86_400 * 0.5) / 3.6e6 * 100)
    assert day.grams["network"] == pytest.approx(864_000 * 20 / 1e9 * 0.01 * 100)


@pytest.mark.parametrize("policy", ["adapt=off", "high=2000,low=0"])
def test_a_policy_that_never_acts_saves_nothing(policy: str) -> None:
    normal, adapted = both(carbon_curve.built_in(), MUCH, policy)
    assert adapted.grams == normal.grams and adapted.batches == normal.batches


def test_a_flat_day_saves_nothing_and_the_report_says_so(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "flat.csv").write_text("00:00,300\n12:00,301\n")
    assert carbon_report.main(["--curve", str(tmp_path / "flat.csv"), "--cameras", "2"]) == 0
    assert "saves nearly nothing" in capsys.readouterr().out


def test_the_table_adds_up(capsys: Any, tmp_path: Path) -> None:
    curve = [[1_795_305_600 + 900 * n, 200 + 10 * (n % 40)] for n in range(96)]
    (tmp_path / "day.json").write_text(json.dumps(curve))
    assert carbon_report.main(["--curve", str(tmp_path / "day.json"), "--cameras", "1", "--outage", "2"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: [float(word) for word in line.split()[-5:-2]] for line in out.splitlines()
            if line.startswith((*PARTS, "in all"))}
    for column in range(3):
        assert sum(rows[part][column] for part in PARTS) == pytest.approx(rows["in all"][column], abs=3e-4)
    assert "96 points, 200 to 590" in out and "Verdict:" in out and "services_j_per_batch 5 (0.5 to 50) J" in out


def verdict(capsys: Any, *given: str) -> str:
    assert carbon_report.main([*given, "--cameras", "2"]) == 0
    found: str = capsys.readouterr().out.splitlines()[-1]
    return found.removeprefix("Verdict: ")


def test_a_saving_that_a_bridge_would_not_make_is_not_promised(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("".join(f"{hour:02}:00,{g}\n" for hour, g in enumerate(carbon_curve.SCHEDULE)))
    would = verdict(capsys)
    assert would.startswith("a bridge with these settings saves nothing: with adapt=measured it does not act on the "
                            "built-in schedule. CARBON=... gives it a real intensity, adapt=always")
    saved = verdict(capsys, "--policy", "adapt=always")
    assert would.endswith(f"it would be {saved}") and " g a day, " in saved and "nothing" not in saved
    assert verdict(capsys, "--curve", str(tmp_path / "day.csv")) == saved
    assert verdict(capsys, "--policy", "adapt=off") == verdict(
        capsys, "--policy", "adapt=off", "--curve", str(tmp_path / "day.csv")) == (
        "a bridge with these settings saves nothing: adapt=off shows the intensity and changes nothing.")


def test_a_curve_that_cannot_be_read_is_named_once(capsys: Any, tmp_path: Path) -> None:
    missing, no_text = tmp_path / "missing.csv", tmp_path / "no-text.csv"
    no_text.write_bytes(b"\xff\xfe")
    for path, why in ((missing, f"{missing}: No such file or directory\n"), (no_text, f"{no_text} is no text: ")):
        assert carbon_report.main(["--curve", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"carbon_report: CURVE {why}") and said.count(str(path)) == 1


@pytest.mark.parametrize(("given", "said"), [
    (["--curve", "missing.csv"], "missing.csv"), (["--policy", "batch=99"], "batch is '99'")])
def test_what_cannot_be_used_is_said(given: list[str], said: str, capsys: Any) -> None:
    assert carbon_report.main(given) == 2 and said in capsys.readouterr().err


def test_half_a_day_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "half.csv").write_text("2026-11-22T00:00Z,300\n2026-11-22T04:00Z,310\n")
    assert carbon_report.main(["--curve", str(tmp_path / "half.csv")]) == 2
    assert "expected a whole day" in capsys.readouterr().err


def test_figures_that_cannot_be_are_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        carbon_report.main(["--outage", "19"])
    assert "--outage up to 18" in capsys.readouterr().err
