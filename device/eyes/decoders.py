"""What an ONNX detector answers -> boxes around persons; by shape, or `--decoder module:name`; next: onnx_eye.py.

A decoder of your own is a `Decoder`: how the frame has to be prepared, and a function that reads the answer.
"""
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from device.eyes.opencv import Unusable

PERSON = 0  # its class number in COCO, which these models are trained on
STRIDES = (8, 16, 32)  # of YOLOX's three grids


@dataclass(frozen=True)
class Decoder:
    """How to ask and how to read one family of models.

    decode: (the model's outputs, rows, columns of its input) -> array (n, 5): left, top, width, height in pixels of the
    input, and the confidence (0 to 1) that it is a person. rgb: order of the colours (else BGR); divisor: of the values
    0-255.
    """

    name: str
    decode: Callable[[Sequence[np.ndarray], int, int], np.ndarray]
    rgb: bool = True
    divisor: float = 255.0


def _yolo(outputs: Sequence[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Ultralytics' export: (1, 4 + classes, n), centre and size in pixels, one score per class."""
    table = outputs[0][0].T
    return _corners(table[:, :4], _of_a_person(table[:, 4:]))


def _yolox(outputs: Sequence[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """YOLOX: (1, n, 5 + classes), centre and size relative to three grids, objectness, one score per class."""
    table = outputs[0][0]
    cells, strides = _grids(rows, columns)
    centre = (table[:, :2] + cells) * strides
    size = np.exp(np.minimum(table[:, 2:4], 20.0)) * strides
    return _corners(np.hstack([centre, size]), table[:, 4] * _of_a_person(table[:, 5:]))


def _of_a_person(scores: np.ndarray) -> np.ndarray:
    """The person's score where no other class has a higher one, else 0."""
    person = scores[:, PERSON]
    return np.where(person >= scores.max(axis=1), person, 0.0)


def _corners(boxes: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    return np.column_stack([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, 2:4], confidence])


def _grids(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of YOLOX's answer the cell (x, y) and the stride."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[:rows // stride, :columns // stride]
        cells.append(np.column_stack([x.ravel(), y.ravel()]))
        strides.append(np.full((x.size, 1), stride))
    return np.vstack(cells), np.vstack(strides)


YOLO = Decoder("yolo", _yolo)
YOLOX = Decoder("yolox", _yolox, rgb=False, divisor=1.0)


def by_shape(shapes: Sequence[Sequence[int]], rows: int, columns: int) -> Decoder:
    """The decoder for these outputs of a model with so large an input. Raises Unusable."""
    cells = sum((rows // stride) * (columns // stride) for stride in STRIDES)
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1:
        _, second, third = shapes[0]
        if third == 85 and second == cells:
            return YOLOX
        if second == 84 or 5 <= second < third:
            return YOLO
        if 6 <= third and second == cells:
            return YOLOX
    raise Unusable(f"the model's answer has the shape {', '.join(str(tuple(shape)) for shape in shapes)}: expected "
                   f"(1, 4 + classes, n) as Ultralytics exports YOLO, or (1, {cells}, 5 + classes) as YOLOX has "
                   f"it, for an input of {columns} x {rows}; name a decoder of your own: --decoder module:name")


def named(name: str) -> Decoder:
    """The decoder `module:name`. Raises Unusable."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise Unusable(f"--decoder {name}: expected module:name")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Unusable(f"--decoder {name}: {error}; expected a module on PYTHONPATH with that name in it") from error
    if not isinstance(found, Decoder):
        raise Unusable(f"--decoder {name}: got a {type(found).__name__}, expected a device.eyes.decoders.Decoder")
    return found
