"""What a deployment can choose: CDK context (cdk.json, -c key=value, CDK_CONTEXT_JSON) in, checked Settings out."""
import difflib
import re
import tomllib
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from contract import incidents
from infra.errors import SynthesisFault

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_THING = "EdgeCloudAWS"
POSTED_SITE = "api"  # what POST /data stores is of this site (lambdas/api_data.py), which no bridge can be
_NAME = re.compile(r"(?!aws|ssm)[a-z][a-z0-9]{0,31}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]")
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
# Cognito sends nobody back over plain HTTP but to this machine.
_ORIGIN = re.compile(r"(https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?|http://localhost)(:[1-9][0-9]{0,4})?")
_ADDRESS = re.compile(r"[^@\s,]{1,64}@[a-zA-Z0-9.-]{1,190}")
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:iot:(?P<region>[a-z0-9-]+):[0-9]{12}:cert/[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One deployment. `version` is the product's, from pyproject.toml; `certificate_arn` only with `existing_thing`.

    sites: the site of each thing that does not name one of its own (a second bridge at the same site).
    """

    name: str
    region: str
    ephemeral: bool
    things: tuple[str, ...]
    sites: Mapping[str, str]
    existing_thing: str | None
    certificate_arn: str | None
    receipts: bool
    monitoring: str
    dashboard_origin: str | None
    alert_email: tuple[str, ...]
    budget_usd: float
    budget_email: tuple[str, ...]
    min_severity: str
    quiet_hours: str
    time_zone: str
    silent_minutes: int
    version: str
    readings_days: int
    minutes_days: int
    rollups_days: int
    archive_cold_days: int
    archive_days: int
    errors_days: int

    @property
    def title(self) -> str:
        """The name at the head of each stack's: EdgeCloud for edgecloud, else capitalised."""
        return "EdgeCloud" if self.name == "edgecloud" else self.name.capitalize()


class Setting(NamedTuple):
    """A row of the table below: its context key, its default as one would type it, and what it does."""

    key: str
    default: str
    sentence: str
    read: Callable[[str], Any]


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(expected)
        return text
    return read


def _one_of(choices: Mapping[str, bool]) -> Callable[[str], bool]:
    def read(text: str) -> bool:
        if text.lower() not in choices:
            raise ValueError(" or ".join(list(choices)[:2]))
        return choices[text.lower()]
    return read


def _things(text: str) -> dict[str, str]:
    """{thing: its site, the thing itself unless `thing@site` names another}."""
    parts = [part.strip().partition("@") for part in text.split(",")]
    if not all(_THING.fullmatch(thing) and (_THING.fullmatch(site) or not at) for thing, at, site in parts):
        raise ValueError("thing or thing@site, comma between, each name 1 to 128 of a-z A-Z 0-9 : _ -")
    ids = [logical_id(thing).lower() for thing, _, _ in parts]
    if len(set(ids)) < len(ids) or not all(ids):
        raise ValueError("thing names that differ in their letters and digits")
    return {thing: site or thing for thing, _, site in parts}


def _days(least: int, none: str = "") -> Callable[[str], int]:
    """Days from `least` to ten years; 0 where `none` says what that means."""
    def read(text: str) -> int:
        if not (re.fullmatch("[0-9]{1,4}", text) and (least <= int(text) <= 3660 or (none and int(text) == 0))):
            raise ValueError(f"{least} to 3660 days" + (f", or 0: {none}" if none else ""))
        return int(text)
    return read


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",")) if text else ()
    if not all(_ADDRESS.fullmatch(one) for one in found) or len({logical_id(one) for one in found}) < len(found):
        raise ValueError("e-mail addresses, comma between, that differ in their letters and digits")
    return found


def _dollars(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,2})?", text):
        raise ValueError("an amount in dollars such as 25 or 12.50")
    return float(text)


def _quiet_hours(text: str) -> str:
    if text and (not _HOURS.fullmatch(text) or text[:5] == text[6:]):
        raise ValueError("HH:MM-HH:MM, such as 22:00-06:30, or nothing")
    return text


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ValueError("a time zone such as Europe/Stockholm") from None
    return text


