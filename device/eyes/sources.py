"""`--source` as words -> where the frames come from: frames.py, live.py, or None for the simulated camera."""
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # OpenCV and NumPy are loaded only for a source that is real
    from device.eyes.frames import Source

SIMULATED = "simulated"
SCHEMES = ("rtsp", "rtsps", "http", "https")


def fault(source: str, contained: str | None) -> str | None:
    """What is wrong with a source before it is opened; None when nothing. contained: what `container` answered."""
    if source.isdigit() and contained:
        return (f"--source {source} is a camera of this machine, and this is a container ({contained}), which cannot "
                "reach it: expected rtsp://..., a file, a directory or simulated; run `make camera SOURCE=0` outside")
    scheme = source.partition("://")[0] if "://" in source else None
    if scheme is not None and scheme.lower() not in SCHEMES:
        return f"--source begins with {scheme}://: expected one of {', '.join(name + '://' for name in SCHEMES)}"
    return None


def container(environ: Mapping[str, str], marker: str = "/.dockerenv") -> str | None:
    """What shows that this runs in a container; None when nothing does."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "KUBERNETES_SERVICE_HOST is set"
    if environ.get("container"):
        return f"container={environ['container']}"
    return f"there is {marker}" if os.path.exists(marker) else None


def opened(source: str) -> "Source":
    """The frames of a real source. Raises SourceError, or Unusable when OpenCV is missing."""
    from device.eyes import frames, live

    if source.isdigit():
        return live.local_camera(int(source))
    if "://" in source:
        return live.network_camera(source)
    return frames.Directory(source) if os.path.isdir(source) else frames.VideoFile(source)
