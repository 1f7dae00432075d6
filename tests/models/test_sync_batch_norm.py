"""The layer with one process, and with processes that are played one after the other; real jobs: test_together.py."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_tk.models.sync_batch_norm import running_statistics, use_sync_batch_norm

SHAPE = (6, 5, 7, 4)


class Alone:
    """A job of one process."""

    def __init__(self, own_images: int = SHAPE[0], training: bool = True) -> None:
        self.own_images, self.training = own_images, training

    def add_up(self, tensor: paddle.Tensor) -> None:
        """Leaves it: there is no other process."""


class Other(Alone):
    """A job whose other process has said what it adds beforehand."""

    def __init__(self, own_images: int, said: list[np.ndarray]) -> None:
        super().__init__(own_images)
        self.said = list(said)

    def add_up(self, tensor: paddle.Tensor) -> None:
        """Adds what the other one has."""
        paddle.assign(tensor + paddle.to_tensor(self.said.pop(0)), tensor)


def _images(count: int = SHAPE[0]) -> paddle.Tensor:
    values = np.random.default_rng(0).normal(3.0, 2.0, SHAPE).astype(np.float32)[:count]
    tensor = paddle.to_tensor(values)
    tensor.stop_gradient = False
    return tensor


def _norm(job: Alone | None = None) -> nn.BatchNorm2D:
    layer = nn.BatchNorm2D(SHAPE[1])
    layer.weight.set_value(np.linspace(0.5, 2.0, SHAPE[1], dtype=np.float32))
    if job is not None:
        assert use_sync_batch_norm(layer, job) == 1
    return layer


def _passes(layer: nn.BatchNorm2D, images: paddle.Tensor) -> dict[str, np.ndarray]:
    y = layer(images)
    slope = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)[: images.shape[0]]
    (y * paddle.to_tensor(slope)).sum().backward()
    found = {"y": y, "dx": images.grad, "dweight": layer.weight.grad, "dbias": layer.bias.grad}
    found |= {"mean": layer._mean, "variance": layer._variance}
    return {name: value.numpy() for name, value in found.items()}


def test_layer_equals_paddle_s_when_the_process_is_alone() -> None:
    expected, found = _passes(_norm(), _images()), _passes(_norm(Alone()), _images())
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("network_trains", "job_trains"), [(False, True), (True, False)])
def test_layer_is_paddle_s_own_when_it_does_not_train_with_others(network_trains: bool, job_trains: bool) -> None:
    expected, found = _norm(), _norm(Alone(training=job_trains))
    for layer in (expected, found):
        layer.train() if network_trains else layer.eval()
    assert found(_images()).numpy().tobytes() == expected(_images()).numpy().tobytes()
    assert found._mean.numpy().tobytes() == expected._mean.numpy().tobytes()


def test_image_counts_for_nothing_when_a_process_has_none_of_its_own() -> None:
    # The other process has four positions with mean 2 and variance 9 in every channel, and no slope.
    channels = SHAPE[1]
    said = [np.array([8.0] * channels + [4.0]), np.full(channels, 36.0), np.zeros((2, channels))]
    layer = _norm(Other(0, said))
    images = _images(1)
    y = layer(images)
    (y * 0.0).sum().backward()
    scale = np.asarray(layer.weight.numpy()).reshape(1, -1, 1, 1) / np.sqrt(9 + 1e-5)
    np.testing.assert_allclose(y.numpy(), (images.numpy() - 2.0) * scale, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer._mean.numpy(), np.full(channels, 0.2), rtol=1e-6)
    np.testing.assert_allclose(layer._variance.numpy(), np.full(channels, 0.9 + 0.9), rtol=1e-6)
    assert not images.grad.numpy().any()


def test_two_parts_equal_the_whole_to_the_last_digits_when_they_are_in_float64() -> None:
    generator = np.random.default_rng(0)
    images, slope = generator.normal(3.0, 2.0, SHAPE), generator.normal(size=SHAPE)
    own, axes = 2, (0, 2, 3)
    mean, scale = images.mean(axes, keepdims=True), 1 / np.sqrt(images.var(axes, keepdims=True) + 1e-5)
    other, normal = images[own:], (images - mean) * scale
    count = other.size // SHAPE[1]
    said = [
        np.append(other.sum(axes), count),
        ((other - mean) ** 2).sum(axes),
        np.stack([slope[own:].sum(axes), (slope * normal)[own:].sum(axes)]),
    ]
    layer = nn.BatchNorm2D(SHAPE[1]).to(dtype="float64")
    use_sync_batch_norm(layer, Other(own, said))
    whole = nn.BatchNorm2D(SHAPE[1]).to(dtype="float64")
    part, all_images = paddle.to_tensor(images[:own]), paddle.to_tensor(images)
    part.stop_gradient = all_images.stop_gradient = False
    y, expected = layer(part), whole(all_images)
    (y * paddle.to_tensor(slope[:own])).sum().backward()
    (expected * paddle.to_tensor(slope)).sum().backward()
    np.testing.assert_allclose(y.numpy(), expected.numpy()[:own], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(part.grad.numpy(), all_images.grad.numpy()[:own], rtol=1e-11, atol=1e-12)
    # Of its own images alone: those of all processes are added up with the network's other gradients.
    np.testing.assert_allclose(layer.bias.grad.numpy(), slope[:own].sum(axes), rtol=1e-12)
    np.testing.assert_allclose(layer.weight.grad.numpy(), (slope * normal)[:own].sum(axes), rtol=1e-11)
    for found, value in ((layer._mean, whole._mean), (layer._variance, whole._variance)):
        np.testing.assert_allclose(found.numpy(), value.numpy(), rtol=1e-13)


def test_sums_keep_their_digits_when_the_map_is_large() -> None:
    values = np.random.default_rng(0).normal(100.0, 0.5, (8, 2, 64, 64)).astype(np.float32)
    layer = nn.BatchNorm2D(2)
    use_sync_batch_norm(layer, Alone(8))
    layer(paddle.to_tensor(values))
    exact = values.astype(np.float64).var((0, 2, 3))
    np.testing.assert_allclose((layer._variance.numpy() - 0.9) / 0.1, exact, rtol=2e-5)


def test_running_statistics_leave_out_what_is_synchronised() -> None:
    network = nn.Sequential(nn.BatchNorm2D(3), nn.Linear(2, 2), nn.BatchNorm1D(4))
    use_sync_batch_norm(network, Alone())
    shapes = [[int(v.shape[0]) for v in running_statistics(network, synchronised=one)] for one in (False, True)]
    assert shapes == [[3, 3, 4, 4], [4, 4]]
