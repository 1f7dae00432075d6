"""Which node of the ONNX graph is which layer of the Paddle network? Found by their weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from paddle_tk.errors import CheckFailed
from paddle_tk.export.graph.edit import attribute
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.runtime.base import Array
from paddle_tk.types import TensorRange

_SAME = 1e-5  # of two normalised channels, largest difference
_REARRANGING = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_RANGE = 1e-3  # of a tensor's extremes in Paddle and in ONNX Runtime, as a share of its largest value


class ObservedLayer(Protocol):
    """The input of one call of a weighted layer, as it was observed in the Paddle network."""

    @property
    def name(self) -> str:
        """The layer's name."""

    @property
    def weight(self) -> Array:
        """As Paddle stores it: a convolution's (out, in, h, w), a linear layer's (in, out)."""

    @property
    def range(self) -> TensorRange:
        """Of its input."""


def match_layers(view: GraphView, layers: Sequence[ObservedLayer]) -> tuple[dict[str, TensorRange], tuple[str, ...]]:
    """Carries the ranges of layers' inputs over to the tensors of the ONNX graph.

    A batch norm that was folded into a convolution has scaled each output channel of its weight, so channels are
    compared by direction. Layers with one weight are told apart by their order.

    Args:
        view: The float graph.
        layers: In the order in which they were called.

    Returns:
        Ranges by tensor name, and the names of layers that no node belongs to. A layer that reads only some values
        of a tensor (behind a Split or a pooling) gives no range.
    """
    waiting: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for node in view.nodes:
        if view.is_weighted(node):
            waiting[_rows(_weight(view, node)).shape].append(node)
    ranges: dict[str, TensorRange] = {}
    unmatched = []
    for layer in layers:
        rows = _rows(layer.weight if layer.weight.ndim != 2 else layer.weight.T)
        candidates = waiting[rows.shape]
        found = next((node for node in candidates if _same(rows, _rows(_weight(view, node)))), None)
        if found is None:
            unmatched.append(layer.name)
            continue
        candidates.remove(found)
        origin = _same_values(view, found.input[0])
        if origin is not None:
            ranges[origin] = _wider(ranges.get(origin), layer.range)
    return ranges, tuple(unmatched)


def require_agreement(observed: Mapping[str, TensorRange], read: Mapping[str, TensorRange]) -> None:
    """Refuses ranges of the Paddle network that ONNX Runtime does not see in the same tensors.

    Raises:
        CheckFailed: A tensor's extremes differ, so a layer was taken for another one.
    """
    for name, ours in observed.items():
        theirs = read.get(name)
        if theirs is None:
            continue
        bound = _RANGE * max(abs(ours.low), abs(ours.high), 1e-6)
        if abs(ours.low - theirs.low) > bound or abs(ours.high - theirs.high) > bound:
            raise CheckFailed(
                f"the tensor {name} goes from {theirs.low:g} to {theirs.high:g} in ONNX Runtime, its layer's input "
                f"from {ours.low:g} to {ours.high:g} in Paddle: the layer was taken for another one",
                "export the model to ONNX and quantize that file with --calibration",
            )


def _same_values(view: GraphView, tensor: str) -> str | None:
    """Returns the tensor that all values of a tensor come from, None where they are only some of its values."""
    node = view.producer(tensor)
    while node is not None and view.is_transparent(node):
        if node.op_type not in _REARRANGING:
            return None
        tensor = node.input[0]
        node = view.producer(tensor)
    return tensor


def _weight(view: GraphView, node: Any) -> Array:
    """Returns a node's weight with the output channels first."""
    weight = view.array(node.input[1])
    if node.op_type == "Conv":
        return weight
    return weight if node.op_type == "Gemm" and attribute(node, "transB", 0) else weight.T


def _rows(weight: Array) -> Array:
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))


def _same(left: Array, right: Array) -> bool:
    """Whether each channel points the same way, or the opposite one after a negative batch-norm factor."""
    # A channel whose factor is 0 is all zeros after folding and says nothing.
    told = (np.abs(right).max(axis=1) > 0) & (np.abs(left).max(axis=1) > 0)
    signs = np.where((left * right).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return bool(np.abs(left - signs * right)[told].max(initial=0.0) <= _SAME)


def _wider(known: TensorRange | None, new: TensorRange) -> TensorRange:
    """Joins two observations of one tensor: layers that read the same tensor, or one layer in two places."""
    if known is None:
        return new
    return TensorRange(
        min(known.low, new.low), max(known.high, new.high), max(known.threshold, new.threshold), new.algorithm,
        new.batches,
    )  # fmt: skip
