"""Training compared. In float32 a few values near 0 fall on the other side of a ReLU in each framework, which moves a
gradient by some 1e-3 of its norm against float64 in Paddle and in torch alike; so what is to be exact is held in
float64, where none does."""

import numpy as np
import paddle
import pytest
import torch

from paddle_tk.compare.torch_models.efficientnet import DropPath
from paddle_tk.compare.weights import shapes_of, torch_to_paddle, twin_arrays
from paddle_tk.models import efficientnet
from paddle_tk.models.weights import network_arrays
from tests.compare.torch_models.pairs import CLASSES, CLASSIFIERS, DETECTOR, Pair, images, make_pair

Array = np.ndarray


def trainable_pair(name: str, size: int, *, double: bool = False) -> Pair:
    """A pair in training mode without anything random."""
    options = {"dropout": 0.0} if name in ("mobilenet_v2", "efficientnet_b0") else {}
    pair = make_pair(name, size=size, stem="small" if name in CLASSIFIERS else "imagenet", **options)
    for layer in [*pair.network.sublayers(), *pair.twin.modules()]:
        if isinstance(layer, efficientnet.DropPath | DropPath):
            layer.rate = 0.0
    if double:
        pair.network.to(dtype="float64")
        pair.twin.double()
    pair.network.train()
    pair.twin.train()
    return pair


def statistics(pair: Pair) -> list[tuple[str, Array, Array]]:
    """Name, ours and the twin's of every running statistic."""
    ours = {name: value.numpy() for name, value in pair.network.state_dict().items()}
    theirs = torch_to_paddle(twin_arrays(pair.twin), shapes_of(ours))
    return [(name, ours[name], theirs[name]) for name in ours if name.endswith(("._mean", "._variance"))]


def losses(pair: Pair, batch: Array) -> tuple[paddle.Tensor, torch.Tensor]:
    """Both cross-entropies."""
    labels = np.arange(len(batch)) % CLASSES
    return (
        paddle.nn.functional.cross_entropy(pair.network(paddle.to_tensor(batch)), paddle.to_tensor(labels)),
        torch.nn.functional.cross_entropy(pair.twin(torch.from_numpy(batch)), torch.from_numpy(labels)),
    )


def gradients(pair: Pair, batch: Array) -> list[tuple[str, Array, Array]]:
    """Name, ours and the twin's of every parameter's gradient, in Paddle's layout."""
    ours, theirs = losses(pair, batch)
    assert theirs.item() == pytest.approx(float(ours), rel=1e-5)
    ours.backward()
    theirs.backward()
    twin = {key: value.grad.numpy() for key, value in pair.twin.named_parameters()}
    found = []
    for key, value in pair.network.named_parameters():
        if not key.endswith(("._mean", "._variance")):
            found.append((key, value.grad.numpy(), twin.pop(key).T if value.ndim == 2 else twin.pop(key)))
    assert not twin
    return found


# Rounding of float32 adds up over a hundred layers; test_norm.py holds one batch norm to 1e-6.
@pytest.mark.parametrize(("name", "tolerance"), [("resnet18", 1e-6), (DETECTOR, 5e-6)])
def test_running_statistics_agree_when_a_batch_was_trained_on(name: str, tolerance: float) -> None:
    size = 64 if name == DETECTOR else 32
    pair = trainable_pair(name, size)
    before = network_arrays(pair.network)
    batch = images(8, size, seed=3)
    with paddle.no_grad(), torch.no_grad():
        pair.network(paddle.to_tensor(batch))
        pair.twin(torch.from_numpy(batch))
    for key, ours, theirs in statistics(pair):
        assert np.abs(ours - before[key]).max() > 1e-4, key
        np.testing.assert_allclose(theirs, ours, rtol=tolerance, atol=tolerance, err_msg=key)


def test_gradients_of_resnet18_agree_when_a_batch_was_trained_on() -> None:
    found = gradients(trainable_pair("resnet18", 32), images(8, 32, seed=3))
    head = [item for item in found if item[0].startswith(("fc.", "layer4.1.bn2."))]  # no ReLU but the last above them
    assert len(head) == 4
    for key, ours, theirs in head:
        assert np.abs(theirs - ours).max() <= 1e-4 * np.abs(ours).max(), key
    error = sum(np.square(theirs - ours).sum() for _, ours, theirs in found)
    norm = sum(np.square(ours).sum() for _, ours, _ in found)
    assert error <= 0.01**2 * norm


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gradients_and_statistics_are_the_same_when_rounding_is_taken_away(name: str) -> None:
    pair = trainable_pair(name, 16, double=True)
    found = gradients(pair, images(4, 16, seed=3).astype(np.float64))
    largest = max(np.abs(ours).max() for _, ours, _ in found)
    for key, ours, theirs in found:
        # A shift that a batch norm takes away again has a gradient of 0, which rounds to anything small.
        assert np.abs(theirs - ours).max() <= 1e-6 * np.abs(ours).max() + 1e-12 * largest, key
    for key, ours, theirs in statistics(pair):
        assert ours.dtype == theirs.dtype == np.float64
        # Paddle's momentum and epsilon are float32 numbers.
        np.testing.assert_allclose(theirs, ours, rtol=1e-7, atol=1e-7, err_msg=key)


def test_loss_curves_of_resnet18_agree_when_sgd_takes_ten_steps_without_rounding() -> None:
    pair = trainable_pair("resnet18", 16, double=True)
    ours = paddle.optimizer.Momentum(0.01, 0.9, parameters=pair.network.parameters())
    theirs = torch.optim.SGD(pair.twin.parameters(), lr=0.01, momentum=0.9)
    curves = []
    for step in range(10):
        one, other = losses(pair, images(4, 16, seed=step).astype(np.float64))
        for loss, optimizer in ((one, ours), (other, theirs)):
            loss.backward()
            optimizer.step()
        ours.clear_grad()
        theirs.zero_grad()
        curves.append((float(one), other.item()))
    first, second = np.array(curves).T
    np.testing.assert_allclose(second, first, rtol=1e-4)
    assert np.ptp(first) > 0.05  # it trains
