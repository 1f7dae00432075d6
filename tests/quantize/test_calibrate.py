from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from paddle import nn

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.depthwise import use_fast_depthwise
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.quantize.calibrate import WEIGHTED, observe_network, observe_tensors, weighted_layers


def _images(count: int = 2, size: int = 16, batch: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((batch, 3, size, size)).astype(np.float32) for _ in range(count)]


class _Listed(nn.Layer):
    """Layers in a plain list, one of them called twice, one never in evaluation, one by another's parent."""

    def __init__(self) -> None:
        super().__init__()
        first, self.extra = nn.Conv2D(3, 4, 3, padding=1), nn.Conv2D(4, 4, 1)
        self.shared = nn.Conv2D(4, 4, 3, padding=1)
        self.add_sublayer("first", first)
        self.plain = [first, self.shared, self.shared]
        self.up, self.last = nn.Conv2DTranspose(4, 2, 2, stride=2), nn.Linear(2, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for layer in self.plain:
            x = nn.functional.relu(layer(x)) + 0.5
        if self.training:
            x = self.extra(x)
        return self.last(self.up(x).mean([2, 3]))


class _Uneven(nn.Layer):
    """Calls its layer for some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.passes = nn.Conv2D(3, 3, 1), nn.Conv2D(3, 3, 1), 0

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        self.passes += 1
        x = self.always(x)
        return self.sometimes(x) if self.passes == 1 else x


def test_observe_network_sees_what_the_exported_tensors_hold() -> None:
    paddle.seed(0)
    network = build_classifier("resnet18", num_classes=4, image_size=(16, 16))
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):  # otherwise all-one statistics would hide a wrong tensor
            layer._mean.set_value(paddle.rand(layer._mean.shape) - 0.5)
            layer._variance.set_value(paddle.rand(layer._variance.shape) + 0.5)
    batches = _images()
    found = observe_network(network, batches, algorithm="abs_max")
    network.eval()
    model = onnx.load_from_string(layer_to_onnx(network, input_shape=(None, 3, 16, 16), opset=17, debug=False))
    weights = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    inputs = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")}
    names = sorted(set(inputs.values()) - {model.graph.input[0].name})
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def read(batch: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(names, {session.get_inputs()[0].name: batch})
        return {**dict(zip(names, values, strict=True)), session.get_inputs()[0].name: batch}

    tensors = observe_tensors(read, batches, algorithm="abs_max")
    assert len(found) == 21 == len(inputs)
    for item in found:
        [initializer] = [n for n in inputs if np.array_equal(weights[n], item.weight)]
        seen = tensors[inputs[initializer]]
        scale = max(abs(seen.low), abs(seen.high))
        assert item.range.batches == seen.batches == 2
        for ours, theirs in zip(
            (item.range.low, item.range.high, item.range.threshold), (seen.low, seen.high, seen.threshold), strict=True
        ):
            assert abs(ours - theirs) <= 1e-5 * scale, item.name


def test_observe_network_tells_calls_apart_when_layers_are_listed_and_shared() -> None:
    paddle.seed(0)
    network, [batch] = _Listed(), _images(1)
    found = {(item.name, item.call): item for item in observe_network(network, [batch], algorithm="abs_max")}
    assert list(found) == [("first", 0), ("shared", 0), ("shared", 1), ("up", 0), ("last", 0)]
    x = paddle.to_tensor(batch)
    network.eval()
    once = nn.functional.relu(network.plain[0](x)) + 0.5
    twice = nn.functional.relu(network.shared(once)) + 0.5
    for call, value in enumerate((once, twice)):
        assert found["shared", call].range.high == float(value.max())
        assert found["shared", call].range.low == float(value.min())
    np.testing.assert_array_equal(found["last", 0].weight, network.last.weight.numpy())
    assert found["last", 0].weight.shape == (2, 5)


def test_observe_network_sees_the_same_when_the_fast_cpu_kernels_are_in() -> None:
    paddle.seed(0)
    network = build_classifier("mobilenet_v2", num_classes=3, image_size=(32, 32))
    plain = observe_network(network, _images(1, 32), algorithm="hist")
    use_small_map_conv(network)
    use_fast_depthwise(network)
    network.train()
    fast = observe_network(network, _images(1, 32), algorithm="hist")
    assert [(i.name, i.call, i.range) for i in fast] == [(i.name, i.call, i.range) for i in plain]
    assert len(plain) == sum(isinstance(layer, WEIGHTED) for layer in network.sublayers())
    assert network.training


@pytest.mark.parametrize(("name", "unused"), [("picodet_xs", set()), ("yolov10n", {"one_to_many"})])
def test_observe_network_sees_every_layer_that_a_detector_calls_in_evaluation(name: str, unused: set[str]) -> None:
    paddle.seed(0)
    network = build_detector(name, num_classes=2, image_size=(64, 64))
    found = {item.name for item in observe_network(network, _images(1, 64, 1), algorithm="abs_max")}
    assert {path.split(".")[0] for path in weighted_layers(network) if path not in found} == unused


def test_observe_network_leaves_nothing_behind_when_an_image_does_not_fit() -> None:
    network = _Listed()
    network.extra.eval()

    def broken() -> Iterator[np.ndarray]:
        yield _images(1)[0]
        yield np.zeros((1, 2, 16, 16), np.float32)

    with pytest.raises(ValueError, match="channel"):
        observe_network(network, broken(), algorithm="abs_max")
    assert not any(layer._forward_pre_hooks for layer in network.sublayers(include_self=True))
    assert network.training
    assert network.shared.training
    assert not network.extra.training


def test_observe_network_refuses_a_range_that_some_batches_did_not_make() -> None:
    with pytest.raises(ArtifactError, match="sometimes was computed 1 times for calibration batch 1 and 0 times"):
        observe_network(_Uneven(), _images(), algorithm="abs_max")


def test_observe_network_names_the_layer_when_values_are_not_finite() -> None:
    network = _Listed()
    network.plain[0].bias.set_value(paddle.full([4], float("inf")))
    with pytest.raises(ArtifactError, match="shared cannot be calibrated"):
        observe_network(network, _images(), algorithm="kl")


@pytest.mark.parametrize(("batches", "algorithm"), [([], "abs_max"), (_images(), "nonsense")])
def test_observe_network_refuses_when_images_or_algorithm_are_missing(
    batches: list[np.ndarray], algorithm: str
) -> None:
    with pytest.raises(BadInput):
        observe_network(_Listed(), batches, algorithm=algorithm)


def test_observe_network_refuses_a_network_without_weighted_layers() -> None:
    with pytest.raises(ArtifactError, match="nothing to quantize"):
        observe_network(nn.ReLU(), _images(), algorithm="abs_max")


def test_observe_tensors_refuses_a_tensor_that_is_missing_for_a_batch_or_not_float() -> None:
    seen: list[int] = []

    def forgetful(batch: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(1)
        return {"a": batch} if len(seen) == 1 else {}

    with pytest.raises(ArtifactError, match="a was computed 1 times"):
        observe_tensors(forgetful, _images(), algorithm="abs_max")
    with pytest.raises(ArtifactError, match=r"shape cannot be calibrated.*int64"):
        observe_tensors(lambda batch: {"shape": np.arange(3)}, _images(), algorithm="abs_max")


def test_observe_reports_progress_in_images() -> None:
    done: list[int] = []
    observe_tensors(lambda batch: {"x": batch}, _images(3), algorithm="abs_max", advance=done.append)
    assert done == [3, 3, 3]
