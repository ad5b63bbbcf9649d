"""Where intensities come from: the table of providers, each a question and a reader of its answer; asked by carbon.py
for CARBON and CARBON_CLOUD, written `provider` or `provider:zone`."""
import os
import ssl
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple
from urllib.parse import quote

from contract import carbon
from contract.errors import BadPayload
from edge_bridge import carbon_curve
from edge_bridge.carbon_curve import BadCurve, Curve, grams, seconds
from edge_bridge.carbon_fetch import base_fault, get_json

OFF, SCHEDULE, FIXED, FILE = "off", "schedule", "fixed", "file"
MOST_FILE_BYTES = 1024 * 1024
_ZONE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Provider(NamedTuple):
    """base: its address; path: of the question, from a zone; read: its answer, decoded; zone: what one is, by example;
    key: the header that carries CARBON_KEY, "" if it asks for none."""

    base: str
    path: Callable[[str], str]
    read: Callable[[Any], Curve]
    zone: str
    key: str = ""


def _energy_charts(answer: Any) -> Curve:
    """Measured where it is, else forecast; both may be null."""
    found = {seconds(at_s): grams(measured if measured is not None else forecast)
             for at_s, measured, forecast in zip_longest(answer["unix_seconds"], answer["co2eq"],
                                                         answer.get("co2eq_forecast") or ())
             if measured is not None or forecast is not None}
    return _some(found)


def _uk(answer: Any) -> Curve:
    """National: data is a list of the day's periods; regional: of one region that has the present one in `data`."""
    periods = answer["data"]
    if isinstance(periods, list) and periods and "data" in periods[0]:
        periods = periods[0]["data"]
    found = {}
    for period in periods:
        said = period["intensity"]
        value = said["actual"] if said.get("actual") is not None else said["forecast"]
        if value is not None:
            found[seconds(period["from"])] = grams(value)
    return _some(found)


def _electricity_maps(answer: Any) -> Curve:
    value = answer["carbonIntensity"]
    return _some({} if value is None else {seconds(answer["datetime"]): grams(value)})


def _some(found: dict[float, float]) -> Curve:
    if not found:
        raise BadCurve("the answer has no intensity, expected at least one")
    return Curve(found)


PROVIDERS = {
    "energy-charts": Provider("https://api.energy-charts.info", lambda zone: f"/co2eq?country={quote(zone)}",
                              _energy_charts, "de"),
    "uk": Provider("https://api.carbonintensity.org.uk",
                   lambda zone: f"/regional/regionid/{quote(zone)}" if zone else "/intensity/date", _uk, "13, or none"),
    "electricity-maps": Provider("https://api.electricitymaps.com",
                                 lambda zone: f"/v3/carbon-intensity/latest?zone={quote(zone)}", _electricity_maps,
                                 "DE", "auth-token"),
}


class Source(NamedTuple):
    """One of them, chosen. name: as it was written; curve: what always holds, None for what is to be asked: a provider
    about a zone, or the file at a path."""

    name: str
    curve: Curve | None = None
    provider: Provider | None = None
    zone: str = ""
    path: str = ""

    @property
    def needs_key(self) -> bool:
        """Does it answer only who has a key?"""
        return bool(self.provider and self.provider.key)

    @property
    def asks(self) -> bool:
        """Is it to be asked again and again?"""
        return bool(self.provider or self.path)


def chosen(text: str) -> Source | None:
    """The source of this name; None: off. Raises ValueError that says what is expected."""
    kind, _, zone = text.partition(":")
    if kind == OFF and not zone:
        return None
    if kind == SCHEDULE and not zone:
        return Source(text, curve=carbon_curve.built_in())
    if kind == FIXED:
        return Source(text, curve=carbon_curve.fixed(grams(zone)))
    if kind == FILE and zone:
        return Source(text, path=zone)
    provider = PROVIDERS.get(kind)
    if provider is None or not set(zone) <= _ZONE or (not zone and kind != "uk"):
        raise ValueError(f"{text!r}; expected {EXPECTED}")
    return Source(text, provider=provider, zone=zone)


EXPECTED = "off, schedule, fixed:gCO2, file:path, " + ", ".join(
    f"{name}:zone (such as {provider.zone})" for name, provider in PROVIDERS.items())


def ask(source: Source, base: str = "", key: str = "", trust: ssl.SSLContext | None = None) -> Curve:
    """What a source that is to be asked says now. base: in place of the provider's. Raises OSError, BadCurve."""
    if source.path:
        return _read_file(source.path)
    assert source.provider is not None, source.name
    headers: Mapping[str, str] = {source.provider.key: key} if source.provider.key else {}
    answer = get_json((base.rstrip("/") or source.provider.base) + source.provider.path(source.zone), headers, trust)
    try:
        return source.provider.read(answer)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadCurve(f"the answer has another shape than expected: {error!r}"[:200]) from error


def _read_file(path: str) -> Curve:
    if os.path.getsize(path) > MOST_FILE_BYTES:
        raise BadCurve(f"{path} is over {MOST_FILE_BYTES} bytes")
    try:
        with open(path, encoding="utf-8") as file:
            return carbon_curve.from_text(file.read(MOST_FILE_BYTES))
    except UnicodeDecodeError as error:
        raise BadCurve(f"{path} is no text: {error}") from error


def faults(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the settings of this part beside each other. values: as settings.py has read them."""
    found = []
    try:
        carbon.policy(values["carbon_policy"])
    except BadPayload as error:
        found.append(f"CARBON_POLICY: {error.detail}")
    sources = [source for source in (values["carbon"], values["carbon_cloud"]) if source]
    if any(source.needs_key for source in sources) and not (values["carbon_key"] or values["carbon_key_file"]):
        found.append("CARBON_KEY and CARBON_KEY_FILE are both empty; electricity-maps answers only who has a key")
    if values["carbon_url"] and base_fault(values["carbon_url"]):
        found.append("CARBON_URL is " + base_fault(values["carbon_url"]))
    return found


def key(value: str, path: str) -> str:
    """The key, from the environment or a file. Raises OSError, which does not tell it."""
    if not value and path:
        with open(path, encoding="utf-8", errors="replace") as file:
            value = file.read(4096).strip()
    if any(not "!" <= c <= "~" for c in value):
        raise OSError("CARBON_KEY, or what CARBON_KEY_FILE has, is no key; expected printable ASCII without spaces")
    return value
