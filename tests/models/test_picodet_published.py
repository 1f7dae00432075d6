"""PicoDet held against ppdet's own: outputs, weights by name, loss."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.models.picodet import SIZES
from paddle_tk.models.weights import apply_weights, network_arrays
from tests.models.picodet_case import picodet, random_images, stir


class _Published(paddle.nn.Layer):
    """ppdet's own PicoDet, put together as its configuration file says."""

    def __init__(self, size: str, classes: int) -> None:
        super().__init__()
        parts = {name: importlib.import_module(f"ppdet.modeling.{name}") for name in (
            "backbones.lcnet", "necks.lc_pan", "heads.pico_head", "losses.varifocal_loss", "losses.gfocal_loss",
            "losses.iou_loss", "assigners.atss_assigner", "assigners.task_aligned_assigner")}  # fmt: skip
        scale, channels, convs = SIZES[size]
        self.backbone = parts["backbones.lcnet"].LCNet(scale=scale, feature_maps=[3, 4, 5])
        self.neck = parts["necks.lc_pan"].LCPAN(
            [spec.channels for spec in self.backbone.out_shape], channels, num_features=4,
            spatial_scales=[1 / 8, 1 / 16, 1 / 32],
        )  # fmt: skip
        head = parts["heads.pico_head"]
        self.head = head.PicoHeadV2(
            conv_feat=head.PicoFeat(channels, channels, 4, convs, "bn", True, "hard_swish", True),
            num_classes=classes, fpn_stride=[8, 16, 32, 64], reg_max=7, feat_in_chan=channels, cell_offset=0.5,
            loss_class=parts["losses.varifocal_loss"].VarifocalLoss(use_sigmoid=False),
            loss_dfl=parts["losses.gfocal_loss"].DistributionFocalLoss(loss_weight=0.5),
            loss_bbox=parts["losses.iou_loss"].GIoULoss(loss_weight=2.5),
            static_assigner=parts["assigners.atss_assigner"].ATSSAssigner(9, num_classes=classes),
            assigner=parts["assigners.task_aligned_assigner"].TaskAlignedAssigner(13, 1.0, 6.0),
            static_assigner_epoch=100,
        )  # fmt: skip

    def forward(self, images: paddle.Tensor) -> Any:
        return self.head(self.neck(self.backbone({"image": images})))

    def loss(self, images: paddle.Tensor, targets: paddle.Tensor, epoch: int) -> dict[str, float]:
        labels = targets[:, :, :1].astype("int64")
        given = {
            "gt_class": labels.clip(min=0), "gt_bbox": targets[:, :, 1:], "im_id": paddle.zeros([targets.shape[0]]),
            "pad_gt_mask": (labels >= 0).astype("float32"), "epoch_id": epoch,
        }  # fmt: skip
        return {name: float(value) for name, value in self.head.get_loss(self(images), given).items()}


@pytest.fixture(scope="module")
def published() -> Any:
    picodet()  # imports ppdet with the process kept as it is
    paddle.seed(3)
    built = _Published("xs", 5)
    stir(built)
    return built


def test_outputs_equal_ppdets_when_its_weights_are_loaded_by_name(published: Any) -> None:
    network = picodet(classes=5)
    assert apply_weights(network, network_arrays(published), source="published").complete
    network.eval()
    published.eval()
    images = random_images(2, 3, 96, 160)
    boxes, scores = network(images)
    expected_scores, expected_boxes = published(images)
    np.testing.assert_allclose(boxes.numpy(), expected_boxes.numpy(), atol=1e-4)
    np.testing.assert_allclose(scores.numpy(), expected_scores.numpy().transpose(0, 2, 1), atol=5e-5)
    assert scores.numpy().std() > 0.01


def test_published_weights_load_but_for_the_classifier_when_the_class_count_differs(published: Any) -> None:
    network = picodet(classes=3)
    report = apply_weights(network, network_arrays(published), source="published")
    assert {item.name for item in report.wrong_shape} == set(report.head)
    assert len(report.head) == 8
    assert not report.missing


# 160 px: ppdet's ATSS needs nine cells on the coarsest level.
@pytest.mark.parametrize(("epoch", "tolerance"), [(0, 1e-4), (100, 1e-2)], ids=["atss", "aligned"])
def test_loss_equals_ppdets(published: Any, epoch: int, tolerance: float) -> None:
    network = picodet(classes=5)
    apply_weights(network, network_arrays(published), source="published")
    images, loss = random_images(2, 3, 160, 160), network.make_loss()
    targets = paddle.to_tensor(
        [
            [[0, 10.3, 12.1, 60.2, 70.7], [4, 80.9, 20.4, 150.6, 90.2], [2, 5.5, 100.3, 40.1, 150.8]],
            [[1, 30.2, 40.6, 141.3, 122.9], [-1, 0.0, 0.0, 0.0, 0.0], [-1, 0.0, 0.0, 0.0, 0.0]],
        ]
    )
    published.train()
    network.train()
    loss.start_epoch(epoch, 300)
    total, parts = loss(*network(images), targets)
    expected = published.loss(images, targets, epoch)
    assert float(total) == pytest.approx(sum(expected.values()), rel=tolerance)
    for ours, theirs in {"vfl": "loss_vfl", "iou": "loss_bbox", "dfl": "loss_dfl"}.items():
        assert float(parts[ours]) == pytest.approx(expected[theirs], rel=tolerance)
