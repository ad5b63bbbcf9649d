"""Models of one's own: small graphs built here, decoded as YOLO and YOLOX exports are, on real frames."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from device.eyes import decoders
from device.eyes.decoders import Decoder
from device.eyes.onnx_eye import OnnxEye
from device.eyes.opencv import Unusable

SIDE = 64
CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of the strides 8, 16 and 32
BLACK = np.zeros((128, 128, 3), np.uint8)


def save(path: Path, answer: np.ndarray, side: int | str = SIDE, kind: int = TensorProto.FLOAT) -> Path:
    """A graph that answers this, plus nothing times the mean of its input (so that it depends on it)."""
    nodes = [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
             helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
             helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
             helper.make_node("Add", ["answer", "nothing"], ["output0"])]
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("images", kind, [1, 3, side, side])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, answer.shape)],
        [numpy_helper.from_array(answer.astype(np.float32), "answer"),
         numpy_helper.from_array(np.zeros((), np.float32), "zero")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def yolo(*found: tuple[float, float, float, float, int, float]) -> np.ndarray:
    """(1, 84, n): found as (centre x, y, width, height, class, score)."""
    table = np.zeros((84, CELLS))
    for column, (x, y, width, height, kind, score) in enumerate(found):
        table[:4, column] = x, y, width, height
        table[4 + kind, column] = score
    return table[None]


def boxes_of(eye: OnnxEye, frame: np.ndarray = BLACK) -> list[tuple[int, ...]]:
    seen = eye.look(frame, 0.0)
    assert seen.persons == len(seen.boxes)
    return [tuple(round(n) for n in (box.x, box.y, box.width, box.height)) for box in seen.boxes]


def test_yolo_gives_persons_in_pixels_of_the_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "mine.onnx", yolo(
        (20, 30, 10, 20, 0, 0.9), (21, 30, 10, 20, 0, 0.8),  # the same person twice
        (50, 30, 8, 16, 0, 0.5), (40, 40, 30, 20, 2, 0.95), (10, 10, 4, 8, 0, 0.3)))  # a car; too unsure
    eye = OnnxEye(str(path), None, 0.4)
    assert (eye.model, eye.decoder) == ("mine", decoders.YOLO)
    assert boxes_of(eye) == [(30, 40, 20, 40), (92, 44, 16, 32)], "twice the input's 64 pixels"


def test_a_wide_frame_keeps_its_proportions(tmp_path: Path) -> None:
    eye = OnnxEye(str(save(tmp_path / "m.onnx", yolo((32, 16, 8, 16, 0, 0.9)))), None, 0.4)
    assert boxes_of(eye, np.zeros((64, 128, 3), np.uint8)) == [(56, 16, 16, 32)]


def test_what_looks_more_like_something_else_is_no_person(tmp_path: Path) -> None:
    answer = yolo((20, 30, 10, 20, 0, 0.6))
    answer[0, 4 + 16, 0] = 0.7  # a dog
    assert boxes_of(OnnxEye(str(save(tmp_path / "m.onnx", answer)), None, 0.4)) == []


@pytest.mark.parametrize(("shape", "decoder"), [
    ((1, 84, 8400), decoders.YOLO), ((1, 84, 3), decoders.YOLO), ((1, 5, 8400), decoders.YOLO),
    ((1, 8400, 85), decoders.YOLOX), ((1, 8400, 6), decoders.YOLOX),
])
def test_the_shape_chooses(shape: tuple[int, ...], decoder: Decoder) -> None:
    assert decoders.by_shape([shape], 640, 640) is decoder


def test_yolox_is_decoded_on_its_three_grids(tmp_path: Path) -> None:
    table = np.zeros((CELLS, 85))
    for row, cell, stride in ((8 * 2 + 3, (3, 2), 8), (64 + 4 * 1 + 2, (2, 1), 16), (64 + 16 + 1, (1, 0), 32)):
        centre = np.array([(cell[0] + 0.5) * stride, (cell[1] + 0.5) * stride])
        table[row, :2] = centre / stride - cell
        table[row, 2:4] = np.log(np.array([4, 8]) / stride)  # 4 x 8 pixels
        table[row, 4], table[row, 5] = 0.9, 0.8
    eye = OnnxEye(str(save(tmp_path / "x.onnx", table[None])), None, 0.7)
    assert eye.decoder is decoders.YOLOX
    assert sorted(boxes_of(eye)) == [(52, 32, 8, 16), (76, 40, 8, 16), (92, 24, 8, 16)]
    assert boxes_of(OnnxEye(str(tmp_path / "x.onnx"), None, 0.75)) == [], "0.9 x 0.8 is 0.72"


def test_the_two_ask_in_their_own_colours_and_ranges(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", yolo())
    eye = OnnxEye(str(path), None, 0.4)
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[:, :, 0] = 255
    prepared = eye._prepared(blue, 1.0)
    assert prepared.shape == (1, 3, 64, 64) and prepared.dtype == np.float32
    assert [prepared[0, channel].max() for channel in range(3)] == [0, 0, 1]
    eye.decoder = decoders.YOLOX
    assert [eye._prepared(blue, 1.0)[0, channel].max() for channel in range(3)] == [255, 0, 0]
    tall = eye._prepared(np.zeros((64, 32, 3), np.uint8), 1.0)
    assert tall[0, :, :, 32:].min() == 114 and tall[0, :, :, :32].max() == 0, "grey beside the picture"


def test_open_and_half_precision_inputs(tmp_path: Path) -> None:
    cells = 80 * 80 + 40 * 40 + 20 * 20
    answer = np.zeros((1, 5, cells))
    answer[0, :, 0] = 320, 320, 64, 128, 0.9
    eye = OnnxEye(str(save(tmp_path / "open.onnx", answer, side="side")), None, 0.4)
    assert boxes_of(eye, np.zeros((640, 640, 3), np.uint8)) == [(288, 256, 64, 128)]
    answer = yolo((20, 30, 10, 20, 0, 0.9))
    half = OnnxEye(str(save(tmp_path / "half.onnx", answer, kind=TensorProto.FLOAT16)), None, 0.4)
    assert boxes_of(half) == [(30, 40, 20, 40)]


def _own(outputs: Sequence[np.ndarray], rows: int, columns: int) -> np.ndarray:
    return outputs[0].reshape(-1, 5)


OWN = Decoder("own", _own, divisor=1.0)


def test_a_decoder_of_ones_own(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", np.array([[1.0, 2, 30, 40, 0.9]]))
    assert boxes_of(OnnxEye(str(path), f"{__name__}:OWN", 0.4)) == [(2, 4, 60, 80)]


@pytest.mark.parametrize(("name", "said"), [
    ("nonsense", "expected module:name"), ("no_such_module:x", "No module named"), (f"{__name__}:none", "no attribute"),
    (f"{__name__}:SIDE", "got a int"),
])
def test_a_decoder_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        decoders.named(name)


@pytest.mark.parametrize("answer", [np.zeros((1, 300, 85)), np.zeros((1, 300, 6)), np.zeros((2, 84, 300)),
                                    np.zeros((84, 85))])
def test_an_unknown_shape_is_said_with_what_to_do(answer: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"has the shape \(.*expected \(1, 4 \+ classes, n\).*--decoder module:name"):
        OnnxEye(str(save(tmp_path / "m.onnx", answer)), None, 0.4)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="no such file"):
        OnnxEye(str(tmp_path / "none.onnx"), None, 0.4)
    (tmp_path / "text.onnx").write_text("weights?")
    with pytest.raises(Unusable, match=r"cannot be loaded.*expected a detector in ONNX format"):
        OnnxEye(str(tmp_path / "text.onnx"), None, 0.4)
    with pytest.raises(Unusable, match="expected one, tensor"):
        OnnxEye(str(save(tmp_path / "ints.onnx", yolo(), kind=TensorProto.INT32)), None, 0.4)
