"""A broker's retained messages and persistent sessions, written to a JSON file and read back at the next start.

Used by the LAN broker; written whole to a file beside and moved into place, so a crash leaves the last complete one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from local_cloud.gateway.broker import Broker
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.packets import Properties, Subscription
from local_cloud.gateway.session import Delivery, Session

FORMAT = 1


class StateError(ValueError):
    """A state file that cannot be read; the text names it and the next step."""


def save(broker: Broker, path: Path) -> None:
    """Write what outlives the process: retained messages, and sessions that do not end with their connection."""
    now_s, now_epoch_s = asyncio.get_running_loop().time(), time.time()
    to_epoch_s = now_epoch_s - now_s
    state = {"format": FORMAT,
             "retained": [_message(one, to_epoch_s) for one in broker.retained.values()],
             "sessions": [_session(one, to_epoch_s) for one in broker.sessions.values() if one.expiry_s != 0]}
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(broker: Broker, path: Path) -> None:
    """Fill a fresh broker from the file; a missing file is an empty state. Session expiry starts anew."""
    if not path.exists():
        return
    to_loop_s = asyncio.get_running_loop().time() - time.time()
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise StateError(f"{path} has format {state['format']}, {FORMAT} expected; move it away to start empty")
        for raw in state["retained"]:
            message = _read_message(raw, to_loop_s)
            broker.retained[message.topic] = message
        for raw in state["sessions"]:
            _read_session(broker, raw, to_loop_s)
    except StateError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # no JSON, no UTF-8 and no base64 are the last
        raise StateError(f"{path} is no broker state ({type(error).__name__}: {error}); move it away to start "
                         "empty") from error


def _message(message: Publish, to_epoch_s: float) -> dict[str, Any]:
    return {"topic": message.topic, "payload": _text(message.payload), "qos": message.qos, "retain": message.retain,
            "client_id": message.client_id, "properties": _properties(message.properties),
            "expires_epoch_s": None if message.expires_at_s is None else message.expires_at_s + to_epoch_s}


def _read_message(raw: dict[str, Any], to_loop_s: float) -> Publish:
    expires_epoch_s = raw["expires_epoch_s"]
    return Publish(raw["topic"], base64.b64decode(raw["payload"]), raw["qos"], raw["retain"], raw["client_id"],
                   properties=_read_properties(raw["properties"]),
                   expires_at_s=None if expires_epoch_s is None else expires_epoch_s + to_loop_s)


def _properties(properties: Properties) -> dict[str, Any]:
    return {name: {"base64": _text(value)} if isinstance(value, bytes) else value for name, value in properties.items()}


def _read_properties(raw: dict[str, Any]) -> Properties:
    return {name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
            for name, value in raw.items()}


def _session(session: Session, to_epoch_s: float) -> dict[str, Any]:
    waiting = [*session.in_flight.values(), *(one for one in session.queue if one.qos)]
    return {"client_id": session.client_id, "version": session.version, "expiry_s": session.expiry_s,
            "subscriptions": [asdict(one) for one in session.subscriptions.values()],
            "deliveries": [{**_message(one.message, to_epoch_s), "retained": one.retain} for one in waiting]}


def _read_session(broker: Broker, raw: dict[str, Any], to_loop_s: float) -> None:
    session = Session(raw["client_id"], raw["version"])
    session.expiry_s = raw["expiry_s"]
    broker.sessions[session.client_id] = session
    for subscription in raw["subscriptions"]:
        broker.subscribe(session, Subscription(**subscription))
    for delivery in raw["deliveries"]:
        session.queue.append(Delivery(_read_message(delivery, to_loop_s), 1, delivery["retained"]))
    broker.release_session(session)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
