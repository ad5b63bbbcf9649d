"""The doctor's look at the way to AWS IoT, as far as it goes without a client id: identity, name, TLS, clock.

A TLS handshake without CONNECT is no MQTT client yet, so that it disturbs no running bridge.
"""
import calendar
import contextlib
import email.utils
import http.client
import ipaddress
import os
import re
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from edge_bridge import certificates
from edge_bridge.doctor_case import OK, Case, Finding, addresses, fault, not_applicable, ok, unresolved

CONNECT_S = 4.0
MOST_SKEW_S = 60.0
ALPN_PORT, ALPN = 443, "x-amzn-mqtt-ca"  # where AWS IoT tells MQTT from HTTPS by it
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_…
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # the last: RSA beside EC
_DESCRIBE = "aws iot describe-endpoint --endpoint-type iot:Data-ATS prints the right one: set IOT_ENDPOINT to it"
_AWS_KINDS = (  # pattern of a host in AWS: what it is; "" for the one that is wanted
    (r"(?!data-)[a-z0-9]+-ats\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", ""),
    (r"vpce-[a-z0-9-]+\.iot\.data\.[a-z0-9-]+\.vpce\.amazonaws\.com(\.cn)?", ""),
    (r".*\.credentials\.iot\..*", "the credential provider's endpoint"),
    (r".*\.jobs\.iot\..*", "the jobs endpoint"),
    (r"(data|data-ats)\.iot\..*", "the region's endpoint, not your account's"),
    (r"iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", "the control plane"),
    (r"[a-z0-9]+\.iot\..*", "the former data endpoint (iot:Data), whose certificate Amazon's root did not sign"),
    (r".*\.execute-api\..*", "an API's address"),
    (r".*\.amazonaws\.com(\.cn)?", "no IoT data endpoint"),
)


def identity(case: Case) -> Iterator[Finding]:
    """key and certificate, expiry."""
    chosen = case.settings
    certificate = certificates.path_of(chosen.certificate, chosen.certs, "*.crt")
    key = certificates.path_of(chosen.private_key, chosen.certs, "*.key")
    yield _match(certificate, key, chosen.certs)
    try:
        end_s = certificates.not_after_s(certificate.read_bytes())
    except (OSError, ValueError, IndexError):
        yield not_applicable("expiry", f"no certificate can be read from {certificate}")
        return
    days = (end_s - case.now_s()) / certificates.DAY_S
    end = time.strftime("%Y-%m-%d", time.gmtime(end_s))
    step = "make provision ROTATE=1, or put a new certificate and key in their place; no restart is needed"
    if days <= 0:
        yield fault("expiry", f"the certificate ended on {end}", step)
    elif days < certificates.WARN_DAYS:
        yield fault("expiry", f"the certificate ends on {end}, in {days:.0f} days", step)
    else:
        yield ok("expiry", f"the certificate ends on {end}, in {days:,.0f} days")


