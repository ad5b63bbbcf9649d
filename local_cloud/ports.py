"""Ports to listen on: the one asked for, or the next free one, said plainly."""

import errno
import logging
from collections.abc import Awaitable, Callable

from local_cloud.errors import DeployError

log = logging.getLogger(__name__)

TRIES = 50


async def listen(what: str, port: int, bind: Callable[[int], Awaitable[object]], *, move: bool = True) -> int:
    """Call `bind(port)`, when the port is taken with the next ones; returns the port asked for or the one that took its
    place (0: any free one). DeployError when none can be bound."""
    for offset in range(TRIES if move and port else 1):
        try:
            await bind(port + offset)
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                continue
            raise DeployError(f"{what}: port {port + offset} cannot be used: {fault.strerror or fault}; "
                              "give another port") from fault
        if offset:
            log.warning("%s: port %d is taken, using %d", what, port, port + offset)
        return port + offset
    tail = f" to {port + TRIES - 1} are" if move else " is"
    raise DeployError(f"{what}: port {port}{tail} taken; end what uses it or give another port")
