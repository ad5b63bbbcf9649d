"""What a deployment can choose: CDK context (cdk.json, -c key=value, CDK_CONTEXT_JSON) in, checked Settings out."""
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import SynthesisFault

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_THING = "EdgeCloudAWS"
_NAME = re.compile(r"(?!aws|ssm)[a-z][a-z0-9]{0,31}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]")
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:iot:(?P<region>[a-z0-9-]+):[0-9]{12}:cert/[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One deployment. `version` is the product's, from pyproject.toml; `certificate_arn` only with `existing_thing`."""

    name: str
    region: str
    ephemeral: bool
    things: tuple[str, ...]
    existing_thing: str | None
    certificate_arn: str | None
    receipts: bool
    version: str

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


def _things(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(_THING.fullmatch(name) for name in names):
        raise ValueError("thing names, comma between, each 1 to 128 of a-z A-Z 0-9 : _ -")
    ids = [logical_id(name).lower() for name in names]
    if len(set(ids)) < len(ids) or not all(ids):
        raise ValueError("thing names that differ in their letters and digits")
    return names


def _optional(read: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda text: read(text) if text else None


TABLE = (
    Setting("name", "edgecloud", "Name of the deployment, at the head of stack and rule names; two fit one account.",
            _matching(_NAME, "up to 32 lower-case letters and digits, a letter first, not beginning with aws or ssm")),
    Setting("region", "eu-north-1", "AWS region of every stack.", _matching(_REGION, "a region such as eu-north-1")),
    Setting("ephemeral", "false", "true: tables and archive go when the stack goes; for trials.",
            _one_of({"true": True, "false": False})),
    Setting("things", "",
            f"Things (sites), comma between; append new ones. Default: existing_thing, else {DEFAULT_THING}.",
            lambda text: _things(text) if text else ()),
    Setting("existing_thing", "", "One of these things that is there already: it is not created.",
            _optional(_matching(_THING, "1 to 128 of a-z A-Z 0-9 : _ -"))),
    Setting("certificate_arn", "", "Certificate of existing_thing: none is created, the policy is attached to it.",
            _optional(_matching(_CERTIFICATE, "arn:aws:iot:<region>:<account>:cert/<64 hex digits>"))),
    Setting("receipts", "on", "on: stored batches are receipted on edgecloud/receipts/<thing>.",
            _one_of({"on": True, "off": False, "true": True, "false": False})),
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
    values["things"] = values["things"] or (values["existing_thing"] or DEFAULT_THING,)
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
    if thing and values["things"] and thing not in values["things"]:
        faults.append(f"existing_thing: {thing} is not among things ({', '.join(values['things'])})")
    return faults