def _match(certificate: Path, key: Path, directory: str) -> Finding:
    check = "key and certificate"
    for path in (certificate, key):
        found = sorted(each.name for each in Path(directory).glob("*" + path.suffix)) if "*" in path.name else []
        if found:
            return fault(check, f"{directory} has {len(found)} of {path.name}: {', '.join(found)}",
                         "leave one there, or name it by CERTIFICATE and PRIVATE_KEY")
        try:
            path.read_bytes()
        except OSError as error:
            return fault(check, f"{path}: {error.strerror}", "put it there (make provision), mount the directory and "
                         "set CERTS, and let the bridge's user read it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        if any(word in str(error) for word in _MISMATCH):
            return fault(check, f"{key} is not the key of {certificate}", "put the key there that was made with it; if "
                         "it is lost, a new certificate: make provision ROTATE=1")
        return fault(check, f"{certificate} and {key} make no identity: {error}",
                     "expected PEM files, the key without a password")
    is_open = os.name == "posix" and stat.S_IMODE(key.stat().st_mode) & stat.S_IROTH
    return ok(check, f"{certificate.name} and {key.name} belong together"
              + (f"; anyone on this machine can read the key: chmod 600 {key}" if is_open else ""))


def way(case: Case) -> Iterator[Finding]:
    """endpoint, DNS, TCP, CA, SNI."""
    host, port = case.settings.iot_endpoint, case.settings.iot_port
    lacks = case.lacks("IOT_ENDPOINT", "IOT_PORT")
    if lacks:
        for check in ("endpoint", "DNS", "TCP", "CA", "SNI"):
            yield not_applicable(check, lacks)
        return
    yield endpoint_kind(host)
    try:
        found = addresses(host, port)
    except OSError as error:
        yield fault("DNS", *unresolved(host, error))
        return
    yield ok("DNS", f"{host}: {', '.join(found[:3])}" + (" …" if len(found) > 3 else ""))
    try:
        socket.create_connection((host, port), case.left_s(CONNECT_S)).close()
    except OSError as error:
        yield fault("TCP", f"{host}:{port}: {error.strerror or error}",
                    f"let this machine reach port {port} outside (firewall, proxy), or check IOT_PORT")
        return
    yield ok("TCP", f"{host}:{port} takes a connection")
    signed = _ca(case)
    yield signed
    yield _sni(case) if signed.state == OK else not_applicable("SNI", "needs a certificate that the CA signed")


def endpoint_kind(host: str) -> Finding:
    """Is it an account's ATS data endpoint? Any host outside of AWS is a local cloud's or a custom domain."""
    if re.search(r"[:/\s]", host):
        return fault("endpoint", f"IOT_ENDPOINT is {host!r}", f"a host name alone, no scheme, no port; {_DESCRIBE}")
    if not re.search(r"\.amazonaws\.com(\.cn)?$", host):
        return ok("endpoint", f"{host}: not in AWS, so a local cloud or a custom domain")
    kind = next(kind for pattern, kind in _AWS_KINDS if re.fullmatch(pattern, host))
    return fault("endpoint", f"{host} is {kind}", _DESCRIBE) if kind else ok("endpoint", f"{host}: ATS data endpoint")


def handshake(case: Case, context: ssl.SSLContext) -> str:
    """One TLS handshake with the device's identity; the protocol's name. Raises OSError (ssl.SSLError is one)."""
    host, port = case.settings.iot_endpoint, case.settings.iot_port
    with socket.create_connection((host, port), case.left_s(CONNECT_S)) as plain, \
            context.wrap_socket(plain, server_hostname=host) as secured:
        return secured.version() or "TLS"


def tls_context(case: Case) -> ssl.SSLContext:
    """Trusts the root alone, and has the device's identity. Raises OSError, ValueError."""
    context = _trusting_root(case)
    add_identity(case, context)
    return context


def _trusting_root(case: Case) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=case.settings.root_ca)
    if case.settings.iot_port == ALPN_PORT:
        context.set_alpn_protocols([ALPN])
    return context


def add_identity(case: Case, context: ssl.SSLContext) -> None:
    """Load certificate and key. Raises OSError, ValueError."""
    chosen = case.settings
    context.load_cert_chain(certificates.path_of(chosen.certificate, chosen.certs, "*.crt"),
                            certificates.path_of(chosen.private_key, chosen.certs, "*.key"), password="")


def _rooted_context(case: Case) -> ssl.SSLContext:
    """As tls_context; but an identity that cannot be loaded is another check's matter. Raises OSError."""
    context = _trusting_root(case)
    with contextlib.suppress(OSError, ValueError):
        add_identity(case, context)
    return context


