"""Providers of carbon intensities: each read from a real local server, well and badly answered; files; settings."""
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import carbon_curve, carbon_fetch, carbon_sources, settings
from edge_bridge.carbon_curve import SCHEDULE, BadCurve, from_text
from edge_bridge.carbon_fetch import MOST_BYTES, NoAnswer, get_json
from edge_bridge.carbon_sources import PROVIDERS, ask, chosen
from edge_bridge.settings import SettingsError
from tests.carbon_rig import HOUR_S, NOON_S, Server
from tests.carbon_rig import server as server
from tests.doctor_rig import tls_context

CHARTS = {"unix_seconds": [NOON_S - 900, NOON_S, NOON_S + 900, NOON_S + 1800], "co2eq": [310.5, 320.25, None, None],
          "co2eq_forecast": [None, 1, 330, None]}
UK = {"data": [{"from": "2026-11-22T12:00Z", "to": "2026-11-22T12:30Z",
                "intensity": {"forecast": 266, "actual": 263, "index": "moderate"}},
               {"from": "2026-11-22T12:30Z", "to": "2026-11-22T13:00Z",
                "intensity": {"forecast": 270, "actual": None, "index": "high"}}]}
UK_REGION = {"data": [{"regionid": 13, "data": [{"from": "2026-11-22T12:00Z", "to": "2026-11-22T12:30Z",
                                                 "intensity": {"forecast": 150, "index": "low"}}]}]}
MAPS = {"zone": "DE", "carbonIntensity": 302, "datetime": "2026-11-22T12:00:00.000Z", "isEstimated": True}


@pytest.mark.parametrize(("source", "answer", "path", "points"), [
    ("energy-charts:de", CHARTS, "/co2eq?country=de",
     {NOON_S - 900: 310.5, NOON_S: 320.25, NOON_S + 900: 330.0}),
    ("uk", UK, "/intensity/date", {NOON_S: 263.0, NOON_S + 1800: 270.0}),
    ("uk:13", UK_REGION, "/regional/regionid/13", {NOON_S: 150.0}),
    ("electricity-maps:DE", MAPS, "/v3/carbon-intensity/latest?zone=DE", {NOON_S: 302.0})])
def test_a_provider_is_asked_and_read(server: Server, source: str, answer: Any, path: str,
                                      points: dict[float, float]) -> None:
    server.answer = server.json(answer)
    found = ask(chosen(source) or pytest.fail(), server.url, "the-key")
    assert dict(zip(found.at_s, found.g, strict=True)) == points
    [(asked, headers)] = server.asked
    assert asked == path
    assert ("the-key" in headers.values()) == (headers.get("auth-token") == "the-key") == source.startswith("elec")


@pytest.mark.parametrize(("source", "answer"), [
    ("energy-charts:de", {**CHARTS, "co2eq": [None] * 4, "co2eq_forecast": [None] * 4}),
    ("energy-charts:de", {"unix_seconds": [], "co2eq": []}), ("energy-charts:de", {"unix_seconds": [NOON_S]}),
    ("energy-charts:de", {**CHARTS, "co2eq": [-1, 2, 3, 4]}), ("energy-charts:de", {**CHARTS, "co2eq": ["x", 2, 3, 4]}),
    ("energy-charts:de", {**CHARTS, "unix_seconds": [None] * 4}), ("energy-charts:de", {**CHARTS, "co2eq": 7}),
    ("energy-charts:de", {"unix_seconds": list(range(5000)), "co2eq": [1] * 5000}),
    ("uk", {"data": []}), ("uk", {"data": [{"from": "soon", "intensity": {"forecast": 1}}]}), ("uk", {"data": None}),
    ("uk", {"data": [{"from": "2026-11-22T12:00Z", "intensity": {"forecast": None, "actual": None}}]}),
    ("electricity-maps:DE", {**MAPS, "carbonIntensity": None}), ("electricity-maps:DE", {"error": "zone"}),
    ("electricity-maps:DE", {**MAPS, "carbonIntensity": float("nan")}), ("electricity-maps:DE", []),
    ("electricity-maps:DE", {**MAPS, "carbonIntensity": True}), ("uk", "text"), ("uk", None)])
def test_an_answer_that_says_nothing_is_refused(server: Server, source: str, answer: Any) -> None:
    server.answer = server.json(answer)
    with pytest.raises(BadCurve):
        ask(chosen(source) or pytest.fail(), server.url, "k")


@pytest.mark.parametrize(("answer", "said"), [
    (Server.json({}, 500), "answered 500"), (Server.json({}, 429), "answered 429"),
    (Server.json(CHARTS, 302, Location="http://127.0.0.1:1/"), "answered 302"),
    (Server.json(b"{"), "not JSON"), (Server.json(b"\xff\xfe"), "not JSON"), (Server.json(b"[" * 200_000), "not JSON"),
    (Server.json(b"1" * (MOST_BYTES + 1)), "over 1048576 bytes")])
def test_a_bad_answer_is_no_answer(server: Server, answer: Any, said: str) -> None:
    server.answer = answer
    with pytest.raises(NoAnswer, match=said):
        get_json(server.url + "/x", {})


def test_an_answer_without_an_end_has_one(server: Server) -> None:
    ended = threading.Event()

    def forever(handler: BaseHTTPRequestHandler) -> None:
        try:
            while True:  # a header that never ends: each byte in time, the whole never
                handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: " if not ended.is_set() else b"x")
                handler.wfile.flush()
                ended.set()
                time.sleep(0.01)
        except OSError:
            pass  # cut, as it should be

    server.answer = forever
    with pytest.raises(NoAnswer, match="had not done answering"):
        get_json(server.url + "/x", {}, answer_s=0.3)
    assert ended.is_set()


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1"):
        get_json("http://127.0.0.1:1/x", {})


