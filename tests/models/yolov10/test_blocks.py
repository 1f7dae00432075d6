from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.models.activations import make_activation
from paddle_tk.models.yolov10.blocks import (
    Attention,
    Bottleneck,
    CompactBottleneck,
    ConvNorm,
    LargeKernel,
    PartialAttention,
    PyramidPool,
    SeparatedDown,
    Stage,
    c2f,
    c2f_cib,
)
from tests.models.yolov10.small import settle_norms


def _noise(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (lambda: SeparatedDown(8, 12, "silu"), [2, 12, 3, 4]),
        (lambda: PyramidPool(8, "silu"), [2, 8, 6, 8]),
        (lambda: PartialAttention(8, "silu"), [2, 8, 6, 8]),
        (lambda: c2f(8, 12, 2, shortcut=False, act="silu"), [2, 12, 6, 8]),
        (lambda: c2f_cib(8, 12, 2, large_kernel=True, act="silu"), [2, 12, 6, 8]),
    ],
)
def test_blocks_give_the_expected_shapes(block: object, shape: list[int]) -> None:
    assert block()(_noise(2, 8, 6, 8)).shape == shape  # type: ignore[operator]


def test_norms_have_the_published_settings() -> None:
    norm = ConvNorm(3, 4, 3, act="silu").norm
    assert (norm._epsilon, norm._momentum) == (1e-3, 0.97)


def test_depthwise_weights_start_with_the_scale_of_their_own_fan_in() -> None:
    weight = ConvNorm(64, 64, 3, groups=64, act=None).conv.weight.numpy()
    assert 0.9 / 3 < np.abs(weight).max() <= 1 / 3


@pytest.mark.parametrize("layer", [lambda: ConvNorm(6, 8, 3, stride=2, act="relu6"), lambda: LargeKernel(6, "silu")])
def test_fused_layers_equal_the_original_when_norms_have_statistics(layer: object) -> None:
    original = layer()  # type: ignore[operator]
    settle_norms(original)
    original.eval()
    x = _noise(2, 6, 9, 10)
    fused = original.fused()
    assert not [part for part in fused.sublayers() if isinstance(part, paddle.nn.BatchNorm2D)]
    np.testing.assert_allclose(fused(x).numpy(), original(x).numpy(), atol=1e-5, rtol=1e-4)


def test_attention_equals_a_plain_computation() -> None:
    paddle.seed(0)
    layer = Attention(8, heads=2)
    settle_norms(layer)
    layer.eval()
    x = _noise(1, 8, 2, 3)
    joined = layer.query_key_value(x).numpy().reshape(2, 8, 6)  # per head: 2 of queries, 2 of keys, 4 of values
    heads = []
    for part in joined:
        query, key, value = part[:2], part[2:4], part[4:]
        weights = np.exp(query.T @ key / np.sqrt(2.0))
        heads.append(value @ (weights / weights.sum(1, keepdims=True)).T)
    values = paddle.to_tensor(joined[:, 4:].reshape(1, 8, 2, 3))
    mixed = paddle.to_tensor(np.stack(heads).reshape(1, 8, 2, 3).astype(np.float32)) + layer.position(values)
    np.testing.assert_allclose(layer(x).numpy(), layer.project(mixed).numpy(), atol=1e-5)


def test_a_stage_joins_both_halves_and_every_block() -> None:
    stage = c2f(8, 6, 3, shortcut=True, act="relu")
    assert isinstance(stage, Stage)
    assert all(isinstance(block, Bottleneck) for block in stage.blocks)
    assert stage.join.conv.weight.shape[:2] == [6, (2 + 3) * 3]
    compact = c2f_cib(8, 6, 1, large_kernel=False, act="relu").blocks[0]
    assert isinstance(compact, CompactBottleneck)
    assert compact.layers[2].conv.weight.shape == [6, 1, 3, 3]


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="hardswish, relu, relu6, silu"):
        make_activation("gelu")
