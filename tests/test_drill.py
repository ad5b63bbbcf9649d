"""The drill by its parts: what it tells, judges, keeps running; tests/e2e/test_drill.py runs it."""
import json
import os
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from contract import batch
from deploy import certificates, drill, drill_faults
from deploy.drill_demo import find
from deploy.processes import Part, PartFailed, wait_until
from deploy.supervision import RESTARTS, Supervision
from local_cloud.pki import LocalCa


def status(**changes: Any) -> dict[str, Any]:
    return {"at": time.time() * 1000, "delivered": 7, "waiting": {"live": 2, "unreceipted": 3}, "dropped": 0,
            "dead_lettered": 1, "connected": {"cloud": True, "mqtt": False}, "alarms": {}, "oldest_unsent_s": 0.5,
            **changes}


def test_the_ledger_is_one_line() -> None:
    assert drill.ledger(status()) == (
        "delivered 7  waiting 5  dropped 0  dead-lettered 1  reaches cloud  alarms none")
    assert drill.ledger(status(alarms={"no_receipt": "", "cloud_refuses": ""}, connected={"cloud": False})).endswith(
        "reaches nobody  alarms cloud_refuses, no_receipt")
    assert drill.ledger({}) == "no ledger"
    assert drill.ledger(status(at=time.time() * 1000 - 60_000)) == "no ledger for 60 s"


def test_faults_are_chosen_by_name() -> None:
    assert [fault.name for fault in drill.chosen("")] == [
        "cut", "kill", "broker", "disk", "certificate", "throttle", "rule"]
    assert [fault.name for fault in drill.chosen("rule, cut")] == ["rule", "cut"]
    with pytest.raises(ValueError, match="ONLY names flood; expected of cut, kill"):
        drill.chosen("cut,flood")


def made(seq: int) -> dict[str, Any]:
    return {"device": "pi-1", "seq": seq, "timestamp": Decimal(1795332240 + seq), "values": {"sensor2": Decimal("0.5")}}


def stored(*seqs: int) -> dict[str, Any]:
    rows = [batch.Row(100 + index, 1795332240000, Decimal(1795332240 + seq), (1795332240 + seq) * 1000, seq, "0a",
                      {"sensor2": Decimal("0.50")}, {}, None, None) for index, seq in enumerate(seqs)]
    return {"kind": "readings", "device": "pi-1", "batch": "b" * 24, "series": batch.pack("pi-1", rows)}


@pytest.mark.parametrize(("held", "lost", "doubled", "misordered"), [
    ((1, 2, 3), 0, 0, 0), ((1, 3), 1, 0, 0), ((1, 2, 3, 3), 0, 1, 0), ((2, 1, 3), 0, 0, 1), ((1, 2, 3, 4), 0, 0, 0)])
def test_the_verdict_counts(held: tuple[int, ...], lost: int, doubled: int, misordered: int) -> None:
    verdict = drill.Verdict([made(seq) for seq in (1, 2, 3)], [stored(*held)])
    assert (verdict.lost, verdict.doubled, verdict.misordered) == (lost, doubled, misordered)
    assert verdict.good == (not any((lost, doubled, misordered)))


def test_the_readings_of_other_devices_are_not_judged() -> None:
    """A Pi of one's own beside the demo's, with a script that counts nothing: no seq, whole seconds, a flat value."""
    rows = [batch.Row(100 + index, 1795332240000, Decimal(1795332240), 1795332240000, None, None,
                      {"sensor2": Decimal("0.50")}, {}, None, None) for index in range(3)]
    other = {"kind": "readings", "device": "mine", "batch": "c" * 24, "series": batch.pack("mine", rows)}
    assert drill.Verdict([made(1), made(2)], [stored(1, 2), other]).good


def test_nothing_made_is_no_success() -> None:
    assert not drill.Verdict([], []).good


def sleeper(directory: Path, code: str = "import time; time.sleep(600)") -> Part:
    return Part("bridge", [sys.executable, "-c", code], directory / "log")


def test_what_ends_is_started_again_unless_it_is_held(tmp_path: Path) -> None:
    supervision, part = Supervision(tmp_path), sleeper(tmp_path).start()
    try:
        assert not supervision.keep_running(part)
        part.kill()
        mark = tmp_path / "held" / "bridge"
        mark.parent.mkdir()
        mark.touch()
        assert not supervision.keep_running(part) and not part.running
        os.utime(mark, (0, 0))  # held for longer than any drill: the drill itself was ended
        assert supervision.keep_running(part) and part.running
        supervision.announce({"bridge": part}, thing="Site")
        assert part.process and json.loads((tmp_path / "demo.json").read_text()) == {
            "pid": os.getpid(), "parts": {"bridge": part.process.pid}, "thing": "Site"}
        assert (tmp_path / "demo.json").stat().st_mode & 0o777 == 0o600
    finally:
        part.stop()


def test_what_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    supervision, part = Supervision(tmp_path), sleeper(tmp_path, "import sys; sys.exit('no such setting')").start()
    for _ in range(RESTARTS):
        wait_until("its end", lambda: not part.running, 30)
        assert supervision.keep_running(part)
    wait_until("its end", lambda: not part.running, 30)
    with pytest.raises(PartFailed, match="no such setting"):
        supervision.keep_running(part)


def test_the_newest_demo_that_lives_is_found(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    for name, pid in (("20260101-1", os.getpid()), ("20260102-1", os.getpid()), ("20260103-1", 2 ** 22 + 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "demo.json").write_text(json.dumps({"pid": pid}))
    assert find(tmp_path) == tmp_path / "20260102-1"


def test_an_expired_certificate_is_the_bridges_but_for_its_end(tmp_path: Path) -> None:
    ca = LocalCa(tmp_path / "cloud" / "pki")
    csr = certificates.make_key_and_csr(tmp_path / "certs", "EdgeCloudAWS")
    (tmp_path / "certs" / "EdgeCloudAWS.crt").write_text(ca.sign_csr(csr))
    good = x509.load_pem_x509_certificate((tmp_path / "certs" / "EdgeCloudAWS.crt").read_bytes())
    expired = x509.load_pem_x509_certificate(drill_faults.expire(tmp_path).read_bytes())
    expired.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.certificate_path.read_bytes()))
    assert (expired.subject, expired.public_key()) == (good.subject, good.public_key())
    assert expired.not_valid_after_utc.timestamp() < time.time()


def test_without_a_demo_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(drill, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["drill"])
    assert drill.main() == 2 and "start `make demo`" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["drill", "--only", "flood"])
    assert drill.main() == 2 and "expected of cut" in capsys.readouterr().err
