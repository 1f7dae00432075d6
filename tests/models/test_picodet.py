from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from paddle.nn import functional

from paddle_tk.errors import BadInput
from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.models.activations import ACTIVATIONS
from paddle_tk.models.detectors import Detector, build_detector
from paddle_tk.models.picodet import SIZES, build_picodet
from paddle_tk.models.weights import network_arrays
from tests.models.picodet_case import picodet, random_images, stir

MILLIONS = {"xs": 0.70, "s": 1.18, "m": 3.46, "l": 5.80}  # published, with 80 classes


@pytest.fixture(scope="module")
def network() -> Any:
    built = picodet()
    stir(built)
    built.eval()
    return built


@pytest.mark.parametrize("size", list(SIZES))
def test_parameter_count_is_the_published_one(size: str) -> None:
    trained = [p for p in picodet(size, classes=80).parameters() if p.trainable]
    assert sum(p.size for p in trained) / 1e6 == pytest.approx(MILLIONS[size], abs=0.01)
    assert len({id(p) for p in trained}) == len(trained)


def test_networks_of_other_class_counts_are_built_when_one_exists_already() -> None:
    images = random_images(1, 3, 64, 64)
    for classes in (2, 7, 2):
        network = build_detector("picodet_xs", num_classes=classes, image_size=(64, 64))
        network.eval()
        assert network(images)[1].shape == [1, 85, classes]


def test_equal_seeds_give_equal_weights() -> None:
    first, second = network_arrays(picodet()), network_arrays(picodet())
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_interface_is_that_of_a_detector(network: Any) -> None:
    detector: Detector = network
    names = set(network.state_dict())
    assert all(f"{layer}.weight" in names for layer in detector.head_layers)
    assert (detector.nms_iou, detector.strides) == (0.6, (8, 16, 32, 64))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (64, 160)])
