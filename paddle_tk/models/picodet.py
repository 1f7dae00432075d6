"""PicoDet XS, S, M and L (arXiv 2111.00902) from PaddleDetection's layers, with a forward that exports.

Backbone (LCNet) and neck (LC-PAN) are ppdet's own; the head is put together from ppdet's blocks under ppdet's names,
so that the weights it publishes load by name. What differs from ppdet's PicoHeadV2: tensors that are never used are
left out (learned scales, second names of the same layers), any image size and batch size passes through one forward,
and no state is shared between networks. Sizes are those of PaddleDetection 2.6, configs/picodet/*_lcnet.yml.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import paddle
from paddle import nn
from paddle.nn import functional
from PIL import ImageFile

from paddle_tk.errors import BadInput
from paddle_tk.models.activations import make_activation
from paddle_tk.models.picodet_loss import PicoDetLoss, boxes_of, flatten_maps, grid

STRIDES = (8, 16, 32, 64)
REG_MAX = 7  # distances to a box's sides are distributions over 0..7 strides
NMS_IOU = 0.6
_SIDE = 32  # the neck doubles its maps three times; only the coarsest level may round up
_KERNEL = 5
_PRIOR = 0.01  # score of every class before training


class _Size(NamedTuple):
    """What distinguishes the sizes: LCNet's width, channels of neck and head, convolutions per level of the head."""

    scale: float
    channels: int
    convs: int


SIZES = {
    "xs": _Size(0.35, 96, 2),
    "s": _Size(0.75, 96, 2),
    "m": _Size(1.5, 128, 4),
    "l": _Size(2.0, 160, 4),
}


class _Blocks(NamedTuple):
    """The classes that are taken from ppdet."""

    backbone: Any
    neck: Any
    conv_norm: Any
    squeeze: Any
    separable: Any


def build_picodet(
    size: str, *, num_classes: int, image_size: tuple[int, int], activation: str | None = None
) -> paddle.nn.Layer:
    """Builds a PicoDet; equal for equal ``paddle.seed``.

    Args:
        size: "xs", "s", "m" or "l": 0.70, 1.18, 3.46 and 5.80 million parameters with 80 classes.
        num_classes: At least 1.
        image_size: (height, width) in pixels, multiples of 32. The network takes other multiples of 32 too.
        activation: "hardswish", "silu", "relu" or "relu6", in backbone, neck and head; None: hardswish. The gates
            of squeeze-and-excitation keep their own functions.

    Returns:
        A ``PicoDet``.

    Raises:
        BadInput: An unknown size or activation, a size of images that does not fit, or ppdet is not installed.
    """
    if size not in SIZES:
        raise BadInput(f"unknown PicoDet size '{size}'", f"choose one of {', '.join(SIZES)}")
    name = activation or "hardswish"
    make_activation(name)  # refuses an unknown name before anything is built
    _check_size(*image_size)
    settings, blocks = SIZES[size], _blocks()
    backbone = blocks.backbone(scale=settings.scale, feature_maps=[3, 4, 5])
    neck = blocks.neck(
        in_channels=[spec.channels for spec in backbone.out_shape],
        out_channels=settings.channels,
        num_features=len(STRIDES),
        # A list of its own: the neck appends to it, and its default is one list for all necks of a process.
        spatial_scales=[1 / stride for stride in STRIDES[:3]],
    )
    neck.upsample = _Double()
    for part in (backbone, neck):
        _switch_activation(part, name)
    return PicoDet(backbone, neck, _Head(blocks, settings, num_classes, name))


