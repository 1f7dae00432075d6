from __future__ import annotations

import math

import numpy as np
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.loggers import FOLDERS, LOGGERS, record_scalars
from paddle_tk.training.loggers.base import check_image, finished_step, replay_points

STEP = {"kind": "step", "epoch": 1, "step": 10, "loss": 0.5, "learning_rate": 0.1, "images_per_second": 900.0}
EPOCH = {"kind": "epoch", "epoch": 1, "step": 40, "train_loss": 0.4, "val_top1": 0.9, "val_top5": None}


def test_record_scalars_gives_train_tags_when_record_is_a_step() -> None:
    assert record_scalars(STEP) == {
        "train/loss": 0.5, "train/learning_rate": 0.1, "train/images_per_second": 900.0,
    }  # fmt: skip


def test_record_scalars_leaves_out_what_is_no_number_when_record_is_an_epoch() -> None:
    record = EPOCH | {"note": "x", "stopped": True, "seconds": np.float32(2.0)}
    assert record_scalars(record) == {"epoch/train_loss": 0.4, "epoch/val_top1": 0.9, "epoch/seconds": 2.0}


def test_record_scalars_keeps_nan_when_a_loss_diverged() -> None:
    assert math.isnan(record_scalars(STEP | {"loss": float("nan")})["train/loss"])


def test_record_scalars_raises_when_kind_is_unknown() -> None:
    with pytest.raises(ValueError, match="kind"):
        record_scalars({"kind": "batch", "step": 1, "loss": 1.0})


def test_replay_points_give_the_later_value_when_a_step_was_recorded_twice() -> None:
    points = list(replay_points([STEP, EPOCH, STEP | {"loss": 0.7}]))
    assert len({(p.tag, p.step) for p in points}) == len(points)
    assert [p.value for p in points if p.tag == "train/loss"] == [0.7]


def test_finished_step_is_that_of_the_last_epoch_when_steps_follow() -> None:
    assert finished_step([STEP, EPOCH, STEP | {"step": 50}]) == 40
    assert finished_step([STEP]) == 0


def test_check_image_raises_when_picture_is_not_rgb_uint8() -> None:
    with pytest.raises(ValueError, match="uint8"):
        check_image(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        check_image(np.zeros((4, 4), np.uint8))


def test_every_logger_loads_and_has_a_folder_when_asked_by_name() -> None:
    assert set(LOGGERS) == set(FOLDERS) == {"visualdl", "tensorboard", "wandb"}
    for name in LOGGERS:
        assert callable(LOGGERS.load(name))
    with pytest.raises(BadInput, match="visualdl"):
        LOGGERS.load("visualdll")
