"""The forest's kernel, compiled by numba where it is installed: isolation_forest.py asks for it when the first is made.

Nothing is compiled at import. The compiled code is kept beside this file, or in NUMBA_CACHE_DIR, so that the next start
need not compile; where neither can be written every start compiles, which takes seconds.
"""
import bisect
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy

from edge_bridge.detectors import forest_kernel

log = logging.getLogger(__name__)


class Kernel(NamedTuple):
    """grow, add_paths: those of forest_kernel; given: makes what they read of a numpy array; room: (count, int or
    float), makes what they write to."""

    compiled: bool
    grow: Callable[..., None]
    add_paths: Callable[..., None]
    given: Callable[[Any], Any]
    room: Callable[[int, type], Any]


_PLAIN = Kernel(False, forest_kernel.grow, forest_kernel.add_paths, lambda array: array.tolist(),
                lambda count, kind: [kind()] * count)


def kernel(compiled: bool | None = None) -> Kernel:
    """Compiled or not; None: compiled where numba is installed (and NUMBA_DISABLE_JIT is not set). Raises ImportError
    for True where it is not."""
    if compiled is False:
        return _PLAIN
    try:
        return _compiled()
    except ImportError as error:
        if compiled:
            raise
        log.info("detectors: no compiler (%s); the isolation forest runs uncompiled", error)
        return _PLAIN


@cache
def _compiled() -> Kernel:
    numba, overload = _numba()
    if numba.config.DISABLE_JIT:
        raise ImportError("NUMBA_DISABLE_JIT is set")
    overload(bisect.bisect_left)(lambda a, x, lo, hi: _first_not_below)
    overload(bisect.bisect_right)(lambda a, x, lo, hi: _first_above)
    options: dict[str, Any] = {"nogil": True, "cache": True}  # nogil: the other threads go on while it runs
    try:
        numba.njit(**options)(forest_kernel.grow)
    except RuntimeError as error:  # no directory for the cache
        log.warning("detectors: compiled code cannot be kept (%s), so every start compiles; name a directory that can "
                    "be written in NUMBA_CACHE_DIR", error)
        options["cache"] = False
    return Kernel(True, numba.njit(**options)(forest_kernel.grow), numba.njit(**options)(forest_kernel.add_paths),
                  numpy.ascontiguousarray, numpy.empty)


def _numba() -> tuple[Any, Any]:
    """numba, without SciPy: it would load that, where it is, for linear algebra that nobody here uses (half a second
    and 25 MB)."""
    hidden = "scipy" not in sys.modules
    if hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import numba
        import numba.np.arraymath  # else this, which looks for SciPy too, comes with the first call
        from numba.extending import overload
    finally:
        if hidden:
            del sys.modules["scipy"]
    return numba, overload


# What numba lacks of Python's bisect.


def _first_not_below(a, x, lo, hi):  # type: ignore[no-untyped-def]
    while lo < hi:
        middle = (lo + hi) >> 1
        if a[middle] < x:
            lo = middle + 1
        else:
            hi = middle
    return lo


def _first_above(a, x, lo, hi):  # type: ignore[no-untyped-def]
    while lo < hi:
        middle = (lo + hi) >> 1
        if x < a[middle]:
            hi = middle
        else:
            lo = middle + 1
    return lo
