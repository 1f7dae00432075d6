"""Detection networks by name, and which task any network is for.

Nothing here imports Paddle until a network is built. Every detector is a layer with ``raw``, ``decode``, ``forward``,
``make_loss``, ``head_layers``, ``nms_iou`` and ``strides``; ``Detector`` says what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import MODELS, check_image_size
from paddle_tk.registry import closest

if TYPE_CHECKING:
    import paddle

PICODET, YOLOV10 = "picodet_", "yolov10"
DETECTORS = (*(f"{PICODET}{size}" for size in ("xs", "s", "m", "l")), *(f"{YOLOV10}{size}" for size in "nsmblx"))
STRIDE = 32  # an image side is a multiple of it: PicoDet's coarser maps round up


class Detector(Protocol):
    """What every detection network can do; images are normalised, (B, 3, H, W).

    Attributes:
        head_layers: Layers whose shape follows the class count.
        nms_iou: Overlap above which of two boxes of a class the worse one is dropped; None: nothing is dropped.
        strides: Pixels of the input per cell, by level.
    """

    head_layers: tuple[str, ...]
    nms_iou: float | None
    strides: tuple[int, ...]

    def __call__(self, images: paddle.Tensor) -> Any:
        """Returns ``raw`` in training mode and boxes with scores in evaluation mode."""

    def raw(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Returns what the loss needs, in either mode."""

    def decode(self, raw: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C) in 0..1."""

    def make_loss(self) -> Any:
        """Returns a layer: (*raw, targets (B, M, 5)) -> (total, parts by name)."""


def network_names() -> list[str]:
    """Returns every registered network, sorted."""
    return sorted([*MODELS, *DETECTORS])


def task_of(name: str) -> Literal["classification", "detection"]:
    """Returns what a network is for.

    Raises:
        BadInput: The name is unknown; the message lists the known ones.
    """
    if name in DETECTORS:
        return "detection"
    if name in MODELS:
        return "classification"
    near = closest(name, network_names())
    hint = f"did you mean '{near}'? " if near else ""
    raise BadInput(f"unknown model '{name}'", f"{hint}known: {', '.join(network_names())}")


def check_network_size(name: str, stem: str, image_size: tuple[int, int]) -> None:
    """Refuses images that a network, classifier or detector, cannot take.

    Raises:
        BadInput: An unknown name, or a size that does not fit.
    """
    if task_of(name) == "detection":
        check_detector_size(name, image_size)
    else:
        check_image_size(name, stem, image_size)


def check_detector_size(name: str, image_size: tuple[int, int]) -> None:
    """Refuses images whose sides a detector's maps cannot follow.

    Raises:
        BadInput: A side is no multiple of 32 pixels, or below 64.
    """
    fitting = [max(2 * STRIDE, round(side / STRIDE) * STRIDE) for side in image_size]
    if tuple(fitting) != tuple(image_size):
        height, width = image_size
        raise BadInput(
            f"images of {height}x{width} px do not fit {name}: sides are multiples of {STRIDE} from {2 * STRIDE} px on",
            f"use data.image_size=[{fitting[0]},{fitting[1]}]",
        )


def build_detector(name: str, *, num_classes: int, image_size: tuple[int, int], activation: str | None = None) -> Any:
    """Builds a freshly initialised ``Detector``; equal for equal ``paddle.seed``.

    Args:
        name: One of ``DETECTORS``.
        num_classes: At least 1.
        image_size: (height, width) in pixels that it will be trained at.
        activation: "silu", "hardswish", "relu" or "relu6"; None: the network's own.

    Raises:
        BadInput: An unknown name, no class, or an image size that does not fit.
    """
    if name not in DETECTORS:
        raise BadInput(f"'{name}' is no detector", f"known: {', '.join(DETECTORS)}")
    if num_classes < 1:
        raise BadInput(f"a detector needs at least 1 class, got {num_classes}", "set model.num_classes=auto")
    check_detector_size(name, image_size)
    if name.startswith(PICODET):
        from paddle_tk.models.picodet import build_picodet

        size = name.removeprefix(PICODET)
        return build_picodet(size, num_classes=num_classes, image_size=image_size, activation=activation)
    from paddle_tk.models.yolov10 import build_yolov10

    return build_yolov10(name.removeprefix(YOLOV10), num_classes=num_classes, activation=activation)
