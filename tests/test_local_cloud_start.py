"""The local cloud where others reach it: --host and --name, and deploy/local_cloud_start.py, which its image runs."""
import asyncio
import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from deploy import local_cloud_start
from local_cloud.cloud import LocalCloud
from local_cloud.options import Options
from local_cloud.pki import LocalCa
from tests.local_cloud_rig import FOREIGN, ROOT, http
from tests.sockets_rig import binds
from tests.waiting import eventually

DEADLINE_S = 120.0


def names_on(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_further_names_are_on_the_gateways_certificate_and_make_it_anew(tmp_path: Path) -> None:
    first, _ = LocalCa(tmp_path).server_certificate()
    before = first.read_bytes()
    assert names_on(first) == {"localhost", "local-cloud", "server", "host.docker.internal", "127.0.0.1"}
    more = LocalCa(tmp_path, ("server.edgecloud.svc.cluster.local", "192.168.1.5", "localhost"))
    path, _ = more.server_certificate()
    assert names_on(path) >= {"server.edgecloud.svc.cluster.local", "192.168.1.5", "localhost"}
    assert path.read_bytes() != before
    again = path.read_bytes()
    assert LocalCa(tmp_path, ("192.168.1.5",)).server_certificate()[0].read_bytes() == again  # it bears that name


def test_gateway_and_api_listen_where_they_are_told_and_nothing_else_does(tmp_path: Path) -> None:
    async def look(bound: list[tuple[Any, Any]]) -> dict[str, str]:
        cloud = LocalCloud(Options(FOREIGN, state=tmp_path, gateway_port=0, api_port=0, web_port=0, host="0.0.0.0",
                                   names=("pi-box.lan",)))
        await cloud.start()
        try:
            ready = cloud.endpoints()
            assert ready["endpoints"]["api"].startswith("http://127.0.0.1:")
            assert (await asyncio.to_thread(http, "GET", ready["endpoints"]["api"] + "/no-such-path"))[0] == 404
            names = {port: name for name, port in ready["ports"].items()}
            addresses = [one.getsockname() for one, _ in bound if one.fileno() >= 0]
            return {names[port]: host for host, port in addresses if port in names}
        finally:
            await cloud.close()

    with binds() as bound:
        found = asyncio.run(look(bound))
    assert found == {"gateway": "0.0.0.0", "api": "0.0.0.0", "aws": "127.0.0.1", "control": "127.0.0.1"}
    assert "pi-box.lan" in names_on(tmp_path / "pki" / "server.pem")
    assert Options(FOREIGN).host == "127.0.0.1"


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The foreign assembly, with the names that our device stack gives its parameter and its output."""
    made = tmp_path_factory.mktemp("assembly") / "cdk.out"
    shutil.copytree(FOREIGN, made)
    path = made / "GreenhouseBeds.template.json"
    template = json.loads(path.read_text().replace('"Request"', '"CsrA"'))
    template["Outputs"]["CsrACertificateId"] = template["Outputs"].pop("CertificateId")
    path.write_text(json.dumps(template))
    return made


@contextmanager
def started(assembly: Path, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The image's entry point as a process, until it says that the certificates are there."""
    ready, log = directory / "ready.json", directory / "log"
    command = [sys.executable, "-m", "deploy.local_cloud_start", "--assembly", str(assembly), "--certs",
               str(directory / "certs"), "--state", str(directory / "state"), "--thing", "soil-probe", "--host",
               "127.0.0.1", "--ready-file", str(ready), "--", "--gateway-port", "0", "--api-port", "0"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        eventually(lambda: health(directory) == 0 or process.poll() is not None, DEADLINE_S)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def health(directory: Path) -> int:
    return local_cloud_start.health(directory / "ready.json", directory / "certs", "soil-probe")


def test_the_entry_point_leaves_a_working_identity_for_the_bridge(assembly: Path, tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    assert health(tmp_path) == 1
    with started(assembly, tmp_path) as process:
        files = {path.name for path in certs.iterdir()}
        assert files == {"AmazonRootCA1.pem", "soil-probe.crt", "soil-probe.key"}
        if os.name == "posix":
            assert stat.S_IMODE((certs / "soil-probe.key").stat().st_mode) == 0o600
        context = ssl.create_default_context(cafile=str(certs / "AmazonRootCA1.pem"))
        context.load_cert_chain(certs / "soil-probe.crt", certs / "soil-probe.key")
        port = json.loads((tmp_path / "ready.json").read_text())["ports"]["gateway"]
        with ssl.create_connection(("127.0.0.1", port), timeout=30) as plain, \
                context.wrap_socket(plain, server_hostname="local-cloud") as secure:
            assert secure.version() in ("TLSv1.2", "TLSv1.3")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert health(tmp_path) == 1


def test_the_key_is_made_once_and_again_when_it_is_gone(tmp_path: Path) -> None:
    certs, state = tmp_path / "certs", tmp_path / "state"
    request = local_cloud_start.request_file(certs, state, "pi").read_text()
    key = (certs / "pi.key").read_bytes()
    assert local_cloud_start.request_file(certs, state, "pi").read_text() == request
    assert (certs / "pi.key").read_bytes() == key
    (certs / "pi.key").unlink()
    assert local_cloud_start.request_file(certs, state, "pi").read_text() != request


def test_the_health_check_notices_a_gateway_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "soil-probe.crt").write_text("x")
    (tmp_path / "ready.json").write_text('{"ports": {"gateway": 1, "api": null}}')
    assert health(tmp_path) == 1
    assert "gateway" in capsys.readouterr().out


def test_an_assembly_without_a_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has the parameter CsrA"):
        local_cloud_start.request_stack(tmp_path)


def test_it_ends_with_the_cloud_when_that_refuses(assembly: Path, tmp_path: Path) -> None:
    path = tmp_path / "cdk.out"
    shutil.copytree(assembly, path)
    template = json.loads((path / "GreenhouseBeds.template.json").read_text())
    template["Resources"]["Odd"] = {"Type": "AWS::EC2::Instance", "Properties": {}}
    (path / "GreenhouseBeds.template.json").write_text(json.dumps(template))
    done = subprocess.run([sys.executable, "-m", "deploy.local_cloud_start", "--assembly", str(path), "--certs",
                           str(tmp_path / "certs"), "--state", str(tmp_path / "state"), "--host", "127.0.0.1",
                           "--ready-file", str(tmp_path / "ready.json"), "--", "--gateway-port", "0"],
                          cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 2 and "AWS::EC2::Instance" in done.stderr
