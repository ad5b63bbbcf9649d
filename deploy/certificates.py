"""A device's key and certificate: the key is made here and never leaves; the certificate comes from AWS IoT's API."""
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


def make_key_and_csr(directory: Path, thing: str) -> str:
    """Write `<thing>.key` (RSA-2048, mode 0600) into `directory`; returns the certificate signing request (PEM)."""
    directory.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = directory / f"{thing}.key"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                       serialization.NoEncryption()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, thing)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def fetch_certificate(iot: Any, certificate_id: str, directory: Path, thing: str) -> Path:
    """Write `<thing>.crt` from iot:DescribeCertificate (CloudFormation does not return the PEM)."""
    pem = iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]["certificatePem"]
    path = directory / f"{thing}.crt"
    path.write_text(pem)
    return path
