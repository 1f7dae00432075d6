from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.evaluate.classes import check_classes
from paddle_tk.evaluate.task import evaluate
from paddle_tk.runtime.load import load_predictor, open_model
from tests.tiny_run import models  # noqa: F401


@pytest.fixture(scope="module")
def digits() -> DatasetBundle:
    return load_dataset("digits", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)


def test_evaluate_repeats_the_trainings_figures_when_the_run_is_fresh(models: Path, digits: DatasetBundle) -> None:  # noqa: F811
    final = json.loads((models / "run" / "result.json").read_text())["final"]
    predictor = load_predictor(open_model(models / "run"))
    found = evaluate(predictor, digits.splits["test"], batch_size=64, label_smoothing=0.05)
    assert (found.n, found.accuracy["top1"], found.accuracy["top5"]) == (final["n"], final["top1"], final["top5"])
    assert found.macro_recall == pytest.approx(final["macro_recall"])
    assert found.loss == pytest.approx(final["loss"], rel=1e-6)
    assert found.accuracy["top1"] > 0.5  # it has learned: the equality above is not that of two guesses


def test_evaluate_breaks_top1_down_by_class_when_classes_are_many(models: Path, digits: DatasetBundle) -> None:  # noqa: F811
    split = digits.splits["test"]
    advanced: list[int] = []
    found = evaluate(load_predictor(open_model(models / "run")), split, batch_size=100, advance=advanced.append)
    classes = found.per_class()
    counts = np.bincount(split.labels, minlength=10)
    assert [classes[str(i)]["n"] for i in range(10)] == counts.tolist()
    right = sum(row["top1"] * row["n"] for row in classes.values())  # type: ignore[operator]
    assert right / found.n == pytest.approx(found.accuracy["top1"])
    assert found.macro_recall == pytest.approx(np.mean([row["top1"] for row in classes.values()]))
    assert found.to_dict()["macro_recall"] == found.macro_recall
    assert advanced == [100, 100, 100, 59]
    assert found.to_dict()["origin"] == "measured"
    units = {m.name: (m.unit, m.n) for m in found.measurements()}
    assert units["top1"] == ("share", 359)
    assert units["images_per_second"] == ("images/s", 359)


def test_evaluate_says_none_when_a_class_has_no_image(models: Path, digits: DatasetBundle) -> None:  # noqa: F811
    split = digits.splits["test"]
    sevens = split.subset(np.flatnonzero(split.labels == 7))
    found = evaluate(load_predictor(open_model(models / "onnx")), sevens, batch_size=8, limit_batches=2)
    assert found.n == 16
    assert found.per_class()["3"] == {"top1": None, "n": 0}
    json.dumps(found.to_dict(), allow_nan=False)


def test_evaluate_refuses_when_the_model_returns_nan(models: Path, digits: DatasetBundle, tmp_path: Path) -> None:  # noqa: F811
    model = onnx.load(str(models / "onnx-dynamic" / "model.onnx"))
    bias = next(t for t in model.graph.initializer if list(t.dims) == [10])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model, str(tmp_path / "nan.onnx"))
    with pytest.raises(ArtifactError, match="not finite for 8 of 8 images"):
        evaluate(load_predictor(open_model(tmp_path / "nan.onnx")), digits.splits["test"], batch_size=8)


def test_check_classes_lists_the_differences_when_classes_differ(models: Path, digits: DatasetBundle) -> None:  # noqa: F811
    artifact = open_model(models / "run").artifact
    check_classes(artifact, digits)
    other = replace(digits, classes=(*digits.classes[:9], "nine"))
    with pytest.raises(BadInput, match=r"only in the model: 9; only in the dataset: nine"):
        check_classes(artifact, other)
    with pytest.raises(BadInput, match="order differs"):
        check_classes(artifact, replace(digits, classes=digits.classes[::-1]))
