"""Classification networks by name: which exist, which stem fits, how small an image each can take.

Nothing here imports Paddle until a network is built, so a config can be checked without waiting for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from paddle_tk.errors import BadInput
from paddle_tk.registry import Registry

if TYPE_CHECKING:
    import paddle

Stem = Literal["imagenet", "small"]
SMALL_BELOW = 96  # pixels; under it `stem: auto` keeps resolution, where the network can
MODELS = Registry("model")


@dataclass(frozen=True)
class Family:
    """What networks of one kind have in common.

    Attributes:
        key: Its name in ``stems.SMALL_STEMS`` and ``adapters.SIZE_ADAPTERS``.
        networks: Registered names.
        least: Least workable image side in pixels, by stem; a stem that is not listed does not exist.
        head: Layers whose shape follows the class count.
        dropout: Dropout layers before the classifier.
        no_small_stem: Why there is no small stem.
    """

    key: str
    networks: tuple[str, ...]
    least: Mapping[str, int]
    head: tuple[str, ...]
    dropout: tuple[str, ...] = ()
    no_small_stem: str = ""


_ANY = {"imagenet": 1, "small": 1}
FAMILIES = (
    Family(
        "resnet",
        (
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            *("resnext50_32x4d", "resnext50_64x4d", "resnext101_32x4d", "resnext101_64x4d"),
            *("resnext152_32x4d", "resnext152_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
        ),
        _ANY,
        head=("fc",),
    ),
    Family("mobilenet", ("mobilenet_v1",), _ANY, head=("fc",)),
    Family("mobilenet", ("mobilenet_v2",), _ANY, head=("classifier.1",), dropout=("classifier.0",)),
    Family(
        "mobilenet",
        ("mobilenet_v3_small", "mobilenet_v3_large"),
        _ANY,
        head=("classifier.3",),
        dropout=("classifier.2",),
    ),
    Family(
        "mobilenet",
        ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
        _ANY,
        head=("classifier.1",),
        dropout=("classifier.0",),
    ),
    Family(
        "shufflenet",
        (
            *("shufflenet_v2_x0_25", "shufflenet_v2_x0_33", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
            *("shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "shufflenet_v2_swish"),
        ),
        _ANY,
        head=("_fc",),
    ),
    Family(
        "densenet",
        ("densenet121", "densenet161", "densenet169", "densenet201", "densenet264"),
        {"imagenet": 29, "small": 8},
        head=("out",),
    ),
    Family("squeezenet", ("squeezenet1_0",), {"imagenet": 35, "small": 15}, head=("_conv9",), dropout=("_drop",)),
    Family("squeezenet", ("squeezenet1_1",), {"imagenet": 29, "small": 15}, head=("_conv9",), dropout=("_drop",)),
    Family(
        "googlenet",
        ("googlenet",),
        {"imagenet": 61, "small": 15},
        head=("_fc_out", "_out1", "_out2"),
        dropout=("_drop",),
    ),
    Family("inception", ("inception_v3",), {"imagenet": 75, "small": 23}, head=("fc",), dropout=("dropout",)),
    Family("alexnet", ("alexnet",), {"imagenet": 223, "small": 27}, head=("_fc8",), dropout=("_drop1", "_drop2")),
    Family(
        "vgg",
        ("vgg11", "vgg13", "vgg16", "vgg19"),
        {"imagenet": 32},
        head=("classifier.6",),
        dropout=("classifier.2", "classifier.5"),
        no_small_stem="its first convolutions have stride 1 already and 32 px are enough for it",
    ),
    Family("lenet", ("lenet",), {"imagenet": 28}, head=("fc.2",), no_small_stem="it is made for 28 px images"),
)
_FAMILY_OF = {name: family for family in FAMILIES for name in family.networks}
_OURS = {
    "lenet": "paddle_tk.models.adapters:lenet",
    "googlenet": "paddle_tk.models.adapters:googlenet",
    **{f"efficientnet_b{i}": f"paddle_tk.models.efficientnet:efficientnet_b{i}" for i in range(4)},
}
for _name in _FAMILY_OF:
    MODELS.add(_name, _OURS.get(_name, f"paddle.vision.models:{_name}"))


def family_of(name: str) -> Family:
    """Returns the family of a registered network.

    Raises:
        BadInput: The name is unknown; the message lists the known ones.
    """
    if name not in MODELS:
        MODELS.load(name)
    return _FAMILY_OF[name]


def resolve_stem(name: str, stem: str, image_size: tuple[int, int]) -> Stem:
    """Decides which first layers a network gets.

    Args:
        name: A registered network.
        stem: "auto", "imagenet" (the published one) or "small" (the whole network reduces its input 8 times
            rather than 32 times, AlexNet 4 times).
        image_size: (height, width) in pixels.

    Returns:
        "small" or "imagenet"; "auto" is "small" where the shorter side is under 96 px and the network has a
        small stem.

    Raises:
        BadInput: An unknown network or stem, or a small stem for a network that has none.
    """
    family = family_of(name)
    if stem not in ("auto", "imagenet", "small"):
        raise BadInput(f"unknown stem '{stem}'", "use model.stem=auto, imagenet or small")
    if stem == "small" and "small" not in family.least:
        raise BadInput(f"{name} has no small stem: {family.no_small_stem}", "use model.stem=auto")
    if stem == "auto":
        return "small" if min(image_size) < SMALL_BELOW and "small" in family.least else "imagenet"
    return "small" if stem == "small" else "imagenet"


def check_image_size(name: str, stem: str, image_size: tuple[int, int]) -> None:
    """Refuses images that would vanish inside the network.

    Raises:
        BadInput: A side is under the least workable one, which the message names.
    """
    resolved = resolve_stem(name, stem, image_size)
    least = family_of(name).least
    if min(image_size) >= least[resolved]:
        return
    fix = f"use data.image_size={least[resolved]} or more"
    if resolved == "imagenet" and min(image_size) >= least.get("small", max(image_size) + 1):
        fix += f", or model.stem=small (from {least['small']} px)"
    height, width = image_size
    raise BadInput(
        f"images of {height}x{width} px are too small for {name} with the {resolved} stem, "
        f"which needs {least[resolved]} px a side",
        fix,
    )


def build_classifier(
    name: str,
    *,
    num_classes: int,
    stem: str = "auto",
    image_size: tuple[int, int],
    dropout: float | None = None,
) -> paddle.nn.Layer:
    """Builds a freshly initialised network; equal for equal ``paddle.seed``.

    It takes images (B, 3, H, W) float32 and returns logits (B, num_classes); GoogLeNet in training mode
    returns them together with those of its two auxiliary classifiers. Layers keep Paddle's names, so that
    published weights still match; the network's ``head_layers`` names its classifier's layers.

    Args:
        name: A registered network.
        num_classes: At least 2.
        stem: See ``resolve_stem``.
        image_size: (height, width) in pixels that the network will be trained at.
        dropout: Share of activations dropped before the classifier; None keeps the network's own.

    Raises:
        BadInput: An unknown name, an image too small, a stem or a dropout that the network does not have.
    """
    family = family_of(name)
    if num_classes < 2:
        raise BadInput(f"a classifier needs at least 2 classes, got {num_classes}", "set model.num_classes=auto")
    if dropout is not None and not family.dropout:
        raise BadInput(f"{name} has no dropout before its classifier", "leave model.dropout out")
    if dropout is not None and not 0 <= dropout < 1:
        raise BadInput(f"dropout must be from 0 up to but not including 1, got {dropout}", "try model.dropout=0.2")
    resolved = resolve_stem(name, stem, image_size)
    check_image_size(name, resolved, image_size)

    from paddle_tk.models.adapters import fit_to_size
    from paddle_tk.models.stems import SMALL_STEMS

    network = MODELS.load(name)(num_classes=num_classes)
    if resolved == "small":
        SMALL_STEMS[family.key](network)
    fit_to_size(family.key, network, resolved, image_size)
    if dropout is not None:
        layers = dict(network.named_sublayers())
        for path in family.dropout:
            layers[path].p = dropout
    network.head_layers = family.head
    return network


def count_parameters(network: Any) -> dict[str, int]:
    """Counts a network's numbers, batch norm's running statistics excluded.

    Returns:
        {"parameters": all, "trainable": those that are not frozen}.
    """
    counted = [
        (int(parameter.size), not parameter.stop_gradient)
        for path, parameter in network.named_parameters()
        if not path.endswith(("._mean", "._variance"))
    ]
    return {"parameters": sum(n for n, _ in counted), "trainable": sum(n for n, trains in counted if trains)}
