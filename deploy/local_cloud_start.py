"""The local cloud in a container: a key and its request for the device go in; its certificate lies in the shared volume
when the cloud is up, for the bridge. `--health` is the container's health check.

The key is made once and kept; the certificate is made anew at each start, since the cloud keeps its data in memory.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deploy.processes import listening

# boto3 and cryptography are imported where they are used: the health check, every few seconds, needs neither.

READY = Path("/tmp/local-cloud.json")
POLL_S = 0.1


def arguments() -> argparse.Namespace:
    """The command line; what stands after `--` goes to the local cloud as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assembly", type=Path, default=Path("cdk.out"))
    parser.add_argument("--certs", type=Path, default=Path(os.environ.get("CERTS", "/certs")))
    parser.add_argument("--state", type=Path, default=Path("/state"))
    parser.add_argument("--thing", default=os.environ.get("THING", "EdgeCloudAWS"))
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--ready-file", type=Path, default=READY)
    parser.add_argument("--health", action="store_true", help="exit 0 when gateway and API answer")
    parser.add_argument("further", nargs="*", help="further options of python -m local_cloud, after --")
    return parser.parse_args()


def request_stack(assembly: Path) -> str:
    """Name of the stack that takes the device's certificate request."""
    for path in sorted(assembly.glob("*.template.json")):
        if "CsrA" in json.loads(path.read_text()).get("Parameters", {}):
            return path.name.removesuffix(".template.json")
    raise SystemExit(f"local cloud: no template in {assembly} has the parameter CsrA; synthesize it anew (make synth)")


def request_file(certs: Path, state: Path, thing: str) -> Path:
    """The device's certificate request, for the key that lies in `certs`; both are made when one is missing."""
    path = state / f"{thing}.csr"
    if not (path.exists() and (certs / f"{thing}.key").exists()):
        from deploy import certificates
        state.mkdir(parents=True, exist_ok=True)
        path.write_text(certificates.make_key_and_csr(certs, thing))
    return path


def hand_over(ready: dict[str, Any], stack: str, certs: Path, thing: str) -> None:
    """Put the root and the device's certificate beside its key."""
    import boto3

    from deploy import certificates
    shutil.copyfile(ready["ca_file"], certs / certificates.ROOT_CA)
    iot = boto3.client("iot", endpoint_url=ready["endpoints"]["aws"], region_name=ready["region"],
                       aws_access_key_id="local", aws_secret_access_key="local")
    certificates.fetch_certificate(iot, ready["outputs"][stack]["CsrACertificateId"], certs, thing)


def health(ready_file: Path, certs: Path, thing: str) -> int:
    """0 when the cloud is up, the device has its certificate, and gateway and API take connections."""
    if not ready_file.exists() or not (certs / f"{thing}.crt").exists():
        print("starting")
        return 1
    ports = json.loads(ready_file.read_text())["ports"]
    silent = [name for name in ("gateway", "api") if ports[name] and not listening(ports[name])]
    print(f"nothing answers on: {', '.join(silent)}" if silent else "ok")
    return 1 if silent else 0


def main() -> int:
    """Run until SIGTERM or SIGINT; the local cloud's own exit code."""
    options = arguments()
    if options.health:
        return health(options.ready_file, options.certs, options.thing)
    stack = request_stack(options.assembly)
    request = request_file(options.certs, options.state, options.thing)
    (options.certs / f"{options.thing}.crt").unlink(missing_ok=True)  # of an earlier start: the cloud forgot it
    options.ready_file.unlink(missing_ok=True)  # of one that was killed: it names what is no more
    process = subprocess.Popen(
        [sys.executable, "-m", "local_cloud", str(options.assembly), "--host", options.host, "--state",
         str(options.state), "--parameter", f"{stack}:CsrA=@{request}", "--ready-file", str(options.ready_file),
         *options.further], stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: process.send_signal(received))
    try:
        while process.poll() is None and not options.ready_file.exists():
            time.sleep(POLL_S)
        if process.poll() is None:
            hand_over(json.loads(options.ready_file.read_text()), stack, options.certs, options.thing)
            print(f"certificates of {options.thing}: {options.certs}", flush=True)
        return process.wait()
    finally:
        process.terminate()  # nothing, once it has ended


if __name__ == "__main__":
    sys.exit(main())