def test_only_a_trusted_certificate_is_believed(server: Server, tmp_path: Path) -> None:
    server.http.socket = tls_context(tmp_path, "localhost").wrap_socket(server.http.socket, server_side=True)
    server.answer = server.json(UK)
    url = f"https://localhost:{server.http.server_address[1]}"
    with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
        ask(chosen("uk") or pytest.fail(), url)
    assert server.asked == []
    trusted = ssl.create_default_context(cafile=str(tmp_path / "localhost.crt"))
    assert ask(chosen("uk") or pytest.fail(), url, trust=trusted).g == [263.0, 270.0]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_is_reached_by_https(name: str) -> None:
    assert PROVIDERS[name].base.startswith("https://") and not carbon_fetch.base_fault(PROVIDERS[name].base)


# --- files and curves

@pytest.mark.parametrize("text", [
    "time,gCO2\n2026-11-22T11:00:00Z,300\n2026-11-22T12:00:00Z,310.5\n", f"{NOON_S - HOUR_S},300\n{NOON_S},310.5\n",
    json.dumps([[NOON_S - HOUR_S, 300], ["2026-11-22T13:00:00+01:00", 310.5]])])
def test_a_file_has_a_curve(text: str) -> None:
    found = from_text(text)
    assert (found.at_s, found.g) == ([NOON_S - HOUR_S, NOON_S], [300.0, 310.5])
    assert found.now(NOON_S - 1, HOUR_S) == 300 and found.now(NOON_S + HOUR_S, HOUR_S) == 310.5
    assert found.now(NOON_S + HOUR_S + 1, HOUR_S) is None and found.now(NOON_S - HOUR_S - 1, HOUR_S) is None


def test_a_schedule_holds_every_day() -> None:
    found = from_text("06:30,200\n18:00,400\n")
    assert found.daily and found.now(NOON_S, 0) == 200
    assert found.now(NOON_S + 7 * HOUR_S, 0) == 400 and found.now(NOON_S - 7 * HOUR_S, 0) == 400, "over midnight, too"
    built_in = carbon_curve.built_in()
    assert built_in.now(NOON_S, 0) == SCHEDULE[12] and built_in.day(NOON_S) == [float(g) for g in SCHEDULE]


@pytest.mark.parametrize("text", ["", "time,gCO2\n", "a\nb\n", "12:00,200\n2026-11-22T12:00:00Z,3\n", "12:00,-1\n",
                                  "12:00,x\n", "12:00,99999\n", "[1, 2]", "[[1, null]]", "[" * 100_000, "1e99,3\n",
                                  "\u00b2:00,3\n"])
def test_a_file_that_has_none_is_refused(text: str) -> None:
    with pytest.raises(BadCurve):
        from_text(text)


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "curve").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCurve, match="no text"):
        ask(chosen(f"file:{tmp_path / 'curve'}") or pytest.fail())
    (tmp_path / "curve").write_bytes(b"12:00,1\n" * 200_000)
    with pytest.raises(BadCurve, match="is over"):
        ask(chosen(f"file:{tmp_path / 'curve'}") or pytest.fail())


# --- settings

@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("AmazonRootCA1.pem", "device.crt", "device.key"):
        (tmp_path / name).write_text("x")
    return {"IOT_ENDPOINT": "localhost", "CERTS": str(tmp_path)}


def test_without_a_word_nothing_is_asked_for(environment: dict[str, str]) -> None:
    found = settings.load(environment)
    assert not found.carbon.asks and not found.carbon_cloud.asks and found.carbon_max_age == 6 * HOUR_S
    assert settings.load({**environment, "CARBON": "off"}).carbon is None


@pytest.mark.parametrize(("name", "text", "said"), [
    ("CARBON", "energy-charts", "expected off, schedule"), ("CARBON", "fixed:-3", "CARBON is 'fixed:-3'"),
    ("CARBON", "uk:../x", "CARBON is"), ("CARBON", "elsewhere:de", "energy-charts:zone"),
    ("CARBON", "file:", "CARBON is"), ("CARBON_POLICY", "batch=99", "CARBON_POLICY: batch is '99'"),
    ("CARBON_CLOUD", "electricity-maps:SE", "CARBON_KEY"),
    ("CARBON_URL", "http://example.org", "CARBON_URL is"), ("CARBON_URL", "https://u:p@example.org", "CARBON_URL is"),
    ("CARBON_MAX_AGE", "0", "a number of hours"), ("CARBON_CORE_WATTS", "-1", "CARBON_CORE_WATTS")])
def test_a_faulty_setting_is_named(environment: dict[str, str], name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings.load({**environment, name: text})
    assert said in str(refusal.value)


def test_a_key_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" s3cret \n")
    assert carbon_sources.key("", str(tmp_path / "key")) == "s3cret"
    assert carbon_sources.key("given", "") == "given" and carbon_sources.key("", "") == ""
    with pytest.raises(OSError, match="missing"):
        carbon_sources.key("", str(tmp_path / "missing"))


@pytest.mark.parametrize("key", ["s3cret\nX: y", "s3crét", "s3cret key"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(OSError, match="CARBON_KEY") as refusal:
        carbon_sources.key(key, "")
    assert "s3cr" not in str(refusal.value)