class PicoDet(nn.Layer):
    """A detector: see ``paddle_tk.models.detectors.Detector``.

    Args:
        backbone: Maps {"image": (B, 3, H, W)} to maps of strides 8, 16 and 32.
        neck: Maps these to maps of strides 8, 16, 32 and 64.
        head: Maps these to what ``raw`` returns.

    Attributes:
        head_layers: Layers whose shape follows the class count.
        nms_iou: Overlap above which the worse of two boxes of a class is dropped after decoding.
        strides: Pixels per cell, by level.
    """

    head_layers = tuple(f"head.head_cls{level}" for level in range(len(STRIDES)))
    nms_iou: float | None = NMS_IOU
    strides = STRIDES

    def __init__(self, backbone: Any, neck: Any, head: nn.Layer) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def raw(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Returns what the loss needs.

        Args:
            images: (B, 3, H, W), normalised; sides are multiples of 32.

        Returns:
            Level by level, finest first: class logits (B, C, h, w), alignment logits (B, 1, h, w), logits of the
            distance distributions (B, 4 * 8, h, w); h = ceil(H / stride).

        Raises:
            BadInput: A side is no multiple of 32.
        """
        _check_size(int(images.shape[2]), int(images.shape[3]))
        return list(self.head(self.neck(self.backbone({"image": images}))))

    def decode(self, raw: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns boxes and scores of all cells, unclipped and before any selection.

        Args:
            raw: What ``raw`` returned.

        Returns:
            Boxes (B, N, 4), x1 y1 x2 y2 in pixels of the input, and scores (B, N, C) in 0..1. A score is the
            geometric mean of the class's and the alignment's sigmoid (TOOD, arXiv 2108.07755).
        """
        with paddle.amp.auto_cast(enable=False):  # half precision has no room for pixels
            classes, alignment, distributions = flatten_maps(raw)
            boxes = boxes_of(distributions, grid(raw, self.strides))
            scores = (functional.sigmoid(classes) * functional.sigmoid(alignment)).sqrt()
        return boxes.transpose([0, 2, 1]), scores.transpose([0, 2, 1])

    def forward(self, images: paddle.Tensor) -> Any:
        """Returns ``raw(images)`` in training mode, else ``decode`` of it."""
        raw = self.raw(images)
        return raw if self.training else self.decode(raw)

    def make_loss(self) -> PicoDetLoss:
        """Returns a new loss for this network's outputs."""
        return PicoDetLoss(self.strides)


class _Double(nn.Layer):
    """Doubles a map by nearest neighbour; by size, since Paddle2ONNX refuses ``nn.Upsample``'s float64 factor."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.interpolate(x, size=[2 * int(x.shape[2]), 2 * int(x.shape[3])], mode="nearest")


class _Features(nn.Layer):
    """Per level, depthwise and pointwise convolutions for both tasks and a squeeze for the boxes: ppdet's PicoFeat."""

    def __init__(self, blocks: _Blocks, channels: int, convs: int, activation: str) -> None:
        super().__init__()
        self.activate = getattr(functional, activation)
        self.se = nn.LayerList([blocks.squeeze(channels) for _ in STRIDES])
        for level in range(len(STRIDES)):
            wide = [blocks.conv_norm(channels, channels, _KERNEL, 1, groups=channels) for _ in range(convs)]
            point = [blocks.conv_norm(channels, channels, 1, 1) for _ in range(convs)]
            self.add_sublayer(f"cls_conv_dw{level}", nn.LayerList(wide))
            self.add_sublayer(f"cls_conv_pw{level}", nn.LayerList(point))

    def forward(self, x: paddle.Tensor, level: int) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns features for the alignment and features for classes and boxes, both (B, channels, h, w)."""
        wide, point = getattr(self, f"cls_conv_dw{level}"), getattr(self, f"cls_conv_pw{level}")
        for index in range(len(wide)):
            x = self.activate(point[index](self.activate(wide[index](x))))
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x, self.activate(self.se[level](x, mean))


class _Head(nn.Layer):
    """ppdet's PicoHeadV2 without its loss: same parameters, same names, no second names."""

    def __init__(self, blocks: _Blocks, settings: _Size, num_classes: int, activation: str) -> None:
        super().__init__()
        channels = settings.channels
        self.conv_feat = _Features(blocks, channels, settings.convs, activation)
        align = [blocks.separable(channels, 1, _KERNEL, act=activation, use_act_in_out=False) for _ in STRIDES]
        self.cls_align = nn.LayerList(align)
        for level in range(len(STRIDES)):
            self.add_sublayer(f"head_cls{level}", _predictor(channels, num_classes, math.log(_PRIOR / (1 - _PRIOR))))
            self.add_sublayer(f"head_reg{level}", _predictor(channels, 4 * (REG_MAX + 1), 0.0))

    def forward(self, maps: tuple[paddle.Tensor, ...]) -> list[paddle.Tensor]:
        """Returns three maps per level: class logits, alignment logits, distance logits."""
        found = []
        for level, x in enumerate(maps):
            plain, squeezed = self.conv_feat(x, level)
            found.append(getattr(self, f"head_cls{level}")(squeezed))
            found.append(self.cls_align[level](plain))
            found.append(getattr(self, f"head_reg{level}")(squeezed))
        return found


def _predictor(channels: int, outputs: int, bias: float) -> nn.Layer:
    weight = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01))
    offset = paddle.ParamAttr(initializer=nn.initializer.Constant(bias))
    return nn.Conv2D(channels, outputs, 1, weight_attr=weight, bias_attr=offset)


def _check_size(height: int, width: int) -> None:
    if height % _SIDE == 0 and width % _SIDE == 0 and min(height, width) > 0:
        return
    fitting = [max(_SIDE, round(side / _SIDE) * _SIDE) for side in (height, width)]
    raise BadInput(
        f"PicoDet takes image sides that are multiples of {_SIDE} px, got {height}x{width}",
        f"use data.image_size=[{fitting[0]},{fitting[1]}]",
    )


def _switch_activation(part: nn.Layer, name: str) -> None:
    """Sets the activation of ppdet's blocks: sublayers in LCNet's, names of functions in LC-PAN's."""
    for layer in part.sublayers(include_self=True):
        if isinstance(layer.__dict__.get("act"), str):
            layer.act = name
        for path, child in list(layer.named_children()):
            if isinstance(child, nn.Hardswish):
                setattr(layer, path, make_activation(name))


def _blocks() -> _Blocks:
    with _process_kept():
        try:
            from ppdet.modeling.backbones.lcnet import LCNet  # type: ignore[import-untyped, unused-ignore]
            from ppdet.modeling.heads.pico_head import PicoSE  # type: ignore[import-untyped, unused-ignore]
            from ppdet.modeling.layers import ConvNormLayer  # type: ignore[import-untyped, unused-ignore]
            from ppdet.modeling.necks.csp_pan import DPModule  # type: ignore[import-untyped, unused-ignore]
            from ppdet.modeling.necks.lc_pan import LCPAN  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            raise BadInput(
                f"PicoDet needs PaddleDetection, which cannot be imported: {error}",
                "pip install -r requirements.txt; pip install --no-deps paddledet==2.6.0",
            ) from error
    return _Blocks(LCNet, LCPAN, ConvNormLayer, PicoSE, DPModule)


@contextmanager
def _process_kept() -> Iterator[None]:
    """Undoes what importing ppdet changes for everyone.

    It hides all warnings from then on, and lets Pillow fill up truncated images with grey instead of refusing them.
    """
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
