"""A device's key and certificate: the key is made here and never leaves; the certificate comes from AWS IoT's API."""
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from deploy import atomic_file

ROOT_CA = "AmazonRootCA1.pem"  # the file that devices trust, beside key and certificate


def make_key(path: Path) -> rsa.RSAPrivateKey:
    """Write a new RSA-2048 key, in PEM, mode 0600."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                            serialization.NoEncryption())
    atomic_file.write(path, pem, private=True)
    return key


def request(key: rsa.RSAPrivateKey, thing: str) -> str:
    """The certificate signing request of a key, in PEM: the same each time."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, thing)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def make_key_and_csr(directory: Path, thing: str) -> str:
    """Write `<thing>.key` into `directory`; returns its certificate signing request (PEM)."""
    return request(make_key(directory / f"{thing}.key"), thing)


def fetch_certificate(iot: Any, certificate_id: str, directory: Path, thing: str) -> Path:
    """Write `<thing>.crt` from iot:DescribeCertificate (CloudFormation does not return the PEM)."""
    pem = iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]["certificatePem"]
    path = directory / f"{thing}.crt"
    atomic_file.write(path, pem.encode())
    return path
