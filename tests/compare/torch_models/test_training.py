import numpy as np
import paddle
import pytest
import torch

from paddle_tk.compare.torch_models.efficientnet import DropPath
from paddle_tk.compare.weights import shapes_of, torch_to_paddle, twin_arrays
from paddle_tk.models import efficientnet
from paddle_tk.models.weights import network_arrays
from tests.compare.torch_models.pairs import CLASSES, CLASSIFIERS, DETECTOR, Pair, images, make_pair

LABELS = np.arange(8) % CLASSES


def trainable_pair(name: str, size: int) -> Pair:
    """A pair in training mode without anything random."""
    options = {"dropout": 0.0} if name in ("mobilenet_v2", "efficientnet_b0") else {}
    pair = make_pair(name, size=size, stem="small" if name in CLASSIFIERS else "imagenet", **options)
    for layer in [*pair.network.sublayers(), *pair.twin.modules()]:
        if isinstance(layer, efficientnet.DropPath | DropPath):
            layer.rate = 0.0
    pair.network.train()
    pair.twin.train()
    return pair


def statistics(pair: Pair) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, ours and the twin's of every running statistic."""
    ours = network_arrays(pair.network)
    theirs = torch_to_paddle(twin_arrays(pair.twin), shapes_of(ours))
    return [(name, ours[name], theirs[name]) for name in ours if name.endswith(("._mean", "._variance"))]


@pytest.mark.parametrize("name", [*CLASSIFIERS, DETECTOR])
def test_running_statistics_agree_when_a_batch_was_trained_on(name: str) -> None:
    pair = trainable_pair(name, 64 if name == DETECTOR else 32)
    batch = images(8, 64 if name == DETECTOR else 32, seed=3)
    with paddle.no_grad(), torch.no_grad():
        pair.network(paddle.to_tensor(batch))
        pair.twin(torch.from_numpy(batch))
    for key, ours, theirs in statistics(pair):
        assert np.abs(ours - pair.arrays[key]).max() > 1e-4, key
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6, err_msg=key)


def _gradients(pair: Pair, batch: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    ours = paddle.nn.functional.cross_entropy(pair.network(paddle.to_tensor(batch)), paddle.to_tensor(LABELS))
    theirs = torch.nn.functional.cross_entropy(pair.twin(torch.from_numpy(batch)), torch.from_numpy(LABELS))
    assert float(theirs) == pytest.approx(float(ours), rel=1e-5)
    ours.backward()
    theirs.backward()
    twin = {key: value.grad.numpy() for key, value in pair.twin.named_parameters()}
    found = []
    for key, value in pair.network.named_parameters():
        if not key.endswith(("._mean", "._variance")):
            gradient = value.grad.numpy()
            found.append((key, gradient, twin.pop(key).T if gradient.ndim == 2 else twin.pop(key)))
    assert not twin
    return found


def test_gradients_of_resnet18_agree_when_a_batch_was_trained_on() -> None:
    for key, ours, theirs in _gradients(trainable_pair("resnet18", 32), images(8, 32, seed=3)):
        scale = np.abs(ours).max()
        assert scale > 0, key
        assert np.abs(theirs - ours).max() <= 1e-4 * scale, key


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gradients_are_the_same_when_rounding_is_taken_away(name: str) -> None:
    pair = trainable_pair(name, 32)
    pair.network.to(dtype="float64")
    pair.twin.double()
    for key, ours, theirs in _gradients(pair, images(8, 32, seed=3).astype(np.float64)):
        assert np.abs(theirs - ours).max() <= 1e-6 * np.abs(ours).max(), key


def test_losses_of_resnet18_agree_when_sgd_takes_ten_steps() -> None:
    pair = trainable_pair("resnet18", 32)
    ours = paddle.optimizer.Momentum(0.01, 0.9, parameters=pair.network.parameters())
    theirs = torch.optim.SGD(pair.twin.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(10):
        batch = images(8, 32, seed=step)
        one = paddle.nn.functional.cross_entropy(pair.network(paddle.to_tensor(batch)), paddle.to_tensor(LABELS))
        other = torch.nn.functional.cross_entropy(pair.twin(torch.from_numpy(batch)), torch.from_numpy(LABELS))
        for loss, optimizer in ((one, ours), (other, theirs)):
            loss.backward()
            optimizer.step()
        ours.clear_grad()
        theirs.zero_grad()
        losses.append((float(one), float(other)))
    first, second = np.array(losses).T
    np.testing.assert_allclose(second, first, rtol=1e-4)
    assert np.ptp(first) > 0.05  # it trains
