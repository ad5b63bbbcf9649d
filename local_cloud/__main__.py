"""`python -m local_cloud DIR`: runs an assembly until SIGINT or SIGTERM, and says where everything is.

Exit 0 after a clean stop, 2 when the template or an option is refused, 1 for any other fault.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from local_cloud import options
from local_cloud.cloud import LocalCloud
from local_cloud.errors import DeployError, Unsupported
from local_cloud.options import Options


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader finds the whole of it or nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _announce(endpoints: dict[str, Any]) -> None:
    where = endpoints["endpoints"]
    print(f"local cloud ready: {endpoints['resources']['applied']} resources applied, 0 refused")
    print(f"  device gateway  mqtts://localhost:{where['gateway']['port']}  (CA {endpoints['ca_file']})")
    for url in where["apis"].values():
        print(f"  HTTP API        {url}")
    for url in where["pages"].values():
        print(f"  page            {url}")
    print(f"  AWS endpoint    AWS_ENDPOINT_URL={where['aws']}")
    print(f"  control         {where['control']}")
    for stack, values in endpoints["outputs"].items():
        for name, value in values.items():
            print(f"  {stack}.{name} = {value}")
    if endpoints["not_emulated"]:
        listed = ", ".join(name.removeprefix("AWS::") for name in endpoints["not_emulated"])
        print(f"  accepted, not emulated (local_cloud/COVERAGE.md): {listed}")
    sys.stdout.flush()


async def run(asked: Options, ready_file: Path | None) -> None:
    """Start, announce, wait for SIGINT or SIGTERM, stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    cloud = LocalCloud(asked)
    starting, stopping = asyncio.create_task(cloud.start()), asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await asyncio.gather(starting, return_exceptions=stop.is_set())
        if not stop.is_set():
            _announce(cloud.endpoints())
            if ready_file is not None:
                write_atomically(ready_file, cloud.endpoints())
            await stopping
    finally:
        stopping.cancel()
        await cloud.close()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("uvicorn", "botocore", "boto3", "urllib3", "asyncio", "s3transfer"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main() -> int:
    """Parse the command line and run."""
    try:
        command = options.read()
        _log_to_stderr(command.verbose)
        asyncio.run(run(command.options, command.ready_file))
    except (Unsupported, DeployError) as refusal:
        kind = "not emulated" if isinstance(refusal, Unsupported) else "cannot deploy"
        print(f"local cloud: {kind}: {refusal}", file=sys.stderr)
        return 2
    except OSError as fault:
        print(f"local cloud: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
