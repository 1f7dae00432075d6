"""The weights of a Paddle network as those of its torch twin, and back: names, shapes and NumPy arrays.

Neither framework is loaded here, so each one's process needs only its own. Twins name their layers as the Paddle
networks do; what differs is

- batch norm's statistics: ``_mean`` and ``_variance`` in Paddle, ``running_mean`` and ``running_var`` in torch;
- ``num_batches_tracked``: a counter that torch keeps per batch norm and only needs without a momentum. It is left out
  on the way to Paddle and made anew, as 0, on the way to torch;
- a linear layer's weight: (in, out) in Paddle, (out, in) in torch. A square one has the same shape in both, so this
  goes by name and not by shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddle_tk.errors import ArtifactError, some

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, Sequence[int]]

# Linear weights of the networks that have a twin: all their tensors of two dimensions.
_LINEAR = ("fc.weight", "classifier.1.weight")
_TO_TORCH = {"_mean": "running_mean", "_variance": "running_var"}
_TO_PADDLE = {torch: paddle for paddle, torch in _TO_TORCH.items()}
_COUNTER = "num_batches_tracked"
_FIX = "give both sides the same network, class count, stem and activation, and all of its weights"
_SHOWN = 3


@dataclass(frozen=True)
class Mapped:
    """A tensor's name on both sides.

    Attributes:
        paddle: In the Paddle network's state.
        torch: In the twin's state.
        shape: In Paddle.
        transposed: Whether torch holds it with its two axes swapped.
    """

    paddle: str
    torch: str
    shape: tuple[int, ...]
    transposed: bool


@dataclass(frozen=True)
class WeightMap:
    """Which tensor is which.

    Attributes:
        pairs: One per tensor of the Paddle network, in its order.
        counters: torch's ``num_batches_tracked``, which Paddle has not.
    """

    pairs: tuple[Mapped, ...]
    counters: tuple[str, ...]

    @property
    def paddle_to_torch(self) -> dict[str, str]:
        """Torch's names by Paddle's."""
        return {pair.paddle: pair.torch for pair in self.pairs}

    @property
    def torch_to_paddle(self) -> dict[str, str]:
        """Paddle's names by torch's."""
        return {pair.torch: pair.paddle for pair in self.pairs}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        pairs = [{**asdict(pair), "shape": list(pair.shape)} for pair in self.pairs]
        return {"pairs": pairs, "counters": list(self.counters)}


def torch_name(paddle_name: str) -> str:
    """Returns the twin's name of a Paddle network's tensor."""
    layer, dot, kind = paddle_name.rpartition(".")
    return f"{layer}{dot}{_TO_TORCH.get(kind, kind)}"


def paddle_name(torch_name: str) -> str:
    """Returns the Paddle network's name of a twin's tensor."""
    layer, dot, kind = torch_name.rpartition(".")
    return f"{layer}{dot}{_TO_PADDLE.get(kind, kind)}"


def map_names(paddle_shapes: Shapes, torch_shapes: Shapes) -> WeightMap:
    """Pairs the tensors of a Paddle network and of its twin.

    Args:
        paddle_shapes: Shape by name of the network's state.
        torch_shapes: Shape by name of the twin's state; the counters may be missing.

    Raises:
        ArtifactError: A tensor without partner, or of a shape that is not its partner's.
    """
    counters = tuple(name for name in torch_shapes if name.rpartition(".")[2] == _COUNTER)
    left = set(torch_shapes) - set(counters)
    pairs = [_pair(name, tuple(shape), left) for name, shape in paddle_shapes.items()]
    lonely = sorted(left - {pair.torch for pair in pairs})
    if lonely:
        names = ", ".join(f"{name} (in Paddle {paddle_name(name)})" for name in lonely[:_SHOWN])
        raise ArtifactError(f"{len(lonely)} of torch's tensors have no partner in Paddle: {names}", _FIX)
    for pair in pairs:
        _check_shape(pair, tuple(torch_shapes[pair.torch]))
    return WeightMap(tuple(pairs), counters)


def _pair(name: str, shape: tuple[int, ...], torch_names: set[str]) -> Mapped:
    partner = torch_name(name)
    if partner not in torch_names:
        raise ArtifactError(f"Paddle's tensor {name} has no partner in torch, where it would be {partner}", _FIX)
    if len(shape) == 2 and name not in _LINEAR:
        raise ArtifactError(
            f"Paddle's tensor {name} of shape {list(shape)} is not a known linear weight, so whether torch holds it "
            "transposed cannot be told",
            f"give weights of a network that has a twin; known linear weights: {', '.join(_LINEAR)}",
        )
    return Mapped(name, partner, shape, transposed=len(shape) == 2)


def _check_shape(pair: Mapped, found: tuple[int, ...]) -> None:
    expected = pair.shape[::-1] if pair.transposed else pair.shape
    if found != expected:
        raise ArtifactError(
            f"{pair.torch} has the shape {list(found)} in torch, but {pair.paddle} in Paddle has {list(pair.shape)}, "
            f"which needs {list(expected)}",
            _FIX,
        )


def shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each array or tensor of a state, of either framework, by name."""
    return {name: tuple(int(side) for side in value.shape) for name, value in state.items()}


