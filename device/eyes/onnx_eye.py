"""An eye with a model of your own (`--model model.onnx`): frame -> onnxruntime -> decoders.py -> a count.

No weights come with this project; docs/camera.md says what their licences ask.
"""
import os
from typing import Any

import numpy as np

from device.eyes import decoders, opencv
from device.eyes.boxes import Box, Seen, best
from device.eyes.opencv import Unusable

SIDE = 640  # of the input, where the model leaves it open
GREY = 114  # what these models were trained to see beside the picture
SAME_PERSON = 0.5  # looser than HOG's: these boxes fit, so people who overlap are told apart
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxEye:
    """Counts the persons that an ONNX model finds. decoder: "module:name", None: by the shape of the answer.

    Raises Unusable when the model cannot be loaded, or its shapes do not fit. confidence: 0 to 1, below it: nobody.
    """

    def __init__(self, path: str, decoder: str | None, confidence: float) -> None:
        self._cv2 = opencv.load("resize")
        self.model = os.path.splitext(os.path.basename(path))[0]
        self._confidence = confidence
        self._session = _session(path)
        self._name, self._type, self._rows, self._columns = _input(self._session, path)
        blank: np.ndarray = np.zeros((1, 3, self._rows, self._columns), self._type)
        shapes = [output.shape for output in self._run(blank)]  # run it once: what is open in the graph is known then
        self.decoder = decoders.named(decoder) if decoder else decoders.by_shape(shapes, self._rows, self._columns)

    def look(self, frame: np.ndarray, at_s: float) -> Seen:
        """The persons on this frame; each frame by itself."""
        scale = min(self._rows / frame.shape[0], self._columns / frame.shape[1])
        outputs = self._run(self._prepared(frame, scale))
        table = self.decoder.decode(outputs, self._rows, self._columns)
        sure = table[table[:, 4] >= self._confidence].astype(float)
        boxes = best((Box(x / scale, y / scale, width / scale, height / scale, confidence)
                      for x, y, width, height, confidence in sure.tolist()), SAME_PERSON)
        return Seen(len(boxes), tuple(boxes))

    def _prepared(self, frame: np.ndarray, scale: float) -> np.ndarray:
        """The frame at the model's size, at the top left, its sides in proportion: (1, 3, rows, columns)."""
        small = self._cv2.resize(frame, (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))))
        canvas = np.full((self._rows, self._columns, 3), GREY, np.uint8)
        canvas[:small.shape[0], :small.shape[1]] = small
        colours = canvas[:, :, ::-1] if self.decoder.rgb else canvas
        return np.ascontiguousarray((colours.transpose(2, 0, 1)[None] / self.decoder.divisor).astype(self._type))

    def _run(self, prepared: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(output, np.float32) for output in self._session.run(None, {self._name: prepared})]


def _session(path: str) -> Any:  # an onnxruntime.InferenceSession
    try:
        import onnxruntime
    except ImportError as error:
        raise Unusable(f"--model needs onnxruntime, which is missing ({error}); install deploy/locks/camera.lock "
                       "(Intel Macs have no wheels of it), or leave --model out") from error
    if not os.path.isfile(path):
        raise Unusable(f"--model {path}: no such file; expected a detector in ONNX format")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its native module, without a common base
        raise Unusable(f"--model {path} cannot be loaded: {error}; expected a detector in ONNX format") from error


def _input(session: Any, path: str) -> tuple[str, type, int, int]:
    """Name, type, rows and columns of the model's input."""
    inputs = session.get_inputs()
    first = inputs[0]
    shape = [n if isinstance(n, int) else None for n in first.shape]
    if len(inputs) != 1 or len(shape) != 4 or shape[0] not in (1, None) or shape[1] not in (3, None) \
            or first.type not in _TYPES:
        raise Unusable(f"--model {path}: got {len(inputs)} inputs, the first {first.type} {first.shape}; expected one, "
                       "tensor(float), 1 x 3 x rows x columns")
    return first.name, _TYPES[first.type], shape[2] or SIDE, shape[3] or SIDE
