"""The clean-ups on networks as Paddle2ONNX writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import paddle
import pytest

from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.export.graph import node_counts, simplify
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.detectors import DETECTORS, build_detector
from tests.export.graph.tiny import run

LEFT_BY_A_CONVERTER = {"BatchNormalization", "Constant", "Identity", "Shape", "Dropout", "Cast", "MatMul"}
_IMAGES = 16


def _network(name: str, side: int) -> Any:
    paddle.seed(0)
    if name in DETECTORS:
        return build_detector(name, num_classes=3, image_size=(side, side))
    return build_classifier(name, num_classes=7, image_size=(side, side))


def _give_weights(network: Any, images: np.ndarray) -> None:
    """Random weights that keep a signal alive, factors of both signs, and statistics of these very images.

    Fresh weights would let it fade out, and with it every difference between two graphs.
    """
    rng = np.random.default_rng(0)
    network.eval()
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.Conv2D | paddle.nn.Linear):
            shape = layer.weight.shape
            inputs = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
            layer.weight.set_value((rng.standard_normal(shape) / np.sqrt(inputs)).astype(np.float32))
        elif isinstance(layer, paddle.nn.BatchNorm2D | paddle.nn.BatchNorm):
            factors = rng.uniform(0.5, 1.5, layer.weight.shape) * rng.choice([-1, 1], layer.weight.shape)
            layer.weight.set_value(factors.astype(np.float32))
            layer.bias.set_value(rng.normal(0, 0.1, layer.bias.shape).astype(np.float32))
            layer._momentum = 0.0  # the next statistics replace what is there
            layer.train()
    with paddle.no_grad():
        network(paddle.to_tensor(images))
    network.eval()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("resnet18", 32),
        ("mobilenet_v3_small", 32),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("efficientnet_b0", 32),
                ("shufflenet_v2_x1_0", 32),
                ("googlenet", 64),
                ("picodet_xs", 64),
                ("yolov10n", 64),
            )
        ),
    ],
)
def test_simplify_computes_the_same_with_far_fewer_nodes_when_a_network_was_converted(name: str, side: int) -> None:
    images = np.random.default_rng(1).standard_normal((_IMAGES, 3, side, side), dtype=np.float32)
    network = _network(name, side)
    _give_weights(network, images)
    payload = layer_to_onnx(network, input_shape=(None, 3, side, side), opset=17, debug=False)
    before = onnx.load_model_from_string(payload)
    after = simplify(before)
    onnx.checker.check_model(after, full_check=True)
    counts = node_counts(after)
    assert counts.keys() & LEFT_BY_A_CONVERTER <= ({"MatMul"} if name == "yolov10n" else set())  # its attention
    assert sum(counts.values()) < 0.4 * len(before.graph.node)
    assert len(after.SerializeToString()) < len(payload)
    feed = {before.graph.input[0].name: images[:2]}
    for old, new in zip(run(before, **feed), run(after, **feed), strict=True):
        assert old.std() > 1e-3  # else nothing would be compared
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-4 * np.abs(old).max())
