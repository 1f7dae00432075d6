import numpy as np
import paddle
import pytest
import torch

from paddle_tk.compare.torch_models.norm import BatchNorm2d
from paddle_tk.errors import BadInput

SHAPES = [(4, 3, 5, 5), (2, 3, 1, 1), (8, 3, 2, 2)]


def _batch(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics_follow_paddles_when_several_batches_pass(shape: tuple[int, ...]) -> None:
    ours, theirs = paddle.nn.BatchNorm2D(3, momentum=0.9), BatchNorm2d(3, momentum=0.1)
    for seed in range(5):
        one, other = ours(paddle.to_tensor(_batch(shape, seed))), theirs(torch.from_numpy(_batch(shape, seed)))
        np.testing.assert_allclose(other.detach().numpy(), one.numpy(), atol=1e-5)
    np.testing.assert_allclose(theirs.running_mean.numpy(), ours._mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(theirs.running_var.numpy(), ours._variance.numpy(), rtol=1e-6)
    assert int(theirs.num_batches_tracked) == 5


def test_torchs_own_running_variance_is_another_when_a_channel_has_few_values() -> None:
    # The reason for the subclass; should torch or Paddle change, it is no longer needed or wrong.
    ours, theirs = paddle.nn.BatchNorm2D(3, momentum=0.9), torch.nn.BatchNorm2d(3, momentum=0.1)
    batch = _batch((8, 3, 2, 2), 0)
    ours(paddle.to_tensor(batch))
    theirs(torch.from_numpy(batch))
    biased = 0.9 + 0.1 * batch.astype(np.float64).var(axis=(0, 2, 3))
    unbiased = 0.9 + 0.1 * batch.astype(np.float64).var(axis=(0, 2, 3)) * 32 / 31
    np.testing.assert_allclose(ours._variance.numpy(), biased, rtol=1e-6)
    np.testing.assert_allclose(theirs.running_var.numpy(), unbiased, rtol=1e-6)


def test_training_is_refused_when_a_channel_has_one_value() -> None:
    norm = BatchNorm2d(3)
    with pytest.raises(BadInput, match=r"shape \[1, 3, 1, 1\]: one value per channel"):
        norm(torch.from_numpy(_batch((1, 3, 1, 1), 0)))
    assert norm.running_var.tolist() == [1, 1, 1]
    assert norm.eval()(torch.from_numpy(_batch((1, 3, 1, 1), 0))).shape == (1, 3, 1, 1)


def test_gradients_pass_when_one_norm_is_used_twice_before_the_backward_pass() -> None:
    norm, plain = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    inputs = [torch.from_numpy(_batch((4, 3, 5, 5), 0)).requires_grad_() for _ in range(2)]
    for layer, x in zip((norm, plain), inputs, strict=True):
        (layer(layer(x)) ** 3).sum().backward()
    np.testing.assert_array_equal(inputs[0].grad.numpy(), inputs[1].grad.numpy())


def test_statistics_are_used_unchanged_when_evaluating() -> None:
    norm = BatchNorm2d(3).eval()
    before = norm.running_var.clone()
    out = norm(torch.from_numpy(_batch((4, 3, 5, 5), 0)))
    assert torch.equal(norm.running_var, before)
    np.testing.assert_allclose(out.detach().numpy(), _batch((4, 3, 5, 5), 0), rtol=1e-4)
