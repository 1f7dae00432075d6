"""Network and optimizer tensors <-> NumPy arrays under names that do not depend on the process.

Paddle names an optimizer's accumulators after parameter names such as ``conv2d_7.w_0``, which count the layers built so
far in the process. Here they are filed under the network's own dotted names, so that they fit a rebuilt network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from paddle_tk.models.weights import to_array


def load_network_state(network: paddle.nn.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets every parameter and buffer.

    Raises:
        KeyError: An array is missing.
    """
    with paddle.no_grad():
        for name, tensor in network.state_dict().items():
            value = paddle.to_tensor(arrays[name])
            paddle.assign(value.astype(tensor.dtype).reshape(tensor.shape), tensor)


def optimizer_state(optimizer: Any, network: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """Returns accumulators as "<parameter>::<accumulator>" and float32 master weights as "master::<parameter>"."""
    names = {p.name: dotted for dotted, p in network.named_parameters()}
    arrays: dict[str, np.ndarray] = {}
    for key, value in optimizer.state_dict().items():
        if key == "LR_Scheduler":
            continue
        if key == "master_weights":
            arrays.update({f"master::{names[p]}": to_array(t) for p, t in value.items()})
            continue
        owner = _owner(key, names)
        arrays[f"{names[owner]}::{key[len(owner) + 1 :]}"] = to_array(value)
    return arrays


def _owner(key: str, names: Mapping[str, str]) -> str:
    # "conv2d_1.w_0_velocity_0" belongs to the longest parameter name it starts with.
    candidates = [p for p in names if key.startswith(p + "_")]
    if not candidates:
        raise KeyError(f"optimizer state {key!r} belongs to no parameter")
    return max(candidates, key=len)


def load_optimizer_state(optimizer: Any, network: paddle.nn.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    """Hands saved accumulators to the optimizer, which takes them up when it first needs them."""
    parameters = dict(network.named_parameters())
    state: dict[str, Any] = {}
    master: dict[str, Any] = {}
    for key, array in arrays.items():
        left, right = key.split("::")
        if left == "master":
            master[parameters[right].name] = paddle.to_tensor(array)
        else:
            state[f"{parameters[left].name}_{right}"] = paddle.to_tensor(array)
    if master:
        state["master_weights"] = master
    optimizer.set_state_dict(state)
