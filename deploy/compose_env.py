"""`make compose-env`: deploy/.env, mode 0600, which compose.yaml reads; passwords are made here, never shipped.

What stands in the file already is kept, a person's own lines too. `--target aws` takes the endpoint and the rules'
names from certs/bridge.env, which `make provision` writes; `--logins` asks the LAN's clients for names and passwords.
"""
import argparse
import base64
import hashlib
import secrets
import sys
from pathlib import Path

from deploy import env_file
from deploy.faults import Fault
from deploy.processes import ROOT
from infra.settings import product_version

FROM_BRIDGE_ENV = ("THING", "IOT_ENDPOINT", "IOT_PORT", "RULE_PREFIX", "RULE_READINGS", "RULE_EVENTS", "RECEIPTS")
ITERATIONS = 101  # Mosquitto's own choice; the passwords are random, 128 bits
USERS = {"bridge": ("MQTT_USERNAME", "MQTT_PASSWORD"), "pi": ("PI_USERNAME", "PI_PASSWORD")}
ACL = """# Written by `make compose-env LOGINS=1`: the bridge reads and acknowledges, the Pis publish and read that.
user bridge
topic readwrite sensor/#

user pi
topic write sensor/data
topic write sensor/data/#
topic read sensor/ack/#
"""


class EnvFault(Fault):
    """What is missing, and the next step."""


def basics() -> dict[str, str]:
    """What every site needs."""
    return {"GRAFANA_ADMIN_PASSWORD": secrets.token_urlsafe(24), "EDGECLOUD_VERSION": product_version()}


def for_aws(certs: Path) -> dict[str, str]:
    """Where AWS is and whose certificate to show. Raises EnvFault before `make provision`."""
    found = env_file.read(certs / "bridge.env")
    if not found.get("IOT_ENDPOINT"):
        raise EnvFault(f"{certs / 'bridge.env'} names no IOT_ENDPOINT; run: make provision")
    chosen = {name: found[name] for name in FROM_BRIDGE_ENV if name in found}
    if sys.platform.startswith("linux"):  # Docker Desktop lets any user read; here the key is its owner's alone
        owner = certs.stat()
        chosen["BRIDGE_USER"] = f"{owner.st_uid}:{owner.st_gid}"
    return {**chosen, "CERTS_FROM": str(certs.resolve())}


def hashed(password: str) -> str:
    """As mosquitto_passwd writes it: $7$, PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def logins(directory: Path, known: dict[str, str]) -> dict[str, str]:
    """Names and passwords for the LAN: as hashes for Mosquitto in `directory`, in the clear for the env file."""
    made = {}
    for user, (name_of, password_of) in USERS.items():
        made[name_of], made[password_of] = user, known.get(password_of) or secrets.token_urlsafe(16)
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{user}:{hashed(made[password_of])}\n" for user, (_, password_of) in USERS.items()]
    (directory / "passwd").write_text("".join(lines), encoding="utf-8")  # the container's user reads it: no 0600
    (directory / "acl").write_text(ACL, encoding="utf-8")
    return {**made, "MOSQUITTO_CONF": "./mosquitto-logins.conf", "MOSQUITTO_LOGINS": str(directory.resolve())}


def compose(known: dict[str, str], target: str, certs: Path, with_logins: Path | None) -> dict[str, str]:
    """The whole file: what is known is kept, but what this call asks for anew."""
    chosen = {**basics(), **known}
    if target:
        for name in (*FROM_BRIDGE_ENV, "CERTS_FROM", "BRIDGE_USER"):
            chosen.pop(name, None)
    if target == "aws":
        chosen |= for_aws(certs)
    if with_logins:
        chosen |= logins(with_logins, known)
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Write the file and say what comes next; 1 with one line when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "deploy" / ".env")
    parser.add_argument("--target", choices=("", "local", "aws"), default="", help="default: as the file says")
    parser.add_argument("--certs", type=Path, default=ROOT / "certs")
    parser.add_argument("--logins", action="store_true", help="names and passwords for the LAN's clients")
    options = parser.parse_args(arguments)
    try:
        chosen = compose(env_file.read(options.file), options.target, options.certs,
                         options.certs / "lan" if options.logins else None)
    except EnvFault as fault:
        print(f"compose-env: {fault}", file=sys.stderr)
        return 1
    env_file.write(options.file, chosen,
                   "Read by compose.yaml; made by `make compose-env`, which keeps your own lines. Holds passwords.")
    profile = "" if chosen.get("IOT_ENDPOINT") else "--profile local "
    print(f"{options.file}: {len(chosen)} settings, readable by you alone; Grafana's user is admin, its password "
          "GRAFANA_ADMIN_PASSWORD there")
    print(f"next: docker compose -f deploy/compose.yaml {profile}up --build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
