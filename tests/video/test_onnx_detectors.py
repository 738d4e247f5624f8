"""Networks in ONNX files are told apart by their outputs, and say where and what their boxes are.

The files are made here: each answers with fixed boxes, and with what it saw of its input as a score, so
that colours, scaling and order of the input are proved too.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitpose.pixels import MEAN, STD
from vitpose.video.coco_classes import IDS, NAMES
from vitpose.video.detections import detect_many
from vitpose.video.detectors import detector_file, make_detector

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
CORNERS = np.array([[10, 20, 40, 80], [50, 10, 90, 90], [0, 0, 5, 5]], np.float32)
"""Of a picture of 200 x 100."""


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p)).astype(np.float32)


def relative() -> np.ndarray:
    wh = np.array([200, 100], np.float32)
    low, high = CORNERS[:, :2] / wh, CORNERS[:, 2:] / wh
    return np.concatenate([(low + high) / 2, high - low], axis=1).astype(np.float32)


def write(path: Path, inputs: list, constants: dict[str, np.ndarray], nodes: list, outputs: list) -> str:
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return f"onnx:{path}"


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def repeated(name: str, source: str) -> list[onnx.NodeProto]:
    """The constant `source`, of one picture, for each picture of the batch `x`."""
    return [
        helper.make_node("Shape", ["x"], [f"{name}_b"], start=0, end=1),
        helper.make_node("Concat", [f"{name}_b", f"{name}_rest"], [f"{name}_to"], axis=0),
        helper.make_node("Expand", [source, f"{name}_to"], [name]),
    ]


def rest(*names: tuple[str, int]) -> dict[str, np.ndarray]:
    return {f"{name}_rest": np.ones(rank - 1, np.int64) for name, rank in names}


def rtdetr(path: Path) -> str:
    """Boxes relative to the picture, which the network itself scales by `orig_target_sizes`."""
    constants = {
        "fixed": relative()[None],
        "labels0": np.array([[0, 16, 0]], np.int64),
        "scores0": np.array([[0.9, 0.8, 0.7]], np.float32),
        **rest(("labels", 2), ("scores", 2), ("fixedb", 3)),
        "twice": np.array([1, 1, 2], np.int64),
        "halves": np.array([2, 2], np.int64),
        "half": np.array(0.5, np.float32),
        "middle": np.array([1], np.int64),
    }
    nodes = [
        *repeated("labels", "labels0"),
        *repeated("scores", "scores0"),
        *repeated("fixedb", "fixed"),
        helper.make_node("Split", ["fixedb", "halves"], ["center", "extent"], axis=2),
        helper.make_node("Mul", ["extent", "half"], ["halved"]),
        helper.make_node("Sub", ["center", "halved"], ["low"]),
        helper.make_node("Add", ["center", "halved"], ["high"]),
        helper.make_node("Concat", ["low", "high"], ["corners"], axis=2),
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=FLOAT),
        helper.make_node("Unsqueeze", ["sizes", "middle"], ["sizes3"]),
        helper.make_node("Tile", ["sizes3", "twice"], ["sizes4"]),
        helper.make_node("Mul", ["corners", "sizes4"], ["boxes"]),
    ]
    return write(
        path,
        [value("x", FLOAT, "N", 3, 64, 64), value("orig_target_sizes", INT, "N", 2)],
        constants,
        nodes,
        [
            value("labels", INT, "N", 3),
            value("boxes", FLOAT, "N", 3, 4),
            value("scores", FLOAT, "N", 3),
        ],
    )


def queries(path: Path, logits: str, boxes: str, classes: int, batch: int | str, person: int) -> str:
    """D-FINE and RT-DETR of Hugging Face, or RF-DETR: scores as logits of every class."""
    scores = np.full((1, 3, classes), -9, np.float32)
    scores[0, :, person] = logit(np.array([0.9, 0.3, 0.7]))
    scores[0, 1, NAMES.index("dog") if classes == 80 else IDS[NAMES.index("dog")]] = logit(np.array(0.8))
    constants = {"s": scores, "r": relative()[None], **rest((logits, 3), (boxes, 3))}
    outputs = [value(boxes, FLOAT, batch, 3, 4), value(logits, FLOAT, batch, 3, classes)]
    nodes = [*repeated(logits, "s"), *repeated(boxes, "r")]
    return write(path, [value("x", FLOAT, batch, 3, 64, 96)], constants, nodes, outputs)


FORMS = {
    "RT-DETR": rtdetr,
    "D-FINE": lambda path: queries(path, "logits", "pred_boxes", 80, "N", 0),
    "RF-DETR": lambda path: queries(path, "labels", "dets", 91, 1, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_boxes_are_where_the_network_says(form: str, tmp_path: Path) -> None:
    spec = FORMS[form](tmp_path / "network.onnx")
    image = np.zeros((100, 200, 3), np.uint8)
    found = make_detector(spec)(image).above(0.5)
    expected = CORNERS[[0, 2]]
    expected = np.concatenate([expected[:, :2], expected[:, 2:] - expected[:, :2]], axis=1)
    assert found.bboxes_xywh == pytest.approx(expected, abs=1e-3)
    assert found.scores == pytest.approx([0.9, 0.7], abs=1e-5)
    wanted = {"RT-DETR": "16", "D-FINE": "dog", "RF-DETR": "dog"}[form]
    dog = make_detector(f"{spec}:{wanted}")(image).above(0.5)
    assert dog.bboxes_xywh == pytest.approx(np.array([[50, 10, 40, 80]]), abs=1e-3)
    twice = make_detector(spec)(np.zeros((200, 400, 3), np.uint8)).above(0.5)
    assert twice.bboxes_xywh == pytest.approx(2 * expected, abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_batches_give_what_single_pictures_give(form: str, tmp_path: Path) -> None:
    detector = make_detector(FORMS[form](tmp_path / "network.onnx"))
    images = [np.zeros((100 + i, 200, 3), np.uint8) for i in range(11)]
    together = detect_many(detector, images)
    assert detector.batch == (1 if form == "RF-DETR" else 8)  # type: ignore[attr-defined]
    for image, boxes in zip(images, together, strict=True):
        alone = detector(image)
        np.testing.assert_array_equal(boxes.bboxes_xywh, alone.bboxes_xywh)
        np.testing.assert_array_equal(boxes.scores, alone.scores)


def seeing(path: Path, batch: int | str, *, yolox: bool) -> str:
    """A network whose first three queries score the mean of each channel, as a logit or plainly."""
    size = 64
    cells = 64 + 16 + 4
    mean = helper.make_node("ReduceMean", ["x"], ["means"], axes=[2, 3], keepdims=0)
    if yolox:
        nodes = [
            mean,
            helper.make_node("Reshape", ["means", "to"], ["three"]),
            helper.make_node("Div", ["three", "most"], ["scores"]),
            helper.make_node("Concat", ["before", "scores", "one"], ["rows"], axis=2),
            helper.make_node("Concat", ["rows", "none"], ["y"], axis=1),
        ]
        before = np.array([[[0.5, 0.5, 0, 0], [3.5, 0.5, 0, 0], [3.5, 0.5, 0, 0]]], np.float32)
        constants = {
            "to": np.array([1, 3, 1], np.int64),
            "most": np.array(256, np.float32),
            "before": before,
            "one": np.ones((1, 3, 1), np.float32),
            "none": np.zeros((1, cells - 3, 6), np.float32),
        }
        outputs = [value("y", FLOAT, 1, cells, 6)]
    else:
        nodes = [
            mean,
            helper.make_node("Reshape", ["means", "to"], ["three"]),
            helper.make_node("Mul", ["three", "ones"], ["logits"]),
            helper.make_node("Identity", ["r"], ["pred_boxes"]),
        ]
        constants = {
            "to": np.array([1, 3, 1], np.int64),
            "ones": np.ones((1, 1, 80), np.float32),
            "r": relative()[None],
        }
        outputs = [value("logits", FLOAT, 1, 3, 80), value("pred_boxes", FLOAT, 1, 3, 4)]
    return write(path, [value("x", FLOAT, batch, 3, size, size)], constants, nodes, outputs)


def test_colours_come_in_the_order_and_range_of_each_network(tmp_path: Path) -> None:
    image = np.empty((100, 200, 3), np.uint8)
    image[:] = (200, 100, 50)
    found = make_detector(seeing(tmp_path / "hf.onnx", 1, yolox=False))(image)
    by_box = dict(zip(found.bboxes_xywh[:, 0].round(2).tolist(), found.scores.tolist(), strict=True))
    expected = 1 / (1 + np.exp(-np.array([200, 100, 50]) / 255))
    assert [by_box[x] for x in (10.0, 50.0, 0.0)] == pytest.approx(expected, abs=1e-4)

    spec = seeing(tmp_path / "yolox.onnx", 1, yolox=True)
    with pytest.raises(ValueError, match="has 1 classes, which are not COCO's 80, .*give the number"):
        make_detector(spec)
    found = make_detector(f"{spec}:0")(image)
    # BGR; the picture fills the upper half of the input, the rest is 114.
    scores = (np.array([50, 100, 200]) + 114) / 2 / 256
    assert sorted(found.scores.tolist()) == pytest.approx(sorted(scores), abs=1e-3)
    first = found.bboxes_xywh[np.argmin(found.scores)]  # blue: cell 0, side 8 of 64, scaled by 200 / 64
    assert first == pytest.approx([0, 0, 25, 25], abs=1e-3)


def test_rf_detr_sees_normalised_pixels(tmp_path: Path) -> None:
    """Its score of `person` is the mean of the blue channel's normalised values."""
    constants = {
        "to": np.array([1, 1, 1], np.int64),
        "zeros": np.full((1, 1, 90), -9, np.float32),
        "first": np.full((1, 1, 1), -9, np.float32),
        "two": np.array([2], np.int64),
        "r": relative()[None, :1],
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Gather", ["means", "two"], ["blue"], axis=1),
        helper.make_node("Reshape", ["blue", "to"], ["score"]),
        helper.make_node("Slice", ["zeros", "a", "b", "c"], ["others"]),
        helper.make_node("Concat", ["first", "score", "others"], ["labels"], axis=2),
        helper.make_node("Identity", ["r"], ["dets"]),
    ]
    for name, number in (("a", 0), ("b", 89), ("c", 2)):
        constants[name] = np.array([number], np.int64)
    outputs = [value("dets", FLOAT, 1, 1, 4), value("labels", FLOAT, 1, 1, 91)]
    inputs = [value("x", FLOAT, 1, 3, 32, 32)]
    spec = write(tmp_path / "rf.onnx", inputs, constants, nodes, outputs)
    image = np.full((10, 10, 3), 200, np.uint8)
    expected = 1 / (1 + np.exp(-(200 / 255 - MEAN[2]) / STD[2]))
    assert make_detector(spec)(image).scores == pytest.approx([expected], abs=1e-4)