def _ca(case: Case) -> Finding:
    root = case.settings.root_ca
    step = f"curl -o {root} https://www.amazontrust.com/repository/AmazonRootCA1.pem (a local cloud has its own)"
    try:
        context = _rooted_context(case)
        context.check_hostname = False  # the name is the next check's
        protocol = handshake(case, context)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
            return fault("CA", f"the server's certificate does not fit this machine's time: {error.verify_message}",
                         "put the clock right; if it is right, the certificate is not: start the local cloud anew")
        return fault("CA", f"{root} did not sign the server's certificate: {error.verify_message}", step)
    except ssl.SSLError as error:
        return fault("CA", f"no TLS: {error.reason or error}", f"is {root} a PEM file, and is there TLS at IOT_PORT?")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        return fault("CA", f"{root}: {getattr(error, 'strerror', None) or error}",
                     step if missing else "see the broker's side: it ended the connection during the handshake")
    return ok("CA", f"{Path(root).name} signed the server's certificate, {protocol}")


def _sni(case: Case) -> Finding:
    host = case.settings.iot_endpoint
    try:
        ipaddress.ip_address(host)
        return not_applicable("SNI", f"{host} is an address: no server name goes with it (AWS IoT needs one)")
    except ValueError:
        pass  # a name, as it should be
    try:
        handshake(case, _rooted_context(case))
    except ssl.SSLCertVerificationError as error:
        if "ostname mismatch" in error.verify_message or "not valid for" in error.verify_message:
            return fault("SNI", f"the server showed no certificate for {host}: {error.verify_message}",
                         "set IOT_ENDPOINT to the name itself, not to an alias; a proxy on the way must pass TLS on")
        return fault("SNI", f"asked for {host}, the server showed another one: {error.verify_message}", "see CA")
    except (OSError, ValueError) as error:
        return fault("SNI", f"asked for {host}, the server broke off: {error}", "see the broker's side")
    return ok("SNI", f"asked for {host}, the server showed its certificate for it")


def clock(case: Case) -> Iterator[Finding]:
    """clock: against the Date of the endpoint's HTTPS port; a cloud on this machine has the same clock."""
    host = case.settings.iot_endpoint
    lacks = case.lacks("IOT_ENDPOINT")
    if lacks:
        yield not_applicable("clock", lacks)
        return
    try:
        ahead_s = _ahead_s(case)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield _clock_without_date(host, error)
        return
    if abs(ahead_s) > MOST_SKEW_S:
        side = "ahead of" if ahead_s > 0 else "behind"
        yield fault("clock", f"{abs(ahead_s):,.0f} s {side} {host}'s", "let the machine keep its time by NTP "
                    "(timedatectl set-ntp true; sntp -sS time.apple.com); certificates and minutes depend on it")
    else:
        yield ok("clock", f"within {abs(ahead_s):.0f} s of {host}'s")


def _clock_without_date(host: str, error: Exception) -> Finding:
    try:
        own = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses(host, 0))
    except OSError:
        own = False
    if own:
        return ok("clock", f"{host} is this machine: one clock for both")
    return not_applicable("clock", f"no HTTPS answer from {host} to compare with ({error}); compare by hand: date -u")


def _ahead_s(case: Case) -> float:
    """Seconds by which our clock is ahead of the Date that the endpoint answers with."""
    # A wrong clock makes every certificate invalid: so none is asked for. Only a time is read, nothing is sent.
    context = ssl._create_unverified_context()
    with contextlib.suppress(OSError, ValueError):
        add_identity(case, context)
    connection = http.client.HTTPSConnection(case.settings.iot_endpoint, case.https_port,
                                             timeout=case.left_s(CONNECT_S), context=context)
    try:
        connection.request("GET", "/")
        asked_s = case.now_s()
        date = connection.getresponse().headers["Date"]
        mean_s = (asked_s + case.now_s()) / 2
    finally:
        connection.close()
    told = email.utils.parsedate(date or "")
    if told is None:
        raise ValueError("its answer has no Date")
    return mean_s - (calendar.timegm(told) + 0.5)  # whole seconds, cut off
