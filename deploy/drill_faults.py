"""What `make drill` does to a running demo: each fault is a context that lasts as long as the fault."""
import datetime
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from contract import routes
from deploy.drill_demo import RunningDemo
from deploy.processes import Part

# The bridge as it is; two seconds after its start no file of its may grow (RLIMIT_FSIZE), as on a disk that is full.
_ON_A_FULL_DISK = """
import resource, runpy, sys, threading
full = threading.Timer(2, resource.setrlimit, (resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY)))
full.daemon = True
full.start()
sys.argv = ["edge_bridge"]
runpy.run_module("edge_bridge", run_name="__main__", alter_sys=True)
"""
THROTTLED_BYTES_PER_S = 2000


class Fault(NamedTuple):
    """A row of FAULTS: its name on the command line, what happens, for how long, what stands for it."""

    name: str
    sentence: str
    seconds: float
    begin: Callable[[RunningDemo], AbstractContextManager[object]]


@contextmanager
def cut(demo: RunningDemo) -> Iterator[None]:
    """Every connection is dropped and new ones are refused."""
    demo.switch(gateway={"cut": {}})
    try:
        yield
    finally:
        demo.switch(gateway={"restore": {}})


@contextmanager
def throttle(demo: RunningDemo) -> Iterator[None]:
    """The link carries a fraction of what is made."""
    demo.switch(gateway={"throttle": {"bytes_per_s": THROTTLED_BYTES_PER_S}})
    try:
        yield
    finally:
        demo.switch(gateway={"throttle": {"bytes_per_s": None}})


@contextmanager
def rule(demo: RunningDemo) -> Iterator[None]:
    """AWS accepts readings and does nothing with them: no receipt comes."""
    name = routes.rule_name(demo.told["name"], "readings")
    demo.switch(rules={name: False})
    try:
        yield
    finally:
        demo.switch(rules={name: True})


def kill(demo: RunningDemo) -> AbstractContextManager[object]:
    """SIGKILL, and it stays away for the fault's time."""
    return demo.held("bridge")


def broker(demo: RunningDemo) -> AbstractContextManager[object]:
    """The LAN broker is away; publishers keep what they make."""
    return demo.held("LAN broker")


@contextmanager
def disk(demo: RunningDemo) -> Iterator[None]:
    """A bridge whose files may not grow stands in: it commits nothing and acknowledges nothing."""
    with demo.held("bridge"):
        # Not into a file: that may not grow either.
        part = Part("bridge on a full disk", [sys.executable, "-c", _ON_A_FULL_DISK], Path(os.devnull),
                    demo.environment()).start()
        try:
            yield
        finally:
            part.stop(30)


@contextmanager
def certificate(demo: RunningDemo) -> Iterator[None]:
    """The bridge's certificate ran out a minute ago."""
    expired = expire(demo.directory)
    with demo.held("bridge"), demo.bridge(CERTIFICATE=str(expired)):
        yield


def expire(directory: Path) -> Path:
    """The bridge's certificate with its end a minute ago, signed by the demo's CA; the path of the copy."""
    [current] = (directory / "certs").glob("*.crt")
    old = x509.load_pem_x509_certificate(current.read_bytes())
    ca_key = serialization.load_pem_private_key((directory / "cloud" / "pki" / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, rsa.RSAPrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer)
            .public_key(old.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(now - datetime.timedelta(minutes=1)))
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    path = directory / "expired.crt"
    path.write_bytes(made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


FAULTS = (
    Fault("cut", "the cloud cannot be reached", 10, cut),
    Fault("kill", "the bridge is killed and stays away", 5, kill),
    Fault("broker", "the LAN broker is killed and stays away", 8, broker),
    Fault("disk", "the bridge's disk is full", 12, disk),
    Fault("certificate", "the bridge's certificate has expired", 10, certificate),
    Fault("throttle", f"the link carries {THROTTLED_BYTES_PER_S} bytes/s", 15, throttle),
    Fault("rule", "the readings' IoT rule is disabled", 10, rule),
)
