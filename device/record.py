"""A file with one JSON line per reading made: written by publisher.py, counted against by the demo.

{"device": "...", "seq": n, "timestamp": ..., "values": {...}, "spool": "..."}
"""
import json
import os
from collections import OrderedDict

from contract import numbers


def append(path, device, spool, rows):
    """Add a line for each of `rows`: (seq, text of the reading as message.reading_text made it)."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "a", encoding="utf-8") as lines:
        for seq, text in rows:
            values = numbers.loads(text)
            timestamp = values.pop("timestamp")
            lines.write(numbers.dumps(OrderedDict([
                ("device", device), ("seq", seq), ("timestamp", timestamp), ("values", values), ("spool", spool),
            ])) + "\n")


def last_seq(path, spool):
    """Highest seq of `spool` in the record (0 for none). What a power cut leaves costs no start: a torn last line is
    cut off, a line of something else (zeros, say) is passed over and stays."""
    if not os.path.exists(path):
        return 0
    highest = whole_bytes = 0
    with open(path, "rb") as lines:
        for raw in lines:
            if not raw.endswith(b"\n"):
                break
            whole_bytes += len(raw)
            try:
                fields = json.loads(raw.decode("utf-8"))
                if fields["spool"] == spool:
                    highest = max(highest, int(fields["seq"]))
            except (ValueError, KeyError, TypeError):
                continue  # none of ours
    if whole_bytes < os.path.getsize(path):
        os.truncate(path, whole_bytes)
    return highest
