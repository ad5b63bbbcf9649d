"""OpenCV, asked for what we need of it before anything is read: its versions differ in what they hold."""
from types import ModuleType


class Unusable(Exception):
    """Something that the camera needs cannot be used: what, got, expected, and the next step."""


def load(*features: str) -> ModuleType:
    """The module cv2 with these features. Raises Unusable. OpenCV 5 moved the HOG detector out of the main modules."""
    try:
        import cv2
    except ImportError as error:
        raise Unusable(f"OpenCV is missing ({error}); expected the camera's packages: run `make camera`, or install "
                       "deploy/locks/camera.lock") from error
    missing = [name for name in features if not hasattr(cv2, name)]
    if missing:
        raise Unusable(f"this OpenCV has no {', '.join(missing)}: got version {cv2.__version__}, expected 4.12 or "
                       "later, below 5; install deploy/locks/camera.lock (opencv-python-headless 5 no longer has it), "
                       "or give --model, which does without")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what a source lacks we say ourselves
    cv2.setNumThreads(1)  # one core is the camera's; the rest of the machine has work of its own
    return cv2
