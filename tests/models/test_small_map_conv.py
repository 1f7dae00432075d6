from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.small_map_conv import use_small_map_conv


def _run(layer: paddle.nn.Layer, x: np.ndarray) -> tuple[np.ndarray, ...]:
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = layer(tensor)
    (y * paddle.arange(int(np.prod(y.shape)), dtype="float32").reshape(y.shape).sin()).sum().backward()
    gradients = [p.grad.numpy() for p in layer.parameters()]
    layer.clear_gradients()
    return (y.numpy(), tensor.grad.numpy(), *gradients)


CASES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "bias_attr": False},
    {"kernel_size": (1, 3), "padding": (0, 1)},
    {"kernel_size": 1, "padding": 1},
    {"kernel_size": 4, "padding": 0},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
@pytest.mark.parametrize("size", [(4, 4), (4, 5), (5, 3)])
def test_output_and_gradients_equal_paddles_when_maps_are_small(
    settings: dict[str, Any], size: tuple[int, int]
) -> None:
    if settings["kernel_size"] == 4 and min(size) < 4:
        pytest.skip("the kernel is larger than the map")
    paddle.seed(0)
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(6, 5, **settings))
    x = np.random.default_rng(0).normal(size=(3, 6, *size)).astype(np.float32)
    expected = _run(layer, x)
    assert use_small_map_conv(layer) == 1
    for ours, theirs in zip(_run(layer, x), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"groups": 2}, {"dilation": 2}, {"padding": "SAME"}, {"padding_mode": "circular"}]
)
def test_other_convolutions_are_left_alone(settings: dict[str, Any]) -> None:
    assert use_small_map_conv(paddle.nn.Sequential(paddle.nn.Conv2D(6, 4, 3, **{"padding": 1, **settings}))) == 0


def test_evaluation_keeps_paddles_bits() -> None:
    paddle.seed(0)
    network = build_classifier("resnet18", num_classes=4, stem="small", image_size=(16, 16))
    network.eval()
    x = paddle.rand([2, 3, 16, 16])
    before = network(x).numpy()
    assert use_small_map_conv(network) == 20
    np.testing.assert_array_equal(network(x).numpy(), before)


def test_training_gradients_of_a_whole_network_agree() -> None:
    gradients = []
    x, y = paddle.rand([4, 3, 16, 16]), paddle.to_tensor([0, 1, 2, 3])
    for swap in (False, True):
        paddle.seed(0)
        network = build_classifier("resnet18", num_classes=4, stem="small", image_size=(16, 16))
        if swap:
            use_small_map_conv(network)
        paddle.nn.functional.cross_entropy(network(x), y).backward()
        gradients.append({n: p.grad.numpy() for n, p in network.named_parameters() if p.grad is not None})
    for name, value in gradients[0].items():
        scale = max(1e-3, float(np.abs(value).max()))
        assert float(np.abs(value - gradients[1][name]).max()) / scale < 1e-3, name


def test_parameter_names_stay_the_same() -> None:
    network = build_classifier("mobilenet_v2", num_classes=4, stem="small", image_size=(16, 16))
    names = list(network.state_dict())
    use_small_map_conv(network)
    assert list(network.state_dict()) == names


def test_the_way_can_be_decided_from_outside() -> None:
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(6, 5, 3, padding=1))
    x = np.random.default_rng(0).normal(size=(3, 6, 9, 9)).astype(np.float32)
    expected = _run(layer, x)
    use_small_map_conv(layer)
    asked: list[tuple[int, int]] = []
    layer[0].forward.small = lambda height, width: bool(asked.append((height, width))) or True
    for ours, theirs in zip(_run(layer, x), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-5)
    assert asked == [(9, 9)]
