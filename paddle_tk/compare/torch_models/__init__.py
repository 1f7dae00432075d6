"""Twins: torch definitions of our networks that compute the same from the same weights.

Layers have the names of the Paddle network's, so that weights map one to one (``compare.weights``). Importing this
package does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddle_tk.errors import BadInput
from paddle_tk.registry import Registry

if TYPE_CHECKING:
    import torch

TWINS = Registry("torch twin")
for _name, _module in (
    ("resnet18", "resnet"),
    ("resnet50", "resnet"),
    ("mobilenet_v2", "mobilenet"),
    ("efficientnet_b0", "efficientnet"),
    ("yolov10n", "yolov10.network"),
):
    TWINS.add(_name, f"{__name__}.{_module}:{_name}")

_DETECTORS = frozenset({"yolov10n"})
_WITH_DROPOUT = frozenset({"mobilenet_v2", "efficientnet_b0"})


def build_twin(
    name: str,
    *,
    num_classes: int,
    stem: str = "imagenet",
    dropout: float | None = None,
    activation: str | None = None,
) -> torch.nn.Module:
    """Builds the torch twin of a network; its weights are torch's own initialisation until ``load_into`` sets them.

    A classifier maps images (B, 3, H, W) float32 to logits (B, C). A detector returns in training mode what its
    ``make_loss()`` takes, in evaluation mode boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C).

    Args:
        name: One of ``TWINS``.
        num_classes: C; at least 2, of a detector at least 1.
        stem: "imagenet" or "small"; "auto" must have been resolved.
        dropout: Share of activations dropped before the classifier, 0 <= dropout < 1; None: the network's own.
        activation: Of a detector: "silu", "hardswish", "relu" or "relu6"; None: silu.

    Raises:
        BadInput: An unknown network, or an option that it does not have.
    """
    build = TWINS.load(name)
    least = 1 if name in _DETECTORS else 2
    if num_classes < least:
        raise BadInput(f"{name} needs at least {least} classes, got {num_classes}", "set model.num_classes=auto")
    _check_stem(name, stem)
    options: dict[str, Any] = {} if name in _DETECTORS else {"stem": stem}
    if dropout is not None:
        _check_dropout(name, dropout)
        options["dropout"] = dropout
    if activation is not None:
        if name not in _DETECTORS:
            raise BadInput(f"the activations of {name} cannot be chosen, got '{activation}'", "leave activation out")
        options["activation"] = activation
    return build(num_classes, **options)


def _check_stem(name: str, stem: str) -> None:
    if stem not in ("imagenet", "small"):
        raise BadInput(f"unknown stem '{stem}' for the twin of {name}", "use 'imagenet' or 'small'")
    if stem == "small" and name in _DETECTORS:
        raise BadInput(f"{name} has no small stem", "use 'imagenet'")


def _check_dropout(name: str, dropout: float) -> None:
    if name not in _WITH_DROPOUT:
        raise BadInput(f"{name} has no dropout before its classifier, got {dropout}", "leave dropout out")
    if not 0 <= dropout < 1:
        raise BadInput(f"dropout must be from 0 up to but not including 1, got {dropout}", "try 0.2")
