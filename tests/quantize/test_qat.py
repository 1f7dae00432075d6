from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_tk.errors import CheckFailed
from paddle_tk.models.depthwise import use_fast_depthwise
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.models.weights import network_arrays
from paddle_tk.quantize.calibrate import LayerInput, observe_network, weighted_layers
from paddle_tk.quantize.qat import insert_fake_quantizers, remove_fake_quantizers

_RNG = np.random.default_rng(0)


class _Net(nn.Layer):
    """Every kind of weighted layer: depthwise, small maps, batch norm, transposed, from a plain list, shared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False), nn.BatchNorm2D(8)
        self.deep, self.shared = nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.Conv2D(8, 8, 3, padding=1)
        self.plain = [self.deep, self.shared, self.shared]
        self.up, self.head, self.extra = nn.Conv2DTranspose(8, 6, 2, stride=2), nn.Linear(6, 4), nn.Conv2D(8, 8, 1)
        self.passes_of_shared = 2

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = nn.functional.relu(self.norm(self.conv(x)))
        for layer in self.plain[: 1 + self.passes_of_shared]:
            x = nn.functional.relu6(layer(x))
        if self.training:
            x = x + 0.1 * self.extra(x)
        return self.head(self.up(x).mean([2, 3]))


@pytest.fixture
def net() -> _Net:
    paddle.seed(1)
    network = _Net()
    network.norm._mean.set_value(paddle.rand([8]) - 0.5)
    network.norm._variance.set_value(paddle.rand([8]) + 0.5)
    return network


_IMAGES = _RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)


def _calibrated(network: Any) -> list[LayerInput]:
    return observe_network(network, [_IMAGES], algorithm="abs_max")


def _quantized(values: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    steps = np.clip(values / threshold * 127, -127, 127)
    return np.trunc(steps + np.copysign(0.5, steps)) * threshold / 127  # Paddle rounds halves away from zero


def _trainable(network: Any) -> list[str]:
    return [name for name, parameter in network.named_parameters() if not parameter.stop_gradient]


def _step(network: Any) -> dict[str, np.ndarray]:
    network.train()
    (network(paddle.to_tensor(_IMAGES)) ** 2).mean().backward()
    return {name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "axis"), [("conv", 0), ("deep", 0), ("up", 1), ("head", 1)])
def test_evaluation_equals_quantize_dequantize_in_numpy(net: _Net, name: str, axis: int) -> None:
    insert_fake_quantizers(net, _calibrated(net))
    layer = getattr(net, name)
    seen: dict[str, Any] = {}
    layer.register_forward_pre_hook(lambda layer, inputs: seen.update(x=inputs[0].numpy()))
    layer.register_forward_post_hook(lambda layer, inputs, output: seen.update(y=output.numpy()))
    net.eval()
    net(paddle.to_tensor(_IMAGES))
    [item] = [i for i in remove_fake_quantizers(net)[1] if i.name == name]
    others = tuple(i for i in range(item.weight.ndim) if i != axis)
    weight = _quantized(item.weight, np.abs(item.weight).max(axis=others, keepdims=True))
    layer.weight.set_value(weight.astype(np.float32))
    expected = layer(paddle.to_tensor(_quantized(seen["x"], item.range.threshold).astype(np.float32)))
    np.testing.assert_allclose(seen["y"], expected.numpy(), rtol=1e-5, atol=1e-6)
    assert len(np.unique(weight.take(0, axis=axis))) <= 255


def test_weight_scales_commute_with_folding_batch_norm() -> None:
    weight, factors = _RNG.standard_normal((5, 3, 3, 3)), _RNG.uniform(0.1, 9, (5, 1, 1, 1))
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(_quantized(weight, largest) * factors, _quantized(weight * factors, largest * factors))


def test_gradient_flows_to_every_parameter_that_had_one(net: _Net) -> None:
    plain = _step(net)
    net.clear_gradients(set_to_zero=False)
    before = _trainable(net)
    assert insert_fake_quantizers(net, _calibrated(net), freeze_norm=False) == 5
    found = _step(net)
    assert set(found) == set(plain)
    assert _trainable(net) == before  # scales learn from the data, not by gradient
    for name, gradient in found.items():
        assert np.isfinite(gradient).all()
        cosine = (gradient * plain[name]).sum() / (np.linalg.norm(gradient) * np.linalg.norm(plain[name]) + 1e-12)
        assert cosine > 0.9 or np.abs(plain[name]).max() < 1e-6, name


def test_training_and_evaluation_are_the_same_when_the_fast_cpu_kernels_are_in() -> None:
    results = []
    for fast in (False, True):
        paddle.seed(1)
        network = _Net()
        inputs = _calibrated(network)
        if fast:
            assert use_small_map_conv(network) > 0
            assert use_fast_depthwise(network, required=True) == 1
        insert_fake_quantizers(network, inputs)
        gradients = _step(network)
        network.eval()
        results.append({**gradients, "output": network(paddle.to_tensor(_IMAGES)).numpy()})
    for name, value in results[0].items():
        np.testing.assert_allclose(value, results[1][name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_scales_start_calibrated_and_follow_batches_in_training_only(net: _Net) -> None:
    inputs = _calibrated(net)
    insert_fake_quantizers(net, inputs, moving_rate=0.9)
    net.eval()
    net(paddle.to_tensor(10 * _IMAGES))
    net.train()
    net(paddle.to_tensor(3 * _IMAGES))
    [first] = [i for i in remove_fake_quantizers(net)[1] if i.name == "conv"]
    [given] = [i for i in inputs if i.name == "conv"]
    expected = 0.9 * given.range.threshold + 0.1 * 3 * np.abs(_IMAGES).max()
    assert first.range.threshold == pytest.approx(expected, rel=1e-5)
    assert (first.range.low, first.range.high, first.range.algorithm) == (given.range.low, given.range.high, "qat")


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norm_keeps_its_statistics_when_frozen_and_learns_its_weights_either_way(net: _Net, freeze: bool) -> None:
    insert_fake_quantizers(net, _calibrated(net), freeze_norm=freeze)
    before = net.norm._mean.numpy()
    gradients = _step(net)
    assert np.array_equal(net.norm._mean.numpy(), before) is freeze
    assert np.abs(gradients["norm.weight"]).max() > 0
    remove_fake_quantizers(net)
    _step(net)
    assert not np.array_equal(net.norm._mean.numpy(), before)


def test_each_call_of_a_shared_layer_has_a_scale_of_its_own(net: _Net) -> None:
    inputs = _calibrated(net)
    insert_fake_quantizers(net, inputs)
    for _ in range(3):
        net.eval()
        net(paddle.to_tensor(_IMAGES))
    given = [i.range.threshold for i in inputs if i.name == "shared"]
    found = [i for i in remove_fake_quantizers(net)[1] if i.name == "shared"]
    assert [i.call for i in found] == [0, 1]
    assert [i.range.threshold for i in found] == pytest.approx(given)
    assert given[0] != given[1]


def test_training_refuses_when_a_shared_layer_is_called_another_number_of_times(net: _Net) -> None:
    insert_fake_quantizers(net, _calibrated(net))
    net.passes_of_shared = 1
    net(paddle.to_tensor(_IMAGES))
    with pytest.raises(CheckFailed, match="shared was called 1 times"):
        net(paddle.to_tensor(_IMAGES))


def test_network_is_itself_again_when_fake_quantizers_are_removed(net: _Net) -> None:
    use_fast_depthwise(net)
    forward, names = net.deep.forward, set(net.state_dict())
    net.eval()
    before = net(paddle.to_tensor(_IMAGES)).numpy()
    insert_fake_quantizers(net, _calibrated(net))
    assert set(net.state_dict()) > names
    assert not np.array_equal(net(paddle.to_tensor(_IMAGES)).numpy(), before)
    state, _ = remove_fake_quantizers(net)
    np.testing.assert_array_equal(net(paddle.to_tensor(_IMAGES)).numpy(), before)
    assert set(state) == set(net.state_dict()) == names
    assert net.deep.forward is forward
    assert not net._forward_pre_hooks
    assert "forward" not in net.conv.__dict__


def test_state_loads_into_a_plain_network_and_into_one_with_fake_quantizers(net: _Net) -> None:
    inputs = _calibrated(net)
    insert_fake_quantizers(net, inputs)
    _step(net)
    saved = network_arrays(net)
    net.eval()
    expected = net(paddle.to_tensor(_IMAGES)).numpy()
    paddle.seed(5)
    other = _Net()
    insert_fake_quantizers(other, _calibrated(other))
    other.set_state_dict({name: paddle.to_tensor(array) for name, array in saved.items()})
    other.eval()
    np.testing.assert_array_equal(other(paddle.to_tensor(_IMAGES)).numpy(), expected)
    state, learned = remove_fake_quantizers(other)
    missing, unexpected = _Net().set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    assert not missing
    assert not unexpected
    assert {i.name for i in learned} == {i.name for i in inputs}


def test_layers_stay_in_float_when_skipped_or_never_called_in_evaluation(net: _Net) -> None:
    inputs = _calibrated(net)
    assert insert_fake_quantizers(net, inputs, skip=["head"]) == 4
    assert "forward" not in net.head.__dict__
    assert "forward" not in net.extra.__dict__
    assert "head" not in {i.name for i in remove_fake_quantizers(net)[1]}


@pytest.mark.parametrize("name", ["picodet_xs", "yolov10n"])
def test_detector_trains_with_fake_quantizers_in_every_layer_it_calls(name: str) -> None:
    paddle.seed(0)
    network = build_detector(name, num_classes=2, image_size=(64, 64))
    images = paddle.to_tensor(_RNG.standard_normal((2, 3, 64, 64)).astype(np.float32))
    network.train()
    with paddle.no_grad():
        for _ in range(20):  # statistics of batch norm that are worth the name
            network(images)
    inputs = observe_network(network, [images.numpy()], algorithm="abs_max")
    assert insert_fake_quantizers(network, inputs) == len(inputs)
    loss, target = network.make_loss(), paddle.to_tensor(np.float32([[[0, 5, 5, 40, 40]], [[1, 9, 9, 30, 50]]]))
    network.train()
    loss.start_epoch(0, 1)
    total, _ = loss(*network(images), target)
    total.backward()
    called = {item.name for item in inputs}
    gradients = {n: layer.weight.grad for n, layer in weighted_layers(network).items() if n in called}
    assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients.values())
    network.eval()
    assert all(np.isfinite(value.numpy()).all() for value in network(images))


def test_insert_refuses_twice_and_unknown_layers(net: _Net) -> None:
    inputs = _calibrated(net)
    with pytest.raises(ValueError, match="no weighted layer 'nonsense'"):
        insert_fake_quantizers(net, inputs, skip=["nonsense"])
    insert_fake_quantizers(net, inputs)
    with pytest.raises(ValueError, match="already"):
        insert_fake_quantizers(net, inputs)
