"""Gives up the activations of chosen layers and computes them a second time when their gradients are wanted.

Between the forward and the backward pass only the layer's inputs are kept. Gradients, running statistics, random
numbers and later steps are those of a training without it; see T. Chen et al., arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from paddle import nn

from paddle_tk.errors import BadInput, some
from paddle_tk.models.two_passes import TwoPasses
from paddle_tk.registry import closest

_VISION, _YOLO, _PPDET = "paddle.vision.models.", "paddle_tk.models.yolov10.", "ppdet.modeling."
# By module and class, so that nothing is imported for them. Parts of a listed layer are listed too where they also
# stand alone: the outer one is taken.
BLOCKS = frozenset(
    [
        *(f"{_VISION}resnet.{name}" for name in ("BasicBlock", "BottleneckBlock")),
        f"{_VISION}mobilenetv1.DepthwiseSeparable",
        *(f"{_VISION}{module}.InvertedResidual" for module in ("mobilenetv2", "mobilenetv3", "shufflenetv2")),
        f"{_VISION}shufflenetv2.InvertedResidualDS",
        *(f"{_VISION}densenet.{name}" for name in ("DenseLayer", "TransitionLayer")),
        f"{_VISION}squeezenet.MakeFire",
        f"{_VISION}googlenet.Inception",
        *(f"{_VISION}inceptionv3.Inception{name}" for name in ("Stem", *"ABCDE")),
        f"{_VISION}alexnet.ConvPoolLayer",
        "paddle_tk.models.efficientnet.MBConv",
        *(
            f"{_YOLO}blocks.{name}"
            for name in ("ConvNorm", "Stage", "SeparatedDown", "PyramidPool", "PartialAttention")
        ),
        f"{_YOLO}head.Branch",
        f"{_PPDET}backbones.lcnet.DepthwiseSeparable",
        *(f"{_PPDET}necks.csp_pan.{name}" for name in ("DPModule", "Channel_T")),
        "paddle_tk.models.picodet._Features",
    ]
)
_POOLS = (nn.MaxPool2D, nn.AvgPool2D)


def use_recompute(network: nn.Layer, chosen: bool | Sequence[str]) -> tuple[str, ...]:
    """Lets layers of a network give up their activations while it trains.

    Parameters, buffers and their names stay; evaluation, traced graphs and passes without gradients are as they were.
    To be called after whatever else changes how the layers compute. A second call changes nothing of the first.

    Args:
        network: Changed in place.
        chosen: True: the network's own blocks; False: nothing. Or names of layers, each of which stands for the blocks
            below it, or for itself where there are none.

    Returns:
        The names of the layers that recompute now, in the network's order. "features.0-4" is a run of a sequence's
        layers, up to and with a pooling.

    Raises:
        BadInput: The network has no such layer, or no block that is known.
    """
    units = _chosen_units(network, chosen)
    for unit in units:
        if unit.run is None and not isinstance(unit.layer.forward, TwoPasses):
            unit.layer.forward = TwoPasses(unit.layer.forward, [unit.layer])
    _wrap_runs([unit for unit in units if unit.run is not None])
    return tuple(unit.name for unit in units)


class _Unit(NamedTuple):
    """What is recomputed as one: a layer, or the layers ``run`` (first, last + 1) of a sequence."""

    name: str
    layer: Any
    run: tuple[int, int] | None = None

    @property
    def begins(self) -> str:
        """Name of its first layer."""
        return self.name if self.run is None else self.name.rpartition("-")[0]


def _chosen_units(network: nn.Layer, chosen: bool | Sequence[str]) -> list[_Unit]:
    if chosen is False:
        return []
    layers = dict(network.named_sublayers())
    blocks = _blocks(layers)
    if chosen is True:
        if not blocks:
            raise BadInput(
                f"trainer.recompute=true: {type(network).__name__} has no blocks that are known",
                f"name its layers instead, for instance trainer.recompute=[{', '.join(list(layers)[:1])}]",
            )
        return blocks
    named = {name: _named(name, blocks, layers) for name in chosen}
    unknown = [name for name, units in named.items() if not units]
    if unknown:
        raise _unknown(unknown, [*layers, *(unit.name for unit in blocks)])
    found = {unit.name: unit for units in named.values() for unit in units}
    outermost = [unit for name, unit in found.items() if not any(_below(name, other) for other in found.values())]
    order = {name: place for place, name in enumerate(layers)}
    return sorted(outermost, key=lambda unit: order[unit.begins])


def _unknown(names: list[str], known: list[str]) -> BadInput:
    near = closest(names[0], known)
    top = [name for name in known if "." not in name]
    hint = f"did you mean '{near}'? " if near else ""
    return BadInput(
        f"trainer.recompute: the network has no layer {some([repr(name) for name in names])}",
        f"{hint}its outermost layers are {some(top, 12)}",
    )


def _below(name: str, other: _Unit) -> bool:
    """Whether the layer ``name`` lies in ``other``."""
    if other.run is None or not name.startswith(f"{(owner := other.name.rpartition('.')[0])}.") or name == other.name:
        return name.startswith(f"{other.name}.")
    place = name.removeprefix(f"{owner}.").partition(".")[0]
    return place.isdigit() and int(place) in range(*other.run)


def _blocks(layers: dict[str, Any]) -> list[_Unit]:
    """Returns the outermost known blocks; in a network without any, the runs of its sequences."""
    found: list[_Unit] = []
    for name, layer in layers.items():
        if _kind(layer) in BLOCKS and not (found and name.startswith(f"{found[-1].name}.")):
            found.append(_Unit(name, layer))
    return found or [unit for name, layer in layers.items() for unit in _runs(name, layer)]


def _kind(layer: Any) -> str:
    return f"{type(layer).__module__}.{type(layer).__name__}"


def _runs(name: str, layer: Any) -> list[_Unit]:
    """Returns a plain sequence of convolutions cut behind every pooling, as VGG's stages are."""
    if type(layer) is not nn.Sequential or not any(isinstance(part, nn.Conv2D) for part in layer):
        return []
    pools = [place + 1 for place, part in enumerate(layer) if isinstance(part, _POOLS)]
    ends = pairwise([0, *pools]) if pools else ()
    return [_Unit(f"{name}.{first}-{end - 1}", layer, (first, end)) for first, end in ends if end - first > 1]


