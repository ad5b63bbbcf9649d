"""An AWS API of the local cloud alone: a handler served on a port of its own, and boto3's client of it."""
import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from local_cloud.http_wire import Handler, Server

DEADLINE_S = 30


@contextmanager
def served(handle: Handler) -> Iterator[str]:
    """The URL of a server that answers with `handle`, on a thread of its own."""
    loop, server = asyncio.new_event_loop(), Server(handle)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(DEADLINE_S)
        yield f"http://127.0.0.1:{server.port}"
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


def client(service: str, url: str) -> Any:
    """boto3's client of a service there, which tries once."""
    return boto3.client(service, endpoint_url=url, region_name="eu-north-1", aws_access_key_id="a",
                        aws_secret_access_key="b", config=Config(retries={"total_max_attempts": 1}))
