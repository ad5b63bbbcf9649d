"""What runs at the site's sensors: device/publisher.py on a Raspberry Pi, device/camera.py beside a camera."""
import os
import pkgutil
import re


def version():
    """Version of this publisher: the bundle's own, else the project's, else "unknown"."""
    try:
        return pkgutil.get_data("device", "VERSION").decode("ascii").strip()
    except (OSError, AttributeError):  # no such file; a loader without data
        pass  # not a bundle: ask the project file below
    project = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pyproject.toml")
    if os.path.exists(project):
        with open(project) as lines:
            match = re.search(r'^version\s*=\s*"([^"]+)"', lines.read(), re.MULTILINE)
        if match:
            return match.group(1)
    return "unknown"
