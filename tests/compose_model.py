"""compose.yaml as Docker Compose reads it: variables put in, then checked by compose-go, Compose's own reader."""
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deploy" / "compose.yaml"
READER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"  # holds the schema; fetched and built by Go, once
DEADLINE_S = 280
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?])((?:[^{}]|\{[^}]*\})*))?\})")


class Missing(Exception):
    """A variable that must be set is not; carries the file's own message."""


def interpolated(text: str, environment: dict[str, str]) -> str:
    """The text with ${NAME}, ${NAME:-default}, ${NAME:?message} and $$ replaced as the Compose specification says."""
    def put(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        value = environment.get(found[1], "")
        if value or not found[2]:
            return value
        if found[2].endswith("?"):
            raise Missing(found[3])
        return found[3]
    return _VARIABLE.sub(put, text)


def model(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The services, volumes and so on for these variables; with Grafana's password unless given."""
    given = environment or {}
    made = dict(yaml.safe_load(interpolated(COMPOSE.read_text(), {"GRAFANA_ADMIN_PASSWORD": "made", **given})))
    for service in made["services"].values():
        # A name without a value is handed on if it is set. Compose puts variables in after parsing: they stay text.
        handed_on = {name: given.get(name) if value is None else str(value)
                     for name, value in service.get("environment", {}).items()}
        service["environment"] = {name: value for name, value in handed_on.items() if value is not None}
    return made


def read_by_compose(path: Path, *options: str, environment: dict[str, str] | None = None) -> str:
    """What compose-go makes of a file, in YAML. Raises CalledProcessError (its words in stderr) for an invalid one."""
    done = subprocess.run(["go", "run", READER, *options, str(path)], cwd=path.parent, text=True, check=True,
                          capture_output=True, timeout=DEADLINE_S,
                          env={**os.environ, "GOFLAGS": "-mod=mod", **(environment or {})})
    return done.stdout
