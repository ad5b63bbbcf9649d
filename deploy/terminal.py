"""The terminal that a command runs in until Ctrl-C: its signals become an event, and reach nobody else."""
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def stop_event() -> threading.Event:
    """Set by Ctrl-C or SIGTERM from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def foreground() -> Iterator[None]:
    """Take Ctrl-C for this process alone: make, told as well, would turn every ending into its own "Interrupt"."""
    if not sys.stdin.isatty() or os.getsid(0) == os.getpid():
        yield
        return
    before = os.tcgetpgrp(sys.stdin.fileno())
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else the next call stops us
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(sys.stdin.fileno(), before)
        signal.signal(signal.SIGTTOU, ignored)
