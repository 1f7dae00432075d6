"""Several GPUs that each hold a part of a training's state: Paddle's group sharding, and its state in whole and parts.

``paddle.distributed.sharding.group_sharded_parallel`` (Paddle 3.3) divides the optimizer's state ("os"), also the
gradients ("os_g", which Paddle uses for "os", too) or also the parameters ("p_g_os") over the processes (ZeRO, arXiv
1910.02054). It takes gradients' means over the processes. Its own saving writes a file for each process; here the parts
are put together, so that a checkpoint is what it is without sharding.

Runs on GPUs only; of this module, what needs none is tested on a CPU, and nothing has been measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from paddle_tk.errors import BadInput
from paddle_tk.models.weights import to_array
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.tensors import load_network_state

_BUFFER = "offload_buffer"  # Paddle's name for one process's optimizer state in the host's memory
_MASTER = "master"


def check_sharding(device: str, processes: int, *, level: str, offload: bool, half: bool, ema: bool) -> None:
    """Refuses what cannot be sharded.

    Args:
        device: "cpu" or "gpu:N".
        processes: Of the job.
        level: "os", "os_g" or "p_g_os".
        offload: Optimizer state in the host's memory.
        half: Whether the network's parameters are fp16.
        ema: Whether averaged weights are kept.

    Raises:
        BadInput: Paddle, or this toolkit, cannot do it.
    """
    if not device.startswith("gpu"):
        raise BadInput("trainer.strategy=sharded needs GPUs, this run uses the CPU", "use trainer.strategy=ddp")
    if processes < 2:
        raise BadInput(
            "trainer.strategy=sharded is for several processes, this run has one", "use trainer.strategy=ddp"
        )
    if offload and level != "p_g_os" and not half:
        raise BadInput(
            f"trainer.offload=true with trainer.sharding_level={level} needs fp16 parameters",
            "add trainer.precision=fp16 trainer.amp_level=O2, or use trainer.sharding_level=p_g_os",
        )
    if ema and level == "p_g_os":
        raise BadInput(
            "trainer.ema_decay needs whole parameters, trainer.sharding_level=p_g_os divides them",
            "use trainer.sharding_level=os_g, or trainer.ema_decay=0",
        )


@dataclass(frozen=True)
class Piece:
    """Where a part of a parameter's optimizer state lies.

    Attributes:
        parameter: The parameter's dotted name.
        owner: Paddle's name of the tensor that the optimizer updates.
        at: Where in that tensor it begins, elements.
        first: Where in the parameter.
        last: One behind its end in the parameter.
        size: Elements of the owner.
    """

    parameter: str
    owner: str
    at: int
    first: int
    last: int
    size: int


class Sharding:
    """A network and an optimizer whose state is divided over the processes.

    Args:
        parallel: The processes.
        level: "os", "os_g" or "p_g_os".
        offload: Keep the optimizer's state in the host's memory.

    Attributes:
        model: What is called in place of the network in training, once it is wrapped.
    """

    def __init__(self, parallel: Parallel, level: str, *, offload: bool) -> None:
        self._parallel, self._level, self._offload = parallel, level, offload
        self.model: Any = None
        self._optimizer: Any = None
        self._held: Mapping[str, np.ndarray] = {}

    @property
    def loss_factor(self) -> float:
        """What a loss is multiplied by, so that the mean over the processes is their sum."""
        return float(self._parallel.world)

    def hold(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps a checkpoint's whole optimizer state until ``wrap``."""
        self._held = arrays

    def wrap(self, network: Any, optimizer: Any, scaler: Any) -> Any:
        """Divides what the network and the optimizer hold; returns the optimizer to use from now on.

        Args:
            network: With the weights to start from.
            optimizer: Of its parameters.
            scaler: The loss scaler, or None; changed in place.
        """
        from paddle.distributed.sharding import group_sharded_parallel

        self.model, self._optimizer, _ = group_sharded_parallel(
            network, optimizer, self._level, scaler=scaler, offload=self._offload
        )
        self._take(network)
        return self._optimizer

    def _inner(self) -> Any:
        return getattr(self._optimizer, "_optim", self._optimizer)

    def _pieces(self, network: Any) -> list[Piece]:
        trained = [(name, p) for name, p in network.named_parameters() if not p.stop_gradient]
        rank = self._parallel.rank
        if self._level == "p_g_os":
            return list(_sliced(trained, self.model._param2buffer, rank))
        own = [(name, p) for name, p in trained if self._optimizer.param2rank[p.name] == rank]
        if self._offload:
            aligned = self._optimizer.offload_param2align
            order = {name: place for place, name in enumerate(self._optimizer._master_params)}
            return buffered(
                [(n, _count(p), aligned[p.name]) for n, p in sorted(own, key=lambda one: order[one[1].name])]
            )
        return [Piece(name, p.name, 0, 0, _count(p), _count(p)) for name, p in own]

    def _take(self, network: Any) -> None:
        """Hands this process's parts of the held state to the optimizer, which takes them up when it needs them."""
        inner = self._inner()
        parts = divide_state(self._held, self._pieces(network))
        inner._accumulators_holder = {
            f"{owner}_{kind}": paddle.to_tensor(array) for (owner, kind), array in parts.items() if kind != _MASTER
        }
        for (owner, kind), array in parts.items():
            if kind == _MASTER and owner in inner._master_weights:
                target = inner._master_weights[owner]
                paddle.assign(paddle.to_tensor(array).reshape(target.shape).astype(target.dtype), target)
        self._held = {}

    def optimizer_arrays(self, network: Any) -> dict[str, np.ndarray]:
        """Returns the whole state as ``tensors.optimizer_state`` does; every process must call this."""
        state = dict(self._optimizer.state_dict())
        state.pop("LR_Scheduler", None)
        master = {(owner, _MASTER): to_array(tensor) for owner, tensor in state.pop("master_weights", {}).items()}
        pieces = self._pieces(network)
        owners = sorted({piece.owner for piece in pieces}, key=len, reverse=True)
        held = {}
        for key, tensor in state.items():
            owner = next(one for one in owners if key.startswith(f"{one}_"))
            held[owner, key[len(owner) + 1 :]] = to_array(tensor)
        own = take_parts({**held, **master}, pieces)
        shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        return join_parts(self._parallel.gather_arrays(own), shapes)

    def gather_weights(self) -> None:
        """Gives every process the whole parameters; every process must call this."""
        if self._level == "p_g_os":
            self.model.get_all_parameters()

    def load_weights(self, network: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets all parameters and buffers of a wrapped network."""
        self.gather_weights()
        load_network_state(network, arrays)
        if self._level == "p_g_os":
            self.model.align_param_to_buffer_and_clear_slice_param()


def _count(parameter: Any) -> int:
    return int(np.prod(parameter.shape))


def _sliced(
    trained: Iterable[tuple[str, Any]], slices: Mapping[str, Sequence[tuple[int, int]]], rank: int
) -> Iterator[Piece]:
    """Yields the pieces of stage 3: equal slices of large parameters, filled up at the end, and whole small ones."""
    for name, parameter in trained:
        count = _count(parameter)
        if parameter.name not in slices:
            yield Piece(name, parameter.name, 0, 0, count, count)
            continue
        start, end = slices[parameter.name][rank]
        yield Piece(name, f"slice@{parameter.name}", 0, min(start, count), min(end, count), end - start)


def buffered(parts: Sequence[tuple[str, int, int]]) -> list[Piece]:
    """Returns the pieces of parameters that lie in one buffer, one behind the other.

    Args:
        parts: Dotted name, elements and elements of filling of each.
    """
    size, offset, found = sum(count + filling for _, count, filling in parts), 0, []
    for name, count, filling in parts:
        found.append(Piece(name, _BUFFER, offset, 0, count, size))
        offset += count + filling
    return found


def take_parts(held: Mapping[tuple[str, str], np.ndarray], pieces: Sequence[Piece]) -> dict[str, np.ndarray]:
    """Returns one process's state by "parameter::kind::first"; a single number (a power of beta) by "...::-".

    Args:
        held: By (owner, kind).
        pieces: Its pieces.
    """
    parts = {}
    for (owner, kind), array in held.items():
        for piece in pieces:
            if piece.owner != owner or piece.last <= piece.first:
                continue
            if array.size == piece.size:
                flat = array.reshape(-1)[piece.at : piece.at + piece.last - piece.first]
                parts[f"{piece.parameter}::{kind}::{piece.first}"] = flat
            else:
                parts[f"{piece.parameter}::{kind}::-"] = array
    return parts


def join_parts(
    found: Sequence[Mapping[str, np.ndarray]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Returns whole arrays by "parameter::kind", and by "master::parameter", from the parts of all processes."""
    whole: dict[str, np.ndarray] = {}
    for parts in found:
        for key, array in parts.items():
            parameter, kind, first = key.split("::")
            name = f"{_MASTER}::{parameter}" if kind == _MASTER else f"{parameter}::{kind}"
            if first == "-":
                whole[name] = array
                continue
            full = whole.setdefault(name, np.zeros(shapes[parameter], array.dtype))
            full.reshape(-1)[int(first) : int(first) + array.size] = array
    return whole


def divide_state(arrays: Mapping[str, np.ndarray], pieces: Sequence[Piece]) -> dict[tuple[str, str], np.ndarray]:
    """Returns one process's part of a whole state, flat, by (owner, kind): the reverse of ``join_parts``.

    Single numbers stay as they are.
    """
    by_parameter: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_parameter.setdefault(piece.parameter, []).append(piece)
    parts: dict[tuple[str, str], np.ndarray] = {}
    for key, array in arrays.items():
        left, right = key.split("::")
        parameter, kind = (right, _MASTER) if left == _MASTER else (left, right)
        for piece in by_parameter.get(parameter, []):
            if array.size == 1 and piece.size > 1:
                parts[piece.owner, kind] = array
                continue
            flat = parts.setdefault((piece.owner, kind), np.zeros(piece.size, array.dtype))
            flat[piece.at : piece.at + piece.last - piece.first] = array.reshape(-1)[piece.first : piece.last]
    return parts
