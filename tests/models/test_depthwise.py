from __future__ import annotations

import copy
import importlib
import itertools
import multiprocessing
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.distributed.fleet.utils import recompute

from paddle_tk.environment.threads import OMP
from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.depthwise import use_fast_depthwise
from paddle_tk.models.small_map_conv import use_small_map_conv

Arrays = tuple[np.ndarray, ...]


def _layer(channels: int = 3, kernel: Any = 3, many: int = 1, **others: Any) -> paddle.nn.Conv2D:
    paddle.seed(0)
    return paddle.nn.Conv2D(channels, channels * many, kernel, groups=channels, **others)


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _run(layer: paddle.nn.Layer, x: np.ndarray, dy: np.ndarray | None = None) -> Arrays:
    """Returns the output, and for ``dy`` (or something like it) the gradients to the input and all parameters."""
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = layer(tensor)
    y.backward(paddle.to_tensor(_normal(*y.shape, seed=1) if dy is None else dy))
    gradients = [p.grad.numpy() for p in layer.parameters()]
    layer.clear_gradients()
    return (y.numpy(), tensor.grad.numpy(), *gradients)


def _assert_close(found: Arrays, expected: Arrays) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1e-3, float(np.abs(theirs).max())))


def _reference(x: np.ndarray, w: np.ndarray, dy: np.ndarray, case: dict[str, Any]) -> Arrays:
    """Returns output and gradients by the definition, tap by tap in float64."""
    (sh, sw), (dh, dw), (top, bottom, left, right) = case["stride"], case["dilation"], case["padding"]
    many, (rows, columns) = w.shape[0] // x.shape[1], dy.shape[2:]
    weight = w.astype(np.float64)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right))).repeat(many, axis=1)
    y, back, gradient = np.zeros(dy.shape), np.zeros_like(padded), np.zeros_like(weight)
    for i, j in itertools.product(range(w.shape[2]), range(w.shape[3])):
        place = np.s_[:, :, i * dh : i * dh + sh * rows : sh, j * dw : j * dw + sw * columns : sw]
        y += padded[place] * weight[:, 0, i, j][:, None, None]
        back[place] += dy * weight[:, 0, i, j][:, None, None]
        gradient[:, 0, i, j] = (padded[place] * dy).sum((0, 2, 3))
    height, width = x.shape[2:]
    back = back[:, :, top : top + height, left : left + width]
    return y, back.reshape(x.shape[0], x.shape[1], many, height, width).sum(2), gradient


@st.composite
def _cases(draw: st.DrawFn) -> dict[str, Any]:
    def numbers(least: int, most: int, count: int) -> list[int]:
        return [draw(st.integers(least, most)) for _ in range(count)]

    kernel, stride, dilation, padding = numbers(1, 7, 2), numbers(1, 3, 2), numbers(1, 3, 2), numbers(0, 5, 4)
    least = [
        max(1, (k - 1) * d + 1 - sum(p)) for k, d, p in zip(kernel, dilation, (padding[:2], padding[2:]), strict=True)
    ]
    size = [draw(st.integers(s, s + 20)) for s in least]
    batch, channels, many = draw(st.integers(1, 3)), draw(st.integers(2, 3)), draw(st.integers(1, 2))
    layer = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding, "many": many}
    return {**layer, "channels": channels, "shape": (batch, channels, *size)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_cases())
def test_output_and_gradients_follow_the_definition_when_geometry_is_any(case: dict[str, Any]) -> None:
    shape = case.pop("shape")
    layer = _layer(**case, bias_attr=False)
    assert use_fast_depthwise(layer) == 1
    x = _normal(*shape)
    found = _run(layer, x)
    _assert_close(found, _reference(x, layer.weight.numpy(), _normal(*found[0].shape, seed=1), case))


CASES: list[dict[str, Any]] = [
    {"kernel": 3, "padding": 1},
    {"kernel": 3, "padding": 1, "stride": 2},
    {"kernel": 5, "padding": 2, "stride": 2, "bias_attr": False},
    {"kernel": 7, "padding": [3, 2], "dilation": 2},
    {"kernel": (1, 3), "padding": [[0, 0], [0, 0], [1, 2], [0, 1]], "many": 2},
    {"kernel": 2, "padding": "VALID"},
]


