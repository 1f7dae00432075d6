# ruff: noqa: F811 - fixtures are imported and named as arguments
from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.commands.train import main as train
from paddle_tk.config.load import load_config
from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.errors import ArtifactError, BadInput, Stopped
from paddle_tk.files import sha256_file
from paddle_tk.manifest import load_manifest
from paddle_tk.models.weights import read_weights
from paddle_tk.pipelines.quantization_training import FineTuned, load_fine_tuned, train_quantized
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.training.checkpoint import CheckpointStore
from tests.tiny_detection import detectors  # noqa: F401
from tests.tiny_run import flip_byte, models  # noqa: F401

SETTINGS = QuantizeConfig(samples=64, learning_rate=0.001)


class _Stopping(Output):
    """Sends SIGTERM when the first epoch is told."""

    def say(self, text: object) -> None:
        if str(text).startswith("epoch 1/"):
            os.kill(os.getpid(), signal.SIGTERM)


def _run(models: Path, folder: Path, output: Output | None = None) -> FineTuned:
    return train_quantized(open_model(models / "run"), folder, settings=SETTINGS, output=output or Output(quiet=True))


@pytest.fixture(scope="module")
def tuned(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fine-tuning of the tiny LeNet; read only."""
    folder = tmp_path_factory.mktemp("tuned") / "qat"
    _run(models, folder)
    return folder


def test_fine_tuning_lowers_the_loss_and_keeps_the_parents_accuracy(models: Path, tuned: Path) -> None:
    history = [json.loads(line) for line in (tuned / "history.jsonl").read_text().splitlines()]
    epochs = [entry for entry in history if entry["kind"] == "epoch"]
    before = json.loads((models / "run" / "result.json").read_text())
    after = json.loads((tuned / "result.json").read_text())
    assert len(epochs) == 2
    assert epochs[1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[0]["train_loss"] < 2 * before["final"]["loss"]  # the first steps destroyed nothing
    assert after["final"]["top1"] >= before["final"]["top1"] - 0.03
    assert after["final"]["n"] == before["final"]["n"]


def test_fine_tuned_model_is_a_float_model_with_the_parents_names(models: Path, tuned: Path) -> None:
    parent, found = open_model(models / "run"), open_model(tuned)
    old, new = read_weights(parent.file), read_weights(found.file)
    assert {name: array.shape for name, array in old.items()} == {name: array.shape for name, array in new.items()}
    assert any(not np.array_equal(old[name], new[name]) for name in old)
    assert found.artifact.parent_sha256 == parent.sha256
    assert found.artifact.architecture == parent.artifact.architecture
    assert "fake quantizers" in found.artifact.made_by
    load_predictor(found)


def test_learned_ranges_belong_to_the_model_and_to_its_hashes(tuned: Path, tmp_path: Path) -> None:
    found = load_fine_tuned(tuned)
    weights = read_weights(found.source.file)
    assert [item.name for item in found.ranges] == ["features.0", "features.3", "fc.0", "fc.1", "fc.2"]
    for item in found.ranges:
        np.testing.assert_array_equal(item.weight, weights[f"{item.name}.weight"])
        assert item.range.algorithm == "qat"
        assert 0 < item.range.threshold < 2 * max(-item.range.low, item.range.high)
    assert found.ranges[1].range.low == 0  # behind a ReLU
    shutil.copytree(tuned / "model", tmp_path / "model")
    flip_byte(tmp_path / "model" / "ranges.json")
    with pytest.raises(ArtifactError, match=r"ranges\.json is damaged"):
        load_manifest(tmp_path / "model")


def test_saved_config_says_how_it_was_fine_tuned(models: Path, tuned: Path) -> None:
    own, config = load_config(models / "run" / "config.yaml").config, load_config(tuned / "config.yaml").config
    assert (config.trainer.max_epochs, config.trainer.learning_rate, config.trainer.schedule) == (2, 0.001, "cosine")
    assert (config.quantize.method, config.quantize.samples) == ("qat", 64)
    assert config.data == own.data
    assert config.trainer.optimizer == own.trainer.optimizer


def test_fine_tuning_ends_with_the_same_bytes_when_stopped_and_resumed(
    models: Path,
    tuned: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "qat"
    with pytest.raises(Stopped) as caught:
        _run(models, folder, _Stopping())
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert not (folder / "model").exists()
    assert CheckpointStore(folder / "checkpoints").newest() is not None
    found = _run(models, folder)
    for name in ("model.safetensors", "ranges.json"):
        assert sha256_file(folder / "model" / name) == sha256_file(tuned / "model" / name)
    times = (folder / "result.json").stat().st_mtime_ns
    assert _run(models, folder).source.sha256 == found.source.sha256  # finished: returned as it is
    assert (folder / "result.json").stat().st_mtime_ns == times


def test_stopped_fine_tuning_is_not_resumed_as_an_ordinary_training(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Stopped):
        _run(models, tmp_path / "qat", _Stopping())
    assert train(["--quiet", "--resume", str(tmp_path / "qat"), "trainer.max_retries=0"]) == 2
    assert "tools/quantize.py" in capsys.readouterr().err.replace("\n", " ")


def test_fine_tuning_is_refused_when_the_folder_was_begun_with_other_settings(
    models: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(Stopped):
        _run(models, tmp_path / "qat", _Stopping())
    other = SETTINGS.model_copy(update={"algorithm": "kl"})
    with pytest.raises(BadInput, match="algorithm: abs_max -> kl"):
        train_quantized(open_model(models / "run"), tmp_path / "qat", settings=other, output=Output(quiet=True))
    longer = SETTINGS.model_copy(update={"epochs": 3})
    with pytest.raises(BadInput, match=r"trainer\.max_epochs: 2 -> 3"):
        train_quantized(open_model(models / "run"), tmp_path / "qat", settings=longer, output=Output(quiet=True))


def test_fine_tuning_leaves_nothing_behind_when_the_input_is_bad(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    with pytest.raises(BadInput):
        train_quantized(
            source, tmp_path / "qat", settings=SETTINGS, overrides=["data.root=/nowhere", "data.name=cifar10"],
            output=Output(quiet=True),
        )  # fmt: skip
    with pytest.raises(BadInput, match="only Paddle models"):
        train_quantized(open_model(models / "onnx"), tmp_path / "qat", settings=SETTINGS, output=Output(quiet=True))
    assert not (tmp_path / "qat").exists()


def test_fine_tuning_refuses_a_folder_with_something_else(models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="not an empty folder"):
        _run(models, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["picodet_xs", "yolov10n"])
def test_detectors_are_fine_tuned_and_stay_usable(name: str, detectors: Path, tmp_path: Path) -> None:
    settings = QuantizeConfig(samples=16, batch_size=8, epochs=1)
    found = train_quantized(
        open_model(detectors / name), tmp_path / "qat", settings=settings, skip=_heads(name), output=Output(quiet=True)
    )
    boxes, scores = load_predictor(found.source).predict(np.zeros((1, 3, 64, 64), np.float32))
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()
    assert len(found.ranges) > 50
    assert not {item.name for item in found.ranges} & set(_heads(name))


def _heads(name: str) -> list[str]:
    return ["head.head_reg0"] if name == "picodet_xs" else ["one_to_one.boxes.0.out"]
