"""Counts the arithmetic of a network's forward pass from the shapes of its layers, without doing any of it."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn


class MatrixProduct(nn.Layer):
    """The product of two tensors, as a layer so that its cost can be counted.

    Args:
        transpose_x: Transpose the last two axes of the first factor.
        transpose_y: Transpose those of the second.
    """

    def __init__(self, *, transpose_x: bool = False, transpose_y: bool = False) -> None:
        super().__init__()
        self.transpose_x, self.transpose_y = transpose_x, transpose_y

    def forward(self, x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
        """Maps (..., n, k) and (..., k, m) to (..., n, m)."""
        return paddle.matmul(x, y, self.transpose_x, self.transpose_y)


_KINDS = (nn.Conv2D, nn.Conv2DTranspose, nn.Linear, MatrixProduct)


def count_flops(network: Any, image_size: tuple[int, int], *, products: bool = True) -> int:
    """Counts twice the multiply-accumulates for one image in evaluation mode.

    Counted are convolutions, linear layers and ``MatrixProduct``. Biases, norms, activations, pools and whatever is
    not a layer are not. The forward pass is traced with shapes only, so no convolution is computed; the network is
    left as it was.

    Args:
        network: Takes images (B, 3, H, W).
        image_size: (height, width) in pixels.
        products: Count ``MatrixProduct`` as well: attention, whose cost grows with the square of the image's area.
            Published figures mostly leave it out: YOLOv10's (arXiv 2405.14458, table 1) are met to their last digit
            without it, and are up to 1 % lower than with it.

    Returns:
        Floating-point operations per image.
    """
    counted = _KINDS if products else _KINDS[:-1]
    layers = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, counted)]
    costs: list[int] = []
    hooks = [layer.register_forward_post_hook(_counter(costs)) for layer in layers]
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    try:
        network.eval()
        _trace(network, image_size)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes:
            layer.training = training
    return sum(costs)


def _counter(costs: list[int]) -> Any:
    def count(layer: Any, inputs: Any, output: Any) -> None:
        costs.append(2 * _multiplications(layer, inputs, output))

    return count


def _multiplications(layer: Any, inputs: Any, output: Any) -> int:
    if isinstance(layer, nn.Conv2DTranspose):  # weight (in, out / groups, kh, kw), once per input position
        return _size(inputs[0].shape) * _size(layer.weight.shape[1:])
    if isinstance(layer, nn.Conv2D):  # weight (out, in / groups, kh, kw)
        return _size(output.shape) * _size(layer.weight.shape[1:])
    if isinstance(layer, nn.Linear):  # weight (in, out)
        return _size(output.shape) * int(layer.weight.shape[0])
    return _size(output.shape) * int(inputs[0].shape[-2 if layer.transpose_x else -1])


def _size(shape: Any) -> int:
    product = 1
    for side in shape:
        product *= int(side)
    return product


def _trace(network: Any, image_size: tuple[int, int]) -> None:
    # Without translating the layers' Python code, which takes four times as long and does not know all of Python.
    run = paddle.jit.not_to_static(lambda images: network(images))

    def forward(images: paddle.Tensor) -> Any:
        return run(images)

    spec = [paddle.static.InputSpec([1, 3, *image_size], "float32", "images")]
    _ = paddle.jit.to_static(forward, input_spec=spec, full_graph=True).concrete_program
