"""The local CA: what macOS, AWS's SDK and the gateway ask of its certificates."""

import datetime
import hashlib
import os
import re
import stat
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local_cloud import pki
from local_cloud.pki import CsrError, LocalCa, certificate_id
from tests.gateway_rig import make_csr


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalCa:
    return LocalCa(tmp_path_factory.mktemp("pki"))


def load(path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_root_is_a_ca_kept_in_its_directory(ca: LocalCa) -> None:
    root = load(ca.certificate_path)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca
    key = root.public_key()
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048
    again = LocalCa(ca.directory)
    assert load(again.certificate_path) == root
    if os.name == "posix":
        assert stat.S_IMODE((ca.directory / "ca.key").stat().st_mode) == 0o600


def test_the_server_certificate_is_one_that_macos_takes(ca: LocalCa) -> None:
    certificate_path, key_path = ca.server_certificate()
    certificate = load(certificate_path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "local-cloud", "server", "host.docker.internal"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= datetime.timedelta(days=397)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048
    certificate.verify_directly_issued_by(load(ca.certificate_path))
    assert ca.server_certificate() == (certificate_path, key_path)
    assert load(certificate_path) == certificate  # kept, not made anew
    if os.name == "posix":
        assert stat.S_IMODE(key_path.stat().st_mode) == 0o600


def test_a_server_certificate_of_another_ca_or_near_its_end_is_replaced(tmp_path, monkeypatch) -> None:
    ca = LocalCa(tmp_path / "one")
    first = load(ca.server_certificate()[0])
    other = LocalCa(tmp_path / "two")
    foreign_path, foreign_key = other.server_certificate()
    (ca.directory / "server.pem").write_bytes(foreign_path.read_bytes())
    (ca.directory / "server.key").write_bytes(foreign_key.read_bytes())
    second = load(ca.server_certificate()[0])
    second.verify_directly_issued_by(load(ca.certificate_path))
    assert first.serial_number != second.serial_number
    monkeypatch.setattr(pki, "SERVER_RENEWAL_DAYS", pki.SERVER_DAYS + 1)  # as if it ended soon
    assert load(ca.server_certificate()[0]).serial_number != second.serial_number


@pytest.mark.parametrize("key", [
    rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())],
    ids=["RSA-2048", "P-256"])
def test_a_csr_becomes_a_client_certificate_for_its_key(ca: LocalCa, key) -> None:
    csr = make_csr(key, "EdgeCloudAWS")
    certificate = x509.load_pem_x509_certificate(ca.sign_csr(csr).encode())
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "EdgeCloudAWS"
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(load(ca.certificate_path))
    again = x509.load_pem_x509_certificate(ca.sign_csr(csr).encode())
    assert again.serial_number != certificate.serial_number  # macOS's Keychain would mix them up


def test_the_id_is_the_sha_256_of_the_der(ca: LocalCa) -> None:
    pem = ca.sign_csr(make_csr(ec.generate_private_key(ec.SECP256R1())))
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    assert certificate_id(pem) == hashlib.sha256(der).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", certificate_id(pem))


def bad_csrs() -> dict[str, str]:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    good = make_csr(ec.generate_private_key(ec.SECP256R1()))
    tampered = x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    odd = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(
        ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    flipped = bytearray(tampered)
    flipped[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(flipped)).public_bytes(Encoding.PEM).decode()
    return {"1024 bits": make_csr(small), "no PEM certificate request": "nonsense", "4097 characters": "x" * 4097,
            "ECPublicKey": odd, "signature": broken}


@pytest.mark.parametrize(("says", "csr"), bad_csrs().items(), ids=list(bad_csrs()))
def test_a_bad_csr_is_refused_with_the_reason(ca: LocalCa, says: str, csr: str) -> None:
    with pytest.raises(CsrError, match=says if says != "ECPublicKey" else "EllipticCurvePublicKey|ECPublicKey"):
        ca.sign_csr(csr)


def test_half_a_ca_is_not_replaced_in_silence(tmp_path) -> None:
    LocalCa(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(FileNotFoundError, match=r"ca\.pem and ca\.key"):
        LocalCa(tmp_path)


@pytest.mark.needs("openssl")
def test_openssl_agrees(ca: LocalCa, tmp_path) -> None:
    device = tmp_path / "device.pem"
    device.write_text(ca.sign_csr(make_csr(ec.generate_private_key(ec.SECP256R1()))))
    for path, purpose in ((ca.server_certificate()[0], "sslserver"), (device, "sslclient")):
        result = subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile",
                                 str(ca.certificate_path), str(path)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
