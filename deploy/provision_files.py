"""The files of a device's identity in certs/: keys made here (they never leave), requests, certificates, bridge.env.

Every file is written beside its place and renamed, so that a bridge that looks at the directory never reads half of
one; key and certificate of a pair are renamed one right after the other.
"""
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import botocore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy import atomic_file, certificates, env_file
from deploy.certificates import ROOT_CA
from deploy.device_connection import Files
from deploy.faults import Fault

ROOT_CA_SHA256 = "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"
ENV_FILE = "bridge.env"
NEXT = "next"
_PEM_END = b"-----END CERTIFICATE-----"


class FileFault(Fault):
    """A file that cannot serve; says which, why, and the next step."""


@dataclass(frozen=True)
class Identity:
    """One key and its certificate: where they lie, or will."""

    thing: str
    key: Path
    certificate: Path

    @property
    def next(self) -> "Identity":
        """The one that a rotation prepares; in a folder below, where the bridge does not look."""
        folder = self.key.parent / NEXT
        return Identity(self.thing, folder / self.key.name, folder / self.certificate.name)

    def files(self, root_ca: Path) -> Files:
        """As a connection wants them."""
        return Files(root_ca, self.certificate, self.key)

    def make_key(self) -> bool:
        """Make an RSA-2048 key, mode 0600, unless it is there already; True when it was made."""
        if self.key.exists():
            return False
        certificates.make_key(self.key)
        return True

    def request(self) -> str:
        """The certificate request of the key, in PEM: the same each time."""
        return certificates.request(self._private_key(), self.thing)

    def _private_key(self) -> rsa.RSAPrivateKey:
        try:
            key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise FileFault(f"{self.key}: {error}; expected an RSA key in PEM without a password; move it away, and a "
                            "new one is made") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise FileFault(f"{self.key}: got {type(key).__name__}, expected an RSA key; move it away, and a new one "
                            "is made")
        return key

    def public_key(self) -> bytes | None:
        """The public half of the key, to compare; None when there is no key."""
        return _public(self._private_key().public_key()) if self.key.exists() else None

    def certificate_id(self) -> str | None:
        """AWS IoT's id of the certificate, its SHA-256; None without one. FileFault when it is not of this key."""
        if not self.certificate.exists():
            return None
        try:
            found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except ValueError as error:
            raise FileFault(f"{self.certificate}: {error}; expected a certificate in PEM") from None
        if self.public_key() != _public(found.public_key()):
            return None  # left from another key: it is fetched anew
        return found.fingerprint(hashes.SHA256()).hex()

    def write_certificate(self, pem: str) -> None:
        """Put the certificate beside its key. FileFault when it belongs to another key."""
        if _public(x509.load_pem_x509_certificate(pem.encode()).public_key()) != self.public_key():
            raise FileFault(f"the certificate that AWS IoT gave is not of the key {self.key}; nothing was written")
        atomic_file.write(self.certificate, pem.encode())

    def take_over(self, other: "Identity") -> None:
        """Put the other pair in this one's place; it is gone from its own."""
        other.key.replace(self.key)
        other.certificate.replace(self.certificate)
        other.discard()

    def discard(self) -> None:
        """Delete the pair (of a rotation) as far as it is there, and its folder unless something else is in it."""
        for path in (self.key, self.certificate):
            path.unlink(missing_ok=True)
        folder = self.key.parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def find(directory: Path, thing: str) -> Identity:
    """The identity in a directory: `<thing>.key` and `.crt`, else the only pair there is, whatever its name (AWS's
    console names them after the certificate)."""
    keys, certificates = sorted(directory.glob("*.key")), sorted(directory.glob("*.crt"))
    if len(keys) > 1 or len(certificates) > 1:
        names = ", ".join(path.name for path in [*keys, *certificates])
        raise FileFault(f"{directory} holds {names}; expected one key and one certificate, since the bridge takes the "
                        "only pair there is: move the others away")
    key = keys[0] if keys else directory / f"{thing}.key"
    return Identity(thing, key, certificates[0] if certificates else directory / f"{thing}.crt")


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key_of_request(pem: str) -> bytes | None:
    """The public key that a certificate request names; None for what is no request."""
    try:
        return _public(x509.load_pem_x509_csr(pem.encode()).public_key())
    except ValueError:
        return None


def amazon_root_ca(bundle: Path = Path(botocore.__file__).parent / "cacert.pem") -> bytes:
    """Amazon Root CA 1 in PEM, from the certificates that come with boto3, known by its fingerprint."""
    for part in bundle.read_bytes().split(_PEM_END):
        pem = b"-----BEGIN CERTIFICATE-----" + part.rpartition(b"-----BEGIN CERTIFICATE-----")[2] + _PEM_END + b"\n"
        if b"\n" in part.strip() and _fingerprint(pem) == ROOT_CA_SHA256:
            return pem
    raise FileFault(f"{bundle} does not hold Amazon Root CA 1; fetch it: curl -o certs/{ROOT_CA} "
                    f"https://www.amazontrust.com/repository/{ROOT_CA}")


def _fingerprint(pem: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(ssl.PEM_cert_to_DER_cert(pem.decode("ascii")))
    return digest.finalize().hex()


def write_environment(directory: Path, values: Mapping[str, str]) -> Path:
    """certs/bridge.env, whole; its path."""
    path = directory / ENV_FILE
    env_file.write(path, values, "Written by `make provision`; your own settings go into another file.")
    return path


def read_environment(directory: Path) -> dict[str, str]:
    """What certs/bridge.env says; nothing when there is none."""
    return env_file.read(directory / ENV_FILE)
