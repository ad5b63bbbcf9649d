"""The AWS API behind ours: requests from the AWS endpoint go on to moto's process, or to given endpoints."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from local_cloud import http_wire
from local_cloud.errors import DeployError

START_DEADLINE_S = 60
CONNECTIONS = 32
HOP_HEADERS = {"connection", "keep-alive", "expect", "transfer-encoding", "content-length"}


class MotoProcess:
    """moto in a process of its own, which ends when our end of its standard input closes."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start it and return its URL; DeployError when it does not come up."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path[1:]]),
        }
        with self._log_path.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "local_cloud.moto_server",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                start_new_session=True,
                env=environment,
            )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_DEADLINE_S)
        except TimeoutError:
            line = b""
        if not line.strip().isdigit():
            await self.close()
            raise DeployError(f"moto did not start within {START_DEADLINE_S} s; see {self._log_path}")
        return f"http://127.0.0.1:{int(line)}"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    async def close(self) -> None:
        """End it and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


class Forwarder:
    """Sends requests unchanged to one endpoint over kept-open connections."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DeployError(f"AWS endpoint {url!r}: expected http://HOST:PORT")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def send(self, request: http_wire.Request) -> http_wire.Response:
        """The endpoint's answer; 502 when it cannot be reached."""
        data = _encode(request)
        async with self._slots:
            while self._idle:
                reader, writer = self._idle.pop()
                if not (reader.at_eof() or writer.is_closing()):
                    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                        return await self._exchange(reader, writer, data, request.method)
                writer.close()
            try:
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls or None, limit=http_wire.HEAD_LIMIT_BYTES
                )
                return await self._exchange(reader, writer, data, request.method)
            except (OSError, asyncio.IncompleteReadError, http_wire.BadRequest) as fault:
                return http_wire.Response(
                    502, f"the AWS API behind the local cloud does not answer: {fault}\n".encode()
                )

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, method: str
    ) -> http_wire.Response:
        writer.write(data)
        await writer.drain()
        response, reusable = await http_wire.read_response(reader, method)
        if reusable:
            self._idle.append((reader, writer))
        else:
            writer.close()
        return response

    async def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


def _encode(request: http_wire.Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.raw_headers if name.lower() not in HOP_HEADERS]
    lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


class Backends:
    """moto (or what stands for it) and, when given, another engine for DynamoDB and its streams."""

    def __init__(self, url: str, dynamodb_url: str | None = None) -> None:
        self._all = Forwarder(url)
        self._dynamodb = Forwarder(dynamodb_url) if dynamodb_url else self._all

    async def send(self, request: http_wire.Request) -> http_wire.Response:
        """The answer of the backend that serves this request; 502 when it cannot be reached."""
        dynamodb = request.headers.get("x-amz-target", "").startswith("DynamoDB")
        return await (self._dynamodb if dynamodb else self._all).send(request)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._all.close()
        await self._dynamodb.close()


def client_factory(url: str, region: str, urls: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """`client(service)`: boto3 clients with local credentials, each made once; urls: of services elsewhere."""
    session = boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=region)
    config = Config(
        retries={"max_attempts": 1},
        max_pool_connections=16,
        account_id_endpoint_mode="disabled",
        s3={"addressing_style": "path"},
    )
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, endpoint_url=(urls or {}).get(service, url), config=config)
        return made[service]

    return client