def paddle_to_torch(arrays: Mapping[str, Array], twin: Any) -> dict[str, Array]:
    """Turns the state of a Paddle network into that of its twin.

    Args:
        arrays: Every parameter and statistic by Paddle's name.
        twin: The torch module they are for; it is not changed.

    Returns:
        Arrays by torch's name, laid out anew where transposed, and counters of 0: what ``load_into`` takes.

    Raises:
        ArtifactError: A tensor without partner or of the wrong shape.
    """
    mapping = map_names(shapes_of(arrays), shapes_of(twin.state_dict()))
    found = {pair.torch: _swapped(arrays[pair.paddle], pair) for pair in mapping.pairs}
    return {**found, **{name: np.zeros((), np.int64) for name in mapping.counters}}


def torch_to_paddle(arrays: Mapping[str, Array], network_shapes: Shapes) -> dict[str, Array]:
    """Turns the state of a twin into that of the Paddle network.

    Args:
        arrays: Every parameter and buffer by torch's name, as ``twin_arrays`` returns them.
        network_shapes: Shape by name of the Paddle network's state; see ``shapes_of``.

    Returns:
        Arrays by Paddle's name, in the network's order.

    Raises:
        ArtifactError: A tensor without partner or of the wrong shape.
    """
    mapping = map_names(network_shapes, shapes_of(arrays))
    return {pair.paddle: _swapped(arrays[pair.torch], pair) for pair in mapping.pairs}


def _swapped(array: Array, pair: Mapped) -> Array:
    return np.array(array.T if pair.transposed else array, order="C")


def load_into(twin: Any, arrays: Mapping[str, Array]) -> None:
    """Sets every parameter and buffer of a twin.

    Args:
        twin: Changed in place; left alone when anything does not fit.
        arrays: By torch's name, as ``paddle_to_torch`` returns them.

    Raises:
        ArtifactError: A tensor is missing, unknown, of another shape or not finite.
    """
    import torch

    state = twin.state_dict()
    missing, unknown = sorted(set(state) - set(arrays)), sorted(set(arrays) - set(state))
    if missing or unknown:
        what = [f"{len(names)} {kind} ({some(names, _SHOWN)})" for kind, names in _named(missing, unknown) if names]
        raise ArtifactError(f"these are not the twin's tensors: {', '.join(what)}", "convert with paddle_to_torch")
    for name, array in arrays.items():
        if tuple(state[name].shape) != array.shape:
            raise ArtifactError(f"{name} has the shape {list(array.shape)}, the twin {list(state[name].shape)}", _FIX)
        if not np.isfinite(array).all():
            raise ArtifactError(f"{name} holds NaN or infinite values", "give weights of a run that converged")
    with torch.no_grad():
        for name, array in arrays.items():
            state[name].copy_(torch.from_numpy(np.array(array)))


def _named(missing: list[str], unknown: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return ("missing", missing), ("unknown", unknown)


def twin_arrays(twin: Any) -> dict[str, Array]:
    """Returns copies of a twin's parameters and buffers by torch's name."""
    return {name: np.array(value.detach().cpu().numpy()) for name, value in twin.state_dict().items()}
