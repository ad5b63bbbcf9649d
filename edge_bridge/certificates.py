"""The TLS identity: certificate, key and root from the disk, checked before they go to iot_connection.py; watched, so
that a new one is taken up without a restart, and its end is announced."""
import base64
import datetime
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from edge_bridge import alarms
from edge_bridge.alarms import Alarms
from edge_bridge.settings import Settings

log = logging.getLogger(__name__)

CHECK_S = 10.0
WARN_DAYS = 30.0
DAY_S = 24 * 3600
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0


class IdentityError(ValueError):
    """The files make no TLS identity: says which, and what to do."""


class Identity(NamedTuple):
    """What a connection needs, in PEM; not_after_s: when the certificate ends, in seconds since 1970."""

    certificate: bytes
    private_key: bytes
    root_ca: bytes
    not_after_s: float


def read(settings: Settings) -> Identity:
    """The identity that lies on disk now. Raises IdentityError for one that cannot work."""
    paths = [path_of(settings.certificate, settings.certs, "*.crt"),
             path_of(settings.private_key, settings.certs, "*.key"), Path(settings.root_ca)]
    named = ", ".join(map(str, paths))
    try:
        first = [path.read_bytes() for path in paths]
        ssl.create_default_context(cafile=str(paths[2])).load_cert_chain(paths[0], paths[1], password="")
        if first != [path.read_bytes() for path in paths]:
            raise IdentityError(f"{named} are being written just now; they are read again")
        return Identity(first[0], first[1], first[2], not_after_s(first[0]))
    except IdentityError:
        raise
    except (OSError, ValueError, LookupError) as error:  # ssl.SSLError is an OSError
        raise IdentityError(f"no TLS identity from {named}: {error}; expected PEM files without a password, the key "
                            "belonging to the certificate") from error


def path_of(known: str, directory: str, pattern: str) -> Path:
    """The file as set or found at the start; when it is gone, the only other one like it in CERTS."""
    found = sorted(Path(directory).glob(pattern))
    return found[0] if not Path(known).is_file() and len(found) == 1 else Path(known)


def not_after_s(pem: bytes) -> float:
    """When the first certificate in a PEM file ends. Raises ValueError or LookupError for what is no certificate."""
    _, _, rest = pem.partition(b"-----BEGIN CERTIFICATE-----")
    der = base64.b64decode(rest.partition(b"-----END")[0], validate=False)
    (_, certificate), = _elements(der)
    (_, signed), *_ = _elements(certificate)
    fields = [content for tag, content in _elements(signed) if tag != _VERSION]
    validity = fields[3]  # after serial number, algorithm and issuer
    (_, _), (tag, end) = _elements(validity)
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
    return datetime.datetime.strptime(end.decode("ascii"), form).replace(tzinfo=datetime.UTC).timestamp()


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each DER element in a row (X.690, 8.1)."""
    at = 0
    while at < len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length > 127:
            start += length & 127
            length = int.from_bytes(der[at + 2:start], "big")
        yield tag, der[start:start + length]
        at = start + length


class Watch:
    """Looks at the files every CHECK_S seconds; changed: called with a new identity that can work."""

    def __init__(self, settings: Settings, identity: Identity, raise_to: Alarms, changed: Callable[[Identity], None],
                 now_s: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._alarms, self._changed = settings, raise_to, changed
        self._now_s, self._clock = now_s, clock
        self._identity = identity
        self._due_s = clock()

    def left_s(self) -> float:
        """Seconds until the certificate ends, below 0 when it has ended."""
        return self._identity.not_after_s - self._now_s()

    def look(self) -> None:
        """Take up what has changed, and tell how long the certificate lasts; does nothing until it is time."""
        if self._clock() < self._due_s:
            return
        self._due_s = self._clock() + CHECK_S
        try:
            found = read(self._settings)
        except IdentityError as error:
            self._alarms.raised(alarms.CERTIFICATE_UNUSABLE, f"{error}; the one in use is kept")
        else:
            self._alarms.cleared(alarms.CERTIFICATE_UNUSABLE)
            if found != self._identity:
                log.info("certificate: another one lies on disk, %.0f days left; it is taken up",
                         (found.not_after_s - self._now_s()) / DAY_S)
                self._identity = found
                self._changed(found)
        self._announce_end()

    def _announce_end(self) -> None:
        end = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._identity.not_after_s))
        step = f"put a new certificate and its key in place of {self._settings.certificate}; no restart is needed"
        for alarm, is_up, text in (
                (alarms.CERTIFICATE_EXPIRED, self.left_s() <= 0, f"the certificate ended on {end}; readings are kept "
                 f"on disk; {step}"),
                (alarms.CERTIFICATE_EXPIRES, 0 < self.left_s() < WARN_DAYS * DAY_S,
                 f"the certificate ends on {end}; {step}")):
            if is_up:
                self._alarms.raised(alarm, text)
            else:
                self._alarms.cleared(alarm)
