"""The programs of a written project, run from its own folder, without paddle_tk."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

from paddle_tk.decide.project import DatasetSpec
from paddle_tk.decide.scaffold import write_scaffold
from tests.decide.scaffold.projects import FRAMEWORKS, project, run


@pytest.fixture(scope="module", params=FRAMEWORKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp(request.param) / "project"
    write_scaffold(folder, project(request.param, DatasetSpec("own images", 3, (32, 32))))
    done = run(folder, "train.py", "--config", "configs/quick.yaml")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_one_quick_epoch_trains_and_leaves_a_run(trained: tuple[Path, str]) -> None:
    folder, said = trained
    result = json.loads((folder / "runs/quick/result.json").read_text())
    assert result["n"] == 359
    assert result["epochs"] == 1
    assert 0.7 < result["top1"] <= 1
    assert round(result["top1"] * 359) / 359 == result["top1"]
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0
    assert f"top-1 {result['top1']:.4f} of 359 test images" in said
    assert yaml.safe_load((folder / "runs/quick/config.yaml").read_text())["name"] == "quick"
    assert any((folder / "runs/quick/log").iterdir())
    with safe_open(str(folder / "runs/quick/model.safetensors"), "numpy") as weights:
        assert {"conv1.weight", "fc.bias"} < set(weights.keys())
        assert list(weights.get_slice("conv1.weight").get_shape()) == [64, 3, 3, 3]


def test_evaluation_agrees_with_the_training_s_result(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    result = json.loads((folder / "runs/quick/result.json").read_text())
    done = run(folder, "eval.py", "--run", "runs/quick")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"top1": result["top1"], "n": result["n"]}


def test_resuming_is_refused_when_the_run_is_finished(trained: tuple[Path, str]) -> None:
    done = run(trained[0], "train.py", "--resume", "runs/quick")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: runs/quick is finished after epoch 1")


def test_errors_are_one_line_and_exit_code_2_when_data_are_missing(trained: tuple[Path, str]) -> None:
    done = run(trained[0], "train.py", "--config", "configs/default.yaml", "--run-dir", "runs/missing")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: dataset.root is data/own-images: no such folder"
    assert "Traceback" not in done.stderr


def test_errors_are_one_line_and_exit_code_2_when_weights_are_damaged(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    copy = folder / "runs" / "damaged"
    copy.mkdir()
    (copy / "config.yaml").write_text((folder / "runs/quick/config.yaml").read_text())
    (copy / "model.safetensors").write_bytes(b"no weights")
    done = run(folder, "eval.py", "--run", "runs/damaged")
    assert done.returncode == 2
    assert "model.safetensors cannot be read" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