def test_forward_and_decode_fit_when_sides_are_multiples_of_32(network: Any, height: int, width: int) -> None:
    cells = sum(-(-height // stride) * -(-width // stride) for stride in network.strides)
    with paddle.no_grad():
        boxes, scores = network(random_images(2, 3, height, width))
        decoded = network.decode(network.raw(random_images(2, 3, height, width)))
    assert (boxes.shape, scores.shape) == ([2, cells, 4], [2, cells, 3])
    assert np.array_equal(boxes.numpy(), decoded[0].numpy())
    assert (boxes.numpy()[:, :, :2] <= boxes.numpy()[:, :, 2:]).all()
    assert ((scores.numpy() >= 0) & (scores.numpy() <= 1)).all()


def test_training_mode_returns_what_the_loss_takes() -> None:
    network = picodet()
    network.train()
    raw = network(random_images(2, 3, 64, 96))
    assert [x.shape[1] for x in raw] == [3, 1, 32] * 4
    total, parts = network.make_loss()(*raw, paddle.to_tensor([[[0.0, 8, 8, 40, 50]], [[2.0, 30, 4, 90, 60]]]))
    assert tuple(parts) == network.make_loss().parts
    assert float(total) == pytest.approx(sum(float(value) for value in parts.values()), rel=1e-6)


def test_box_is_around_its_cell_when_all_distances_are_known(network: Any) -> None:
    raw = []
    for level, stride in enumerate(network.strides):
        h = w = -(-64 // stride)
        distances = np.full((1, 4, 8, h, w), -100.0, np.float32)
        for side, steps in enumerate((1, 2, 3, 4)):
            distances[:, side, steps] = 100.0
        raw += [paddle.full([1, 3, h, w], -3.0), paddle.full([1, 1, h, w], 1.0), distances.reshape(1, 32, h, w)]
        raw[-1] = paddle.to_tensor(raw[-1])
        if level == 1:
            raw[-3][0, 2, 1, 3] = 3.0
    boxes, scores = (value.numpy() for value in network.decode(raw))
    best = int(scores[0, :, 2].argmax())
    assert best == 64 + 4 * 1 + 3  # after the finest level, second row, fourth column
    centre = np.array([3.5, 1.5, 3.5, 1.5]) * 16
    np.testing.assert_allclose(boxes[0, best], centre + np.array([-1, -2, 3, 4]) * 16, atol=1e-3)
    sigmoid = 1 / (1 + np.exp(-np.array([3.0, 1.0])))
    assert scores[0, best, 2] == pytest.approx(float(np.sqrt(sigmoid.prod())), abs=1e-6)


def test_decoded_boxes_are_float32_when_the_network_ran_in_bfloat16(network: Any) -> None:
    raw = [x.astype("bfloat16") for x in network.raw(random_images(1, 3, 64, 64))]
    assert {value.dtype for value in network.decode(raw)} == {paddle.float32}


def test_error_says_what_to_install_when_ppdet_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ppdet.modeling.backbones.lcnet", None)
    with pytest.raises(BadInput, match=r"PaddleDetection.*pip install"):
        build_picodet("xs", num_classes=1, image_size=(64, 64))


@pytest.mark.parametrize("image_size", [(100, 64), (64, 33), (0, 64)])
def test_image_size_is_refused_when_no_multiple_of_32(network: Any, image_size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match=rf"{image_size[0]}x{image_size[1]}.*image_size=\["):
        build_picodet("xs", num_classes=1, image_size=image_size)
    if min(image_size):
        with pytest.raises(BadInput, match="multiples of 32"):
            network(random_images(1, 3, *image_size))


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"'xl'.*xs, s, m, l"):
        build_picodet("xl", num_classes=1, image_size=(64, 64))
    with pytest.raises(BadInput, match=r"'gelu'.*hardswish"):
        build_picodet("xs", num_classes=1, image_size=(64, 64), activation="gelu")


def _calls(monkeypatch: pytest.MonkeyPatch, activation: str | None) -> dict[str, int]:
    """Counts how often each activation runs in a forward."""
    calls = dict.fromkeys(ACTIVATIONS, 0)

    def counted(name: str, function: Any) -> Any:
        def call(x: paddle.Tensor, *rest: Any, **named: Any) -> Any:
            calls[name] += 1
            return function(x, *rest, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ACTIVATIONS:
            patch.setattr(functional, name, counted(name, getattr(functional, name)))
        network = picodet(activation=activation)
        network.eval()
        with paddle.no_grad():
            network(random_images(1, 3, 64, 64))
    return calls


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activation_runs_everywhere_when_chosen(monkeypatch: pytest.MonkeyPatch, activation: str) -> None:
    own = _calls(monkeypatch, None)
    gates = 2  # ReLU inside the backbone's squeeze-and-excitation
    assert {name: count for name, count in own.items() if count} == {"hardswish": own["hardswish"], "relu": gates}
    expected = dict.fromkeys(ACTIVATIONS, 0)
    expected["relu"] = gates
    expected[activation] += own["hardswish"]
    assert _calls(monkeypatch, activation) == expected


def test_upsampling_equals_paddles_own(network: Any) -> None:
    x = random_images(2, 5, 3, 7)
    assert np.array_equal(network.neck.upsample(x).numpy(), paddle.nn.Upsample(scale_factor=2)(x).numpy())


@pytest.mark.parametrize(("opset", "activation"), [(17, None), (13, "relu6")])
def test_onnx_equals_paddle_when_converted(network: Any, opset: int, activation: str | None) -> None:
    if activation:
        network = picodet(activation=activation)
        stir(network)
        network.eval()
    images = random_images(1, 3, 96, 64)
    payload = layer_to_onnx(network, input_shape=(1, 3, 96, 64), opset=opset, debug=False)
    graph = onnx.load_model_from_string(payload).graph
    operators = {node.op_type for node in graph.node}
    assert not operators & {"Mod", "NonZero", "TopK", "OneHot", "NonMaxSuppression", "GatherND", "Loop", "If"}
    assert not (activation and "HardSwish" in operators)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    boxes, scores = session.run(None, {graph.input[0].name: images.numpy()})
    with paddle.no_grad():
        expected = [value.numpy() for value in network(images)]
    np.testing.assert_allclose(boxes, expected[0], atol=1e-3)
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)


def test_top_boxes_find_their_rectangles_when_two_images_are_learned() -> None:
    network = picodet(classes=2, side=(96, 96))
    loss, steps = network.make_loss(), 32
    images = np.full((2, 3, 96, 96), -1.0, np.float32)
    targets = np.array([[[0, 30, 20, 80, 60]], [[1, 10, 40, 44, 84]]], np.float32)
    images[0, :, 20:60, 30:80], images[1, :, 40:84, 10:44] = 1.0, 1.5
    given, wanted = paddle.to_tensor(images), paddle.to_tensor(targets)
    optimizer = paddle.optimizer.AdamW(3e-3, parameters=network.parameters())
    for step in range(steps):
        loss.start_epoch(step, steps)
        total, _ = loss(*network(given), wanted)
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
    # Still in training mode: running statistics follow too slowly for so few steps.
    with paddle.no_grad():
        boxes, scores = (value.numpy() for value in network.decode(network(given)))
    for row, (label, *truth) in enumerate(targets[:, 0]):
        best, found = np.unravel_index(scores[row].argmax(), scores[row].shape)
        assert found == label
        assert _iou(boxes[row, best], truth) > 0.5


def _iou(first: Any, second: Any) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(shared / (sum(areas) - shared))


_IN_A_NEW_PROCESS = """
import logging, os, random, signal, sys, warnings
import cv2, matplotlib, numpy, paddle
from PIL import ImageFile
from paddle_tk.models.picodet import _blocks

def state():
    return (
        list(warnings.filters), ImageFile.LOAD_TRUNCATED_IMAGES, cv2.getNumThreads(), logging.root.level,
        list(logging.root.handlers), [signal.getsignal(s) for s in signal.valid_signals()], sys.excepthook,
        dict.get(matplotlib.rcParams, "backend"), random.getstate(), numpy.random.get_state()[1].tolist(),
        numpy.geterr(), paddle.get_default_dtype(), paddle.get_device(), sys.getrecursionlimit(),
        paddle.rand([4]).tolist(),
    )

paddle.seed(5)
before = state()
paddle.seed(5)
said = os.dup(1), os.dup(2)
with open(sys.argv[1], "w") as sink:
    os.dup2(sink.fileno(), 1), os.dup2(sink.fileno(), 2)
    _blocks()
    sys.stdout.flush(), sys.stderr.flush()
    os.dup2(said[0], 1), os.dup2(said[1], 2)
after = state()
assert "ppdet" in sys.modules
assert [b == a for b, a in zip(before, after)] == [True] * len(before), [a for b, a in zip(before, after) if a != b]
assert open(sys.argv[1]).read() == "", open(sys.argv[1]).read()
"""


def test_process_is_left_as_it_was_when_ppdet_is_imported(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _IN_A_NEW_PROCESS, str(tmp_path / "said")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