def test_classes_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    spec = FORMS["D-FINE"](tmp_path / "network.onnx")
    assert detector_file(f"{spec}:dog") == detector_file(spec) == tmp_path / "network.onnx"
    with pytest.raises(ValueError, match="unknown class 'unicorn'; expected a number or one of COCO's"):
        make_detector(f"{spec}:unicorn")
    with pytest.raises(ValueError, match="no class 80; it has 80"):
        make_detector(f"{spec}:80")
    detr = queries(tmp_path / "detr.onnx", "logits", "pred_boxes", 92, "N", 1)
    with pytest.raises(ValueError, match="not a detector that is known"):
        make_detector(detr)  # DETR: scores against `no object`, normalised pixels
    free = write(
        tmp_path / "free.onnx",
        [value("x", FLOAT, 1, 3, "H", "W")],
        {},
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("y", FLOAT, 1, 3, "H", "W")],
    )
    with pytest.raises(ValueError, match="fixed height and width"):
        make_detector(free)


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    spec = queries(tmp_path / "nan.onnx", "logits", "pred_boxes", 80, 1, 0)
    network = onnx.load(tmp_path / "nan.onnx")
    for held in network.graph.initializer:
        if held.name == "s":
            held.CopyFrom(numpy_helper.from_array(np.full((1, 3, 80), np.nan, np.float32), "s"))
    onnx.save(network, tmp_path / "nan.onnx")
    with pytest.raises(ValueError, match="not finite"):
        make_detector(spec)(np.zeros((10, 10, 3), np.uint8))
