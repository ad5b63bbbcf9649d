"""The kinds of settings: how the text of an environment variable is read, and what was expected where that fails; for
the table in settings.py.

Each kind takes the text and raises ValueError or KeyError for what it cannot be.
"""
from collections.abc import Callable
from typing import Any

from contract import topics
from contract.errors import BadPayload
from edge_bridge import carbon_sources, detectors

MOST_KEEP_ALIVE_S = 65_535  # two bytes of MQTT's CONNECT


def text(text: str) -> str:
    """As it is."""
    return text


def path(text: str) -> str:
    """Of a file."""
    if not text:
        raise ValueError
    return text


def device(text: str) -> str:
    """A device's name: it becomes a topic level."""
    try:
        topics.check_device(text)
    except BadPayload as error:
        raise ValueError from error
    return text


def seconds(text: str) -> float:
    """Any number of them that a clock can wait for."""
    seconds = float(text)
    if not 0 < seconds < 10 ** 9:
        raise ValueError
    return seconds


def keep_alive(text: str) -> float:
    """Seconds, as many as MQTT can say."""
    keep_alive_s = seconds(text)
    if keep_alive_s > MOST_KEEP_ALIVE_S:
        raise ValueError
    return keep_alive_s


def size(text: str) -> int:
    """Bytes; K, M and G are powers of 1024."""
    powers = {"K": 1, "M": 2, "G": 3}
    size_bytes = int(text[:-1]) * 1024 ** powers[text[-1]] if text[-1:] in powers else int(text)
    if size_bytes < 1024 * 1024:
        raise ValueError
    return size_bytes


def days(text: str) -> float:
    """In seconds."""
    return seconds(text) * 86400


def hours(text: str) -> float:
    """In seconds."""
    return seconds(text) * 3600


def port(text: str) -> int:
    """A TCP port."""
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError
    return port


def port_or_off(text: str) -> int:
    """A TCP port, or 0 for none."""
    return 0 if text in ("", "0") else port(text)


def on_off(text: str) -> bool:
    """A switch."""
    return {"on": True, "off": False}[text.lower()]


def names(text: str) -> tuple[str, ...]:
    """Names with commas between; none for an empty text."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def detector(text: str) -> str:
    """A name in the registry, or module:class of what can be imported here."""
    if text not in detectors.REGISTRY:  # those are imported later, and only when something is scored
        try:
            detectors.factory(text)
        except (KeyError, ImportError, AttributeError) as error:
            raise ValueError from error
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """Makes a kind of its own."""
    def choice(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text
    EXPECTED[choice] = "one of " + ", ".join(choices)
    return choice


# {kind: what it wants, after "expected"}
EXPECTED: dict[Callable[[str], Any], str] = {
    text: "text", path: "the path of a file", seconds: "a number of seconds above 0",
    device: f"a device's name: 1 to {topics.MAX_DEVICE_BYTES} bytes without '/', '+', '#' or a control character",
    keep_alive: f"a number of seconds above 0, up to {MOST_KEEP_ALIVE_S}",
    size: "a number of bytes from 1M on, with K, M or G", days: "a number of days above 0",
    hours: "a number of hours above 0", carbon_sources.chosen: carbon_sources.EXPECTED,
    port: "a port from 1 to 65535", port_or_off: "a port from 1 to 65535, or empty", on_off: "on or off",
    names: "names with commas between",
    detector: "one of " + ", ".join(detectors.REGISTRY) + ", or module:class of one that can be imported"}
