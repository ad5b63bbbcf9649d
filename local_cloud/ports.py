"""Ports to listen on: the one asked for, or the next free one, said plainly."""

import errno
import logging
from collections.abc import Awaitable, Callable

from local_cloud.errors import DeployError

log = logging.getLogger(__name__)

TRIES = 50


async def listen(what: str, port: int, bind: Callable[[int], Awaitable[None]], *, move: bool = True) -> int:
    """Call `bind(port)`, when the port is taken with the next ones; returns the port bound, DeployError for none."""
    for offset in range(TRIES if move and port else 1):
        try:
            await bind(port + offset)
        except OSError as fault:
            if fault.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise DeployError(
                    f"{what}: port {port + offset} cannot be used: {fault.strerror or fault}"
                ) from fault
            continue
        if offset:
            log.warning("%s: port %d is taken, using %d", what, port, port + offset)
        return port + offset
    tail = f" to {port + TRIES - 1} are" if move else " is"
    raise DeployError(f"{what}: port {port}{tail} taken; end what uses it or give another port")