def _minutes(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 2 <= int(text) <= 1440:
        raise ValueError("2 to 1440 minutes")
    return int(text)


def _optional(read: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda text: read(text) if text else None


TABLE = (
    Setting("name", "edgecloud", "Name of the deployment, at the head of stack and rule names; two fit one account.",
            _matching(_NAME, "up to 32 lower-case letters and digits, a letter first, not beginning with aws or ssm")),
    Setting("region", "eu-north-1", "AWS region of every stack.", _matching(_REGION, "a region such as eu-north-1")),
    Setting("ephemeral", "false", "true: tables and archive go when the stack goes; for trials.",
            _one_of({"true": True, "false": False})),
    Setting("things", "",
            "Things, comma between; append new ones. Each is a site; a second bridge at a site is written thing@site. "
            f"Default: existing_thing, else {DEFAULT_THING}.",
            lambda text: _things(text) if text else {}),
    Setting("existing_thing", "", "One of these things that is there already: it is not created.",
            _optional(_matching(_THING, "1 to 128 of a-z A-Z 0-9 : _ -"))),
    Setting("certificate_arn", "", "Certificate of existing_thing: none is created, the policy is attached to it.",
            _optional(_matching(_CERTIFICATE, "arn:aws:iot:<region>:<account>:cert/<64 hex digits>"))),
    Setting("receipts", "on", "on: stored batches are receipted on edgecloud/receipts/<thing>.",
            _one_of({"on": True, "off": False, "true": True, "false": False})),
    Setting("monitoring", "basic", "full: every alarm, the dashboard, a log line per batch, traces; 7 dollars a month "
            "more, and traces by use.", _matching(re.compile("basic|full"), "basic or full")),
    Setting("dashboard_origin", "", "Where the dashboard's page is served, for CORS and sign-in, if not by the "
            "deployment's own distribution: a name of yours before it, or http://localhost:8080.",
            _optional(_matching(_ORIGIN, "https://HOST[:PORT], or http://localhost[:PORT], no slash at the end"))),
    Setting("alert_email", "", "Who is told of incidents and silent bridges: e-mail addresses, comma between; AWS asks "
            "each first.", _addresses),
    Setting("budget_usd", "0", "Dollars a month that the account may cost: e-mail at 80 %, at 100 %, and when the "
            "forecast is above. 0: no budget. Its stack is in us-east-1.", _dollars),
    Setting("budget_email", "", "Who is told of the budget: up to ten addresses, comma between. Default: alert_email.",
            _addresses),
    Setting("min_severity", "info", "Incidents that are graver or as grave are told: info, warning or critical.",
            _matching(re.compile("|".join(incidents.SEVERITIES)), "info, warning or critical")),
    Setting("quiet_hours", "", "Such as 22:00-06:30: what comes then is told in one notice after it; critical at once.",
            _quiet_hours),
    Setting("time_zone", "UTC", "Of quiet_hours and of the times in notices, such as Europe/Stockholm.", _zone),
    Setting("silent_minutes", "10", "A bridge not heard of for so many minutes is silent (it tells twice a minute).",
            _minutes),
    Setting("readings_days", "30", "For how many days readings, events and anomalies stay in the tables.", _days(1)),
    # Late data change minutes of up to 7 days before: their hour is made anew of minutes that must all be there.
    Setting("minutes_days", "90", "For how many days roll-ups by minute stay.", _days(9)),
    Setting("rollups_days", "1830", "For how many days roll-ups by hour and by day stay.", _days(9)),
    Setting("archive_cold_days", "90", "Archive objects move to Glacier Instant Retrieval after so many days.",
            _days(1, "never")),
    Setting("archive_days", "0", "Archive objects are deleted after so many days.", _days(1, "never")),
    Setting("errors_days", "90", "Error objects are deleted after so many days; make redrive applies them before.",
            _days(14)),
)
KEYS = tuple(setting.key for setting in TABLE)


def logical_id(text: str) -> str:
    """Letters and digits with a capital first, as CloudFormation's logical ids want it: "site-b" -> "SiteB"."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[^a-zA-Z0-9]+", text))


def product_version(root: Path = ROOT) -> str:
    """The version number in pyproject.toml."""
    with open(root / "pyproject.toml", "rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def read(context: Mapping[str, Any], version: str) -> Settings:
    """Check a context's keys and values; SynthesisFault reports all faults at once."""
    values: dict[str, Any] = {}
    faults = [_unknown(key) for key in context if _could_be_ours(key)]
    for setting in TABLE:
        given = context.get(setting.key, setting.default)
        text = str(given).lower() if isinstance(given, bool) else str(given)
        try:
            values[setting.key] = setting.read(text)
        except ValueError as expected:
            faults.append(f"{setting.key}: got {text!r}, expected {expected}")
    faults += [] if faults else _contradictions(values)
    if faults:
        raise SynthesisFault("context: " + "; ".join(faults) + "; the keys are explained in infra/settings.py")
    sites = values["things"] or {values["existing_thing"] or DEFAULT_THING: ""}
    values["things"] = tuple(sites)
    values["sites"] = {thing: site for thing, site in sites.items() if site not in ("", thing)}
    return Settings(**values, version=version)


def _could_be_ours(key: str) -> bool:
    """An unknown key that CDK itself does not use: its own have a colon, a slash, or (a few) hyphens."""
    if key in KEYS or ":" in key or "/" in key:
        return False
    return "-" not in key or bool(_near(key))


def _near(key: str) -> list[str]:
    return difflib.get_close_matches(key.replace("-", "_"), KEYS, n=1)


def _unknown(key: str) -> str:
    near = _near(key)
    return f"{key}: unknown key, expected one of {', '.join(KEYS)}" + (f" (did you mean {near[0]}?)" if near else "")


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    thing, arn = values["existing_thing"], values["certificate_arn"]
    faults = []
    if arn and not thing:
        faults.append("certificate_arn: needs existing_thing, the thing to which this certificate is attached")
    if arn and _CERTIFICATE.fullmatch(arn).group("region") != values["region"]:  # type: ignore[union-attr]
        faults.append(f"certificate_arn: {arn} is not in region {values['region']}")
    told = values["budget_email"] or values["alert_email"]
    if values["budget_usd"] and not 0 < len(told) <= 10:  # AWS takes no more for one notification
        faults.append(f"budget_usd: is told to {len(told)} addresses, expected 1 to 10; set budget_email")
    if values["rollups_days"] < values["minutes_days"]:
        faults.append(f"rollups_days: {values['rollups_days']} is less than minutes_days ({values['minutes_days']}); "
                      "hours must outlive the minutes they are made of")
    if 0 < values["archive_days"] <= values["archive_cold_days"]:
        faults.append(f"archive_days: {values['archive_days']} is not more than archive_cold_days "
                      f"({values['archive_cold_days']}); take archive_cold_days=0 with so short a life")
    if POSTED_SITE in {thing, *values["things"], *values["things"].values()}:
        faults.append(f"things: {POSTED_SITE} is the site of what is posted to the HTTP API, whose answers would leave "
                      "out a bridge's events of that site; expected another name")
    if thing and values["things"] and thing not in values["things"]:
        faults.append(f"existing_thing: {thing} is not among things ({', '.join(values['things'])})")
    return faults
