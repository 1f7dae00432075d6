"""The activations that ``model.activation`` chooses from."""

from __future__ import annotations

from paddle import nn

from paddle_tk.errors import BadInput

ACTIVATIONS: dict[str, type[nn.Layer]] = {
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.Silu,
}


def make_activation(name: str) -> nn.Layer:
    """Returns a layer of its own for each place, as observers of a quantizer need.

    Raises:
        BadInput: An unknown name.
    """
    if name not in ACTIVATIONS:
        raise BadInput(f"unknown activation '{name}'", f"use model.activation={', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
