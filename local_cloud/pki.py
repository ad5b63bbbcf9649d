"""The local certificate authority: its root is what devices trust as AmazonRootCA1.pem, its keys stay in a directory.

Made at the first start and kept: `ca.pem`, `ca.key` (0600), `server.pem`, `server.key`. The gateway serves with the
server certificate; AWS::IoT::Certificate resources are signed from their CSR here.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
SERVER_DAYS = 397  # macOS refuses server certificates that live longer
SERVER_RENEWAL_DAYS = 30
DEVICE_NOT_AFTER = datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # as AWS IoT issues them
CLOCK_SKEW = datetime.timedelta(minutes=5)
SERVER_NAMES = ("localhost", "local-cloud", "server", "host.docker.internal")
SERVER_ADDRESS = "127.0.0.1"
RSA_BITS = 2048
CSR_MAX_CHARACTERS = 4096


class CsrError(ValueError):
    """A certificate signing request that AWS IoT would refuse."""


def certificate_id(certificate_pem: str) -> str:
    """The id AWS IoT gives a certificate: the SHA-256 of its DER in hex."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


class LocalCa:
    """The CA in `directory`, made there when it is empty. `certificate_path` is the file that devices trust.

    more_names: host names and IP addresses that the server's certificate bears besides the usual ones.
    """

    def __init__(self, directory: str | Path, more_names: Sequence[str] = ()) -> None:
        self.directory = Path(directory)
        self._server_names = _server_names(more_names)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificate_path = self.directory / "ca.pem"
        self._key_path = self.directory / "ca.key"
        if self.certificate_path.exists() != self._key_path.exists():
            raise FileNotFoundError(f"{self.directory} has only one of ca.pem and ca.key; delete it to make a new CA, "
                                    "devices then need new certificates")
        if not self._key_path.exists():
            self._make()
        self._key = _load_key(self._key_path)
        self._certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())

    def _make(self) -> None:
        key = _new_key()
        name = _name("Local Cloud Root CA")
        identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key.public_key(), _now() + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True), critical=True)
            .add_extension(identity, critical=False)
            .sign(key, hashes.SHA256()))
        _write_key(self._key_path, key)
        self.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))

    def server_certificate(self) -> tuple[Path, Path]:
        """Paths of the server's certificate and key; a new pair when there is none, it ends within 30 days, or a name
        is not on it."""
        certificate_path, key_path = self.directory / "server.pem", self.directory / "server.key"
        if not (certificate_path.exists() and key_path.exists() and self._serves(certificate_path)):
            key = _new_key()
            _write_key(key_path, key)
            certificate_path.write_bytes(self._sign_server(key.public_key()).public_bytes(Encoding.PEM))
        return certificate_path, key_path

    def _serves(self, certificate_path: Path) -> bool:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, InvalidSignature):
            return False  # left by an earlier CA
        if not set(self._server_names) <= set(_names_on(certificate)):
            return False
        return certificate.not_valid_after_utc - _now() > datetime.timedelta(days=SERVER_RENEWAL_DAYS)

    def _sign_server(self, public_key: rsa.RSAPublicKey) -> x509.Certificate:
        not_after = _now() - CLOCK_SKEW + datetime.timedelta(days=SERVER_DAYS)
        return (
            _builder(_name("localhost"), self._certificate.subject, public_key, not_after)
            .add_extension(x509.SubjectAlternativeName(self._server_names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._authority(), critical=False)
            .sign(self._key, hashes.SHA256()))

    def sign_csr(self, csr_pem: str) -> str:
        """A new client certificate (PEM) for the request's key; CsrError where AWS IoT would refuse it.

        The same request signed twice gives two certificates: the serial is random.
        """
        request = _read_csr(csr_pem)
        public_key = request.public_key()
        _check_key(public_key)
        certificate = (
            _builder(request.subject, self._certificate.subject, public_key, DEVICE_NOT_AFTER)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._authority(), critical=False)
            .sign(self._key, hashes.SHA256()))
        return certificate.public_bytes(Encoding.PEM).decode()

    def _authority(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def _server_names(more_names: Sequence[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate has them; ValueError for one that cannot be on a certificate."""
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((*SERVER_NAMES, SERVER_ADDRESS, *more_names)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _names_on(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _read_csr(csr_pem: str) -> x509.CertificateSigningRequest:
    if len(csr_pem) > CSR_MAX_CHARACTERS:
        raise CsrError(f"CSR has {len(csr_pem)} characters; at most {CSR_MAX_CHARACTERS}")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
    except ValueError as error:
        raise CsrError(f"CSR is no PEM certificate request: {error}") from error
    if not request.is_signature_valid:
        raise CsrError("CSR's signature does not fit its key")
    return request


def _check_key(key: object) -> None:
    """AWS IoT signs RSA keys of 2048 bits and up and the NIST curves P-256, P-384 and P-521."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        return
    size = getattr(key, "key_size", "?")
    raise CsrError(f"CSR's key is {type(key).__name__} of {size} bits; "
                   "RSA-2048 or larger, P-256, P-384 or P-521 expected")


def _builder(subject: x509.Name, issuer: x509.Name, public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | object,
             not_after: datetime.datetime) -> x509.CertificateBuilder:
    # A random serial: macOS's Keychain finds a certificate by issuer and serial, and would hand out an earlier one.
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(public_key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - CLOCK_SKEW).not_valid_after(not_after))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name),
                      x509.NameAttribute(NameOID.ORGANIZATION_NAME, "EdgeCloud local cloud")])


def _key_usage(**uses: bool) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: uses.get(name, False) for name in every})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def _load_key(path: Path) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} holds a {type(key).__name__}; an RSA key expected: delete the directory for a new CA")
    return key


def _write_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    # TraditionalOpenSSL: the form AWS IoT hands out, which every SDK reads.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
