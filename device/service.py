"""Writes the systemd unit that keeps publisher.py running on the Pi, and its environment file; starts nothing."""
import os
import pwd
import re
import sys
import zipfile

NAME = "edgecloud-publisher"
_LEFT_OUT = ("SECONDS", "COUNT")  # a service has no end

_UNIT = """\
[Unit]
Description=EdgeCloud publisher: sensor readings over MQTT
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User=%(user)s
WorkingDirectory=%(directory)s
EnvironmentFile=%(environment)s
ExecStart=%(command)s
Restart=always
RestartSec=5
TimeoutStopSec=20
SuccessExitStatus=3

[Install]
WantedBy=multi-user.target
"""


class ServiceError(Exception):
    """The unit cannot be written: what, and the next step."""


def _user():
    """Who runs the service: whoever called sudo, else the one who calls (entry of the password database)."""
    name = os.environ.get("SUDO_USER")
    try:
        return pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except KeyError:
        raise ServiceError("no such user: %s; run it as the user who shall run the service, with sudo"
                           % (name or os.getuid()))


def _program():
    """(working directory, command words) that start this very program again: the bundle, or the checked-out module."""
    program = os.path.abspath(sys.argv[0])
    python = sys.executable or "/usr/bin/python3"
    if zipfile.is_zipfile(program):
        return os.path.dirname(program), [python, program]
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__))), [python, "-m", "device.publisher"]


def _quoted(word):
    """A word of ExecStart."""
    if re.match(r"[A-Za-z0-9_./+:@-]+\Z", word):
        return word
    return '"%s"' % word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


def _assignment(name, value):
    """A line of an EnvironmentFile."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ServiceError("%s has a line break; expected one line" % name)
    for character in '\\"`$':
        value = value.replace(character, "\\" + character)
    return '%s="%s"\n' % (name, value)


def _environment(config, user):
    """Text of the environment file: what was given, and what must not change later (device id, spool)."""
    given = dict(config.given)
    given["DEVICE_ID"] = config.device_id
    if "SPOOL" not in given:
        given["SPOOL"] = os.path.join(user.pw_dir, ".edgecloud", os.path.basename(config.spool))
    for name in ("SPOOL", "RECORD"):
        if name in given:
            given[name] = os.path.abspath(given[name])
    if config.password:
        given["MQTT_PASSWORD"] = config.password
    return "".join(_assignment(name, given[name]) for name in sorted(given) if name not in _LEFT_OUT)


def _write_private(path, text):
    """Write a file that only its owner reads; a former one with other content stays as `<path>.old`."""
    if os.path.exists(path):
        with open(path) as old:
            if old.read() == text:
                return
        os.replace(path, path + ".old")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as new:
        new.write(text)


def install(config):
    """Write <unit-dir>/edgecloud-publisher.service and .env (mode 0600), print the next two commands; returns 0."""
    if not os.path.isdir(config.unit_dir):
        raise ServiceError("no directory %s; systemd keeps its units in /etc/systemd/system, on a machine that has it: "
                           "run this on the Pi, or give --unit-dir" % config.unit_dir)
    user = _user()
    directory, command = _program()
    unit = os.path.join(os.path.abspath(config.unit_dir), NAME + ".service")
    environment = os.path.join(os.path.abspath(config.unit_dir), NAME + ".env")
    unit_text = _UNIT % {"user": user.pw_name, "directory": directory.replace("%", "%%"),
                         "environment": environment.replace("%", "%%"),
                         "command": " ".join(_quoted(word) for word in command)}
    try:
        _write_private(environment, _environment(config, user))
        with open(unit, "w") as text:
            text.write(unit_text)
    except OSError as error:
        raise ServiceError("cannot write to %s: %s; run the same command with sudo" % (config.unit_dir, error))
    print("wrote %s and %s (settings; readable by root only)\nnext:\n  sudo systemctl daemon-reload\n"
          "  sudo systemctl enable --now %s" % (unit, environment, NAME))
    return 0