@pytest.mark.parametrize("size", [(40, 41), (13, 14)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_and_gradients_equal_paddles(case: dict[str, Any], size: tuple[int, int]) -> None:
    layer = _layer(4, **case)
    x = _normal(2, 4, *size)
    expected = _run(layer, x)
    assert use_fast_depthwise(layer) == 1
    _assert_close(_run(layer, x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_bits_stay_the_same_when_repeated_or_with_other_threads(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = _layer(13, 5, padding=2, stride=stride)
    use_fast_depthwise(layer)
    x = _normal(4, 13, 160, 160)
    runs = []
    for threads in ("1", "1", "2", "5", "2,1"):
        monkeypatch.setenv(OMP, threads)
        runs.append(_run(layer, x))
    for other in runs[1:]:
        for first, again in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 1},
        {"groups": 2},
        {"padding": "SAME"},
        {"padding_mode": "circular"},
        {"data_format": "NHWC"},
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(change: dict[str, Any]) -> None:
    layer = paddle.nn.Conv2D(4, 4, 3, **{"padding": 1, "groups": 4, **change})
    assert use_fast_depthwise(paddle.nn.Sequential(layer, paddle.nn.Conv2DTranspose(4, 4, 3, groups=4))) == 0


def test_single_channel_convolutions_are_left_to_the_ordinary_ones() -> None:
    assert use_fast_depthwise(paddle.nn.Conv2D(1, 1, 3)) == 0


def test_evaluation_keeps_paddles_bits() -> None:
    network = build_classifier("mobilenet_v2", num_classes=4, stem="small", image_size=(16, 16))
    network.eval()
    x = paddle.rand([2, 3, 16, 16])
    before = network(x).numpy()
    assert use_fast_depthwise(network) == 17
    np.testing.assert_array_equal(network(x).numpy(), before)


def test_other_types_take_paddles_kernel() -> None:
    layer = _layer(padding=1)
    use_fast_depthwise(layer)
    layer.to(dtype="float64")
    y = layer(paddle.rand([1, 3, 8, 8], dtype="float64"))
    assert y.dtype == paddle.float64


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (0, 3, 8, 8)])
def test_empty_outputs_are_paddles(shape: tuple[int, ...]) -> None:
    layer = _layer()
    expected = layer(paddle.rand(shape)).shape
    use_fast_depthwise(layer)
    assert layer(paddle.rand(shape)).shape == expected


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8)])
def test_inputs_that_do_not_fit_get_paddles_own_errors(shape: tuple[int, ...]) -> None:
    layer = _layer()
    use_fast_depthwise(layer)
    with pytest.raises(ValueError, match=r"Op\(Conv\)"):
        layer(paddle.rand(shape))


def test_only_the_gradients_that_are_needed_are_made() -> None:
    layer = _layer(padding=1, bias_attr=False)
    x = _normal(2, 3, 9, 9)
    _, dx, dw = _run(layer, x)
    use_fast_depthwise(layer)
    fixed = paddle.to_tensor(x)
    y = layer(fixed)
    y.backward(paddle.to_tensor(_normal(*y.shape, seed=1)))
    assert fixed.grad is None
    _assert_close((layer.weight.grad.numpy(),), (dw,))
    layer.weight.clear_gradient(False)
    layer.weight.stop_gradient = True
    free = paddle.to_tensor(x, stop_gradient=False)
    y = layer(free)
    y.backward(paddle.to_tensor(_normal(*y.shape, seed=1)))
    assert layer.weight.grad is None
    _assert_close((free.grad.numpy(),), (dx,))


def test_transposed_inputs_and_gradients_are_read_in_order() -> None:
    layer = _layer(padding=1, bias_attr=False)
    x = _normal(2, 3, 9, 7)
    expected = _run(layer, x)
    use_fast_depthwise(layer)
    base = paddle.to_tensor(x.transpose(3, 1, 2, 0).copy(), stop_gradient=False)
    y = layer(base.transpose([3, 1, 2, 0]))
    turned = y.transpose([3, 2, 1, 0])
    turned.backward(paddle.to_tensor(_normal(*y.shape, seed=1).transpose(3, 2, 1, 0).copy()))
    _assert_close((y.numpy(), base.grad.numpy().transpose(3, 1, 2, 0)), expected[:2])