def _named(name: str, blocks: list[_Unit], layers: dict[str, Any]) -> list[_Unit]:
    """Returns what a name stands for; nothing where it is unknown."""
    within = [unit for unit in blocks if unit.name == name or unit.name.startswith(f"{name}.")]
    if within or name not in layers:
        return within
    if isinstance(layers[name], nn.LayerList):  # is never called itself
        return [
            unit for child in layers[name].named_children() for unit in _named(f"{name}.{child[0]}", blocks, layers)
        ]
    return [_Unit(name, layers[name])]


def _wrap_runs(units: list[_Unit]) -> None:
    for sequence in {id(unit.layer): unit.layer for unit in units}.values():
        if not isinstance(sequence.forward, _InRuns):
            sequence.forward = _InRuns(sequence, [unit.run for unit in units if unit.layer is sequence and unit.run])


class _Chain:
    """Layers one after the other."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class _InRuns:
    """The forward of a sequence, some runs of which recompute."""

    def __init__(self, sequence: Any, runs: list[tuple[int, int]]) -> None:
        self.sequence, self.runs = sequence, dict(runs)

    def __call__(self, x: Any) -> Any:
        layers, place = list(self.sequence), 0
        while place < len(layers):
            end = self.runs.get(place, place + 1)
            part = layers[place:end]
            x = TwoPasses(_Chain(part), part)(x) if place in self.runs else part[0](x)
            place = end
        return x
