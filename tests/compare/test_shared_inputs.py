from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paddle_tk import files
from paddle_tk.compare.inputs import SharedInputs, open_inputs
from paddle_tk.compare.shared_inputs import build_shared_inputs, check_comparable
from paddle_tk.console import Output
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.files import sha256_file
from paddle_tk.models.weights import read_weights
from paddle_tk.training.build import build_dataset, build_loaders

from .small_plan import CLASSIFIER, DETECTOR, EPOCHS, boxes, config, inputs

__all__ = ["boxes", "inputs"]


def test_batches_are_those_of_the_training_loader(inputs: SharedInputs) -> None:
    settings = config(*CLASSIFIER)
    loaders = build_loaders(settings, "classification", build_dataset(settings, Output(quiet=True)))
    place = 0
    for epoch in range(EPOCHS):
        loaders.train.start(epoch)
        for images, labels in loaders.train:
            found = inputs.train_batch(place)
            assert found[0].tobytes() == images.numpy().tobytes()
            assert found[1].tolist() == labels.numpy().tolist()
            place += 1
    assert place == inputs.plan.epochs * inputs.plan.batches_per_epoch == 4
    val = list(inputs.eval_images("val").batches())
    for (images, labels), found in zip(loaders.val, val, strict=True):
        assert found[0].tobytes() == images.numpy().tobytes()
        assert found[1].tolist() == labels.numpy().tolist()


def test_targets_of_boxes_are_those_of_the_training_loader(
    boxes: SharedInputs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "compare-coco"
    settings = config(*DETECTOR, f"data.root={root}", f"trainer.max_epochs={EPOCHS}")
    loaders = build_loaders(settings, "detection", build_dataset(settings, Output(quiet=True)))
    loaders.train.start(1)
    for step, (images, targets) in enumerate(loaders.train):
        found = boxes.train_batch(boxes.plan.batches_per_epoch + step)
        assert found[0].tobytes() == images.numpy().tobytes()
        np.testing.assert_array_equal(found[1], targets.numpy())
    truth = boxes.eval_images("test").split
    assert truth is not None
    for index in range(len(truth)):
        expected = loaders.test.split.boxes(index)  # type: ignore[union-attr]
        np.testing.assert_array_equal(truth.boxes(index).xyxy, expected.xyxy)
        np.testing.assert_array_equal(truth.boxes(index).class_ids, expected.class_ids)
    np.testing.assert_array_equal(truth.sizes, loaders.test.split.sizes)  # type: ignore[union-attr]


def test_plan_holds_what_both_need_and_hashes_of_all_files(inputs: SharedInputs) -> None:
    plan = inputs.plan
    assert (plan.model["name"], plan.model["stem"], plan.metric, plan.precision) == (
        "resnet18", "small", "top1", "fp32",
    )  # fmt: skip
    assert plan.schedule["max_epochs"] == EPOCHS
    assert {name: entry["sha256"] for name, entry in inputs.files.items()} == {
        path.name: sha256_file(path) for path in inputs.folder.iterdir() if path.name != "plan.json"
    }
    assert "fc.weight" in read_weights(inputs.weights)


def test_a_last_batch_that_is_not_full_is_cut(tmp_path: Path) -> None:
    settings = [
        *("data=digits", "model=resnet18", "data.image_size=16", "data.batch_size=48", "data.num_workers=0"),
        "data.max_samples=120",
    ]
    made = build_shared_inputs(config(*settings), tmp_path / "in", epochs=1, output=Output(quiet=True))
    sizes = [len(made.train_batch(step)[1]) for step in range(made.plan.batches_per_epoch)]
    assert sizes[:-1] == [48] * (len(sizes) - 1)
    assert 0 < sizes[-1] == made.plan.epoch_images % 48
    assert made.plan.whole_batches == list(range(len(sizes) - 1))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model=resnet50", "model.name=resnet34"], "model.name=resnet34 has no twin in torch"),
        (["trainer.precision=bf16"], "trainer.precision=bf16 cannot be compared fairly"),
        (["trainer.ema_decay=0.9"], "trainer.ema_decay=0.9 cannot"),
        (["trainer.mixup_alpha=0.2"], "trainer.mixup_alpha=0.2 cannot"),
        (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=2 cannot"),
        (["trainer.early_stopping_patience=2"], "trainer.early_stopping_patience=2 cannot"),
        (["model=yolov10n", "data.multi_scale=[0.5,1.5]"], r"data.multi_scale=\[0.5, 1.5\] cannot"),
    ],
)
def test_what_cannot_be_compared_fairly_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        check_comparable(config(*overrides))


def test_a_small_disk_and_a_batch_that_is_too_large_are_refused_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["data=digits", "model=resnet18", "data.image_size=16", "data.num_workers=0", "data.max_samples=40"]
    with pytest.raises(BadInput, match="leaves no whole batch in"):
        build_shared_inputs(
            config(*small, "data.batch_size=1000"), tmp_path / "in", epochs=1, output=Output(quiet=True)
        )
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(BadInput, match="not enough disk space for the batches of 1 epochs"):
        build_shared_inputs(config(*small), tmp_path / "in", epochs=1, output=Output(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_were_changed_or_lost_are_refused(inputs: SharedInputs, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(inputs.folder, folder)
    assert open_inputs(folder).sha256 == inputs.sha256
    plan = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(plan.replace('"learning_rate": 0.05', '"learning_rate": 0.5'))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        open_inputs(folder)
    (folder / "plan.json").write_text(plan)
    with (folder / "val_labels.npy").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ArtifactError, match=r"val_labels.npy has \d+ bytes, \d+ were written"):
        open_inputs(folder)
    (folder / "val_labels.npy").unlink()
    with pytest.raises(ArtifactError, match=r"val_labels.npy is missing"):
        open_inputs(folder)
    with pytest.raises(ArtifactError, match="holds no inputs of a comparison"):
        open_inputs(tmp_path)