def _separable(channels: int, out: int, kernel: int, stride: int) -> list[paddle.nn.Layer]:
    nn, settings = paddle.nn, {"stride": stride, "padding": kernel // 2, "groups": channels, "bias_attr": False}
    depthwise = [nn.Conv2D(channels, channels, kernel, **settings), nn.BatchNorm2D(channels), nn.Hardswish()]
    return [*depthwise, nn.Conv2D(channels, out, 1, bias_attr=False), nn.BatchNorm2D(out), nn.Hardswish()]


def test_training_gradients_of_a_network_agree_when_small_maps_are_fast_too() -> None:
    gradients = []
    x, y = paddle.to_tensor(_normal(8, 8, 12, 12)), paddle.to_tensor([0, 1, 2, 3] * 2)
    for swap in (False, True):
        paddle.seed(0)
        blocks = _separable(8, 12, 3, 1), _separable(12, 16, 5, 2), _separable(16, 16, 3, 2)
        network = paddle.nn.Sequential(*itertools.chain(*blocks), paddle.nn.Flatten(), paddle.nn.Linear(144, 4))
        if swap:
            assert (use_small_map_conv(network), use_fast_depthwise(network)) == (3, 3)
        paddle.nn.functional.cross_entropy(network(x), y).backward()
        gradients.append({n: p.grad.numpy() for n, p in network.named_parameters() if p.grad is not None})
    for name, value in gradients[0].items():
        scale = max(1e-3, float(np.abs(value).max()))
        assert float(np.abs(value - gradients[1][name]).max()) / scale < 1e-4, name


def test_parameter_names_stay_the_same() -> None:
    network = build_classifier("efficientnet_b0", num_classes=4, stem="imagenet", image_size=(64, 64))
    names = list(network.state_dict())
    assert use_fast_depthwise(network) == 16
    assert list(network.state_dict()) == names


def test_recomputation_gives_the_same_gradients() -> None:
    layer = _layer(padding=1, bias_attr=False)
    use_fast_depthwise(layer)
    x = _normal(2, 3, 9, 9)
    expected = _run(layer, x)
    tensor = paddle.to_tensor(x, stop_gradient=False)
    y = recompute(layer, tensor)
    y.backward(paddle.to_tensor(_normal(*y.shape, seed=1)))
    for ours, theirs in zip((tensor.grad, layer.weight.grad), expected[1:], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_copies_train_their_own_weights() -> None:
    network = paddle.nn.Sequential(_layer(padding=1, bias_attr=False))
    use_fast_depthwise(network)
    other = copy.deepcopy(network)
    other[0].weight.set_value(2 * network[0].weight)
    x = paddle.rand([1, 3, 8, 8])
    np.testing.assert_array_equal(other(x).numpy(), 2 * network(x).numpy())


def test_a_second_call_changes_nothing() -> None:
    network = paddle.nn.Sequential(_layer())
    assert use_fast_depthwise(network) == 1
    forward = network[0].forward
    assert use_fast_depthwise(network) == 1
    assert network[0].forward is forward


def test_a_traced_graph_has_paddles_operator_when_training(tmp_path: Path) -> None:
    network = paddle.nn.Sequential(_layer(padding=1))
    use_fast_depthwise(network)
    x = paddle.rand([1, 3, 8, 8])
    for mode in (network.train, network.eval):
        mode()
        paddle.jit.save(network, str(tmp_path / "net"), input_spec=[paddle.static.InputSpec([1, 3, 8, 8])])
        np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "net"))(x).numpy(), network(x).numpy(), atol=1e-5)
        assert "depthwise_conv2d" in (tmp_path / "net.json").read_text()


def _child(queue: Any, x: np.ndarray) -> None:
    queue.put(float(x.sum()))


def test_children_may_be_forked_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OMP, "2")
    layer = _layer(13, 5, padding=2)
    use_fast_depthwise(layer)
    x = _normal(4, 13, 96, 96)
    before = _run(layer, x)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(queue, np.ones(7)))
    child.start()
    during = _run(layer, x)
    assert queue.get() == 7
    child.join(30)
    assert child.exitcode == 0
    for first, second, third in zip(before, during, _run(layer, x), strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


@pytest.fixture
def _without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    from paddle_tk.models import depthwise

    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "paddle_tk.models.depthwise_kernels", raising=False)
    depthwise._kernels.cache_clear()


@pytest.mark.usefixtures("_without_numba")
def test_a_missing_numba_is_an_error_only_when_required() -> None:
    layer = _layer(padding=1)
    with pytest.raises(BadInput, match="numba"):
        use_fast_depthwise(layer, required=True)
    with pytest.warns(UserWarning, match="slower"):
        assert use_fast_depthwise(layer) == 0
    x = paddle.rand([1, 3, 8, 8])
    np.testing.assert_array_equal(layer(x).numpy(), type(layer).forward(layer, x).numpy())


@pytest.mark.usefixtures("_without_numba")
def test_numba_is_not_asked_for_when_nothing_is_depthwise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert use_fast_depthwise(paddle.nn.Conv2D(4, 4, 3), required=True) == 0


def test_kernels_compile_when_no_folder_can_keep_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    monkeypatch.setattr(numba.core.caching.config, "CACHE_LOCATOR_CLASSES", "IPythonCacheLocator")
    monkeypatch.delitem(sys.modules, "paddle_tk.models.depthwise_kernels", raising=False)
    kernels = importlib.import_module("paddle_tk.models.depthwise_kernels")
    assert kernels.forward.stats.cache_path is None
