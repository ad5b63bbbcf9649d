"""Bench row `soak`: does a running bridge grow?"""
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.bridge_run import BridgeRun
from tests.bench.cloud import Cloud
from tests.bench.ingest import Broker
from tests.bench.report import Row

PER_S = 500
_SETTLED = 0.4  # of the time: caches fill, the allocator finds its size


def slope_per_min(notes: list[dict[str, Any]], name: str) -> float:
    """Least-squares slope of one of the notes' figures, per minute, after the time it needs to settle."""
    settled = notes[int(len(notes) * _SETTLED):]
    if len(settled) < 2:
        raise RuntimeError(f"{len(notes)} notes; expected a longer soak")
    at_min = [note["at_s"] / 60 for note in settled]
    mean_min = sum(at_min) / len(settled)
    mean = sum(note[name] for note in settled) / len(settled)
    return (sum((at - mean_min) * (note[name] - mean) for at, note in zip(at_min, settled, strict=True))
            / sum((at - mean_min) ** 2 for at in at_min))


def soak(directory: Path, minutes: float) -> list[Row]:
    """Readings come in and go out for so long; what the bridge uses should not rise."""
    broker = Broker(directory / "broker")
    cloud = Cloud(directory / "cloud")
    bridge = BridgeRun(directory / "bridge", MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port), BATCH_AGE="1",
                       STATUS_INTERVAL="1", **cloud.environment).start()
    try:
        load.trickle(broker.port, PER_S, minutes * 60)
        bridge.check_alive()
        notes = bridge.notes()
        count = int(bridge.committed())
        figures = cloud.await_readings(count, 30)
    finally:
        bridge.stop()
        cloud.close()
        broker.close()
    half = notes[int(len(notes) * _SETTLED):]
    return [
        Row("soak: memory", "MB/min", [slope_per_min(notes, "rss_mb")], at_most=max(0.2, 1.0 / minutes),
            note=f"{minutes:g} min at {PER_S}/s; RSS by {notes[0]['rss_source']}"),
        Row("soak: threads", "more", [half[-1]["threads"] - half[0]["threads"]], at_most=0),
        Row("soak: open files", "more", [half[-1]["files"] - half[0]["files"]], at_most=0),
        Row("soak: readings lost, doubled or wrong", "readings",
            [count - figures["new"] + figures["doubled"] + figures["wrong"]], at_most=0),
    ]
