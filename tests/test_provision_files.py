"""make provision without a cloud: its files, the root certificate, and what its command line says."""
import hashlib
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import atomic_file, provision, provision_files
from deploy.processes import ROOT
from deploy.provision_files import FileFault, find


def test_a_half_written_file_is_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "T.crt"
    atomic_file.write(path, b"one")
    (tmp_path / ".T.crt.partial").write_bytes(b"left by a crash")
    atomic_file.write(path, b"two", private=True)
    assert path.read_bytes() == b"two" and [one.name for one in tmp_path.iterdir()] == ["T.crt"]


@pytest.mark.parametrize(("content", "said"), [
    (b"rubbish", "expected an RSA key in PEM"), (None, "Identity")])
def test_a_key_that_cannot_serve_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    identity = find(tmp_path, "T")
    if content is None:
        assert identity.make_key() and not identity.make_key() and said in repr(identity)
        return
    identity.key.write_bytes(content)
    with pytest.raises(FileFault, match=said):
        identity.request()


def test_a_folder_in_which_macos_left_a_file_does_not_stop_a_rotation(tmp_path: Path) -> None:
    identity = find(tmp_path, "T")
    for one in (identity, identity.next):
        one.make_key()
        one.certificate.write_bytes(b"x")
    (tmp_path / "next" / ".DS_Store").touch()
    new = identity.next.key.read_bytes()
    identity.take_over(identity.next)
    assert identity.key.read_bytes() == new and not identity.next.key.exists()


def test_two_pairs_in_one_directory_are_refused(tmp_path: Path) -> None:
    for name in ("a.key", "b.key", "a.crt"):
        (tmp_path / name).touch()
    with pytest.raises(FileFault, match=r"holds a\.key, b\.key, a\.crt; expected one key and one certificate"):
        find(tmp_path, "a")


def test_the_root_certificate_comes_with_boto3(tmp_path: Path) -> None:
    pem = provision_files.amazon_root_ca()
    assert x509_id(_written(tmp_path / "ca.pem", pem)) == provision_files.ROOT_CA_SHA256
    bundle = _written(tmp_path / "bundle.pem", b"# nothing\n")
    with pytest.raises(FileFault, match=r"fetch it: curl -o certs/AmazonRootCA1\.pem"):
        provision_files.amazon_root_ca(bundle)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def x509_id(path: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest()


def run(*words: str, module: str = "deploy.provision", **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull,
                                       "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **environment})


@pytest.mark.parametrize(("words", "said"), [
    (("--target", "moon"), "provision: TARGET is 'moon'; expected local or aws\n"),
    (("--target", "local", "--cloud", "/nowhere/cloud.json"), "provision: no local cloud is running (looked at "
     "/nowhere/cloud.json); start one in another terminal: make cloud\n"),
    ((), "provision: no AWS credentials found; run `aws configure`")])
def test_what_stands_in_the_way_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert done.returncode == 1 and done.stderr.startswith(said) and done.stderr.count("\n") == 1 and not done.stdout


def test_without_a_terminal_the_answer_is_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert not provision.asks(adopt=False)("Adopt?") and provision.asks(adopt=True)("Adopt?")
    said = capsys.readouterr().out.splitlines()
    assert said == ["Adopt? no (there is no terminal to ask; ADOPT=1 says yes)", "Adopt? yes (ADOPT=1)"]


def test_make_cloud_says_why_it_cannot_run(tmp_path: Path) -> None:
    done = run("--ready-file", str(tmp_path / "c.json"), "--context", "oops", module="deploy.cloud")
    assert done.returncode == 1 and "CONTEXT: got 'oops'" in done.stderr
