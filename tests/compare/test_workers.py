from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.compare.inputs import SharedInputs
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.measure.fresh_process import run_fresh
from paddle_tk.models.weights import read_weights

from .small_plan import EPOCHS, inputs

__all__ = ["inputs"]


def job(given: SharedInputs, output: Path, framework: str, **changes: object) -> dict[str, object]:
    return {
        "inputs": str(given.folder), "option": framework, "threads": 1, "device": "cpu", "warmup": 1,
        "phases": ["inference", "outputs", "losses", "bare", "fit", "train", "trained_outputs"],
        "train_steps": 2, "inference_repeats": 5,
        "throughput_batch": 4, "throughput_repeats": 2, "epochs": EPOCHS, "curve_steps": 2, "output": str(output),
        "compiled": True, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_worker_answers_every_phase(framework: str, inputs: SharedInputs, tmp_path: Path) -> None:
    module = f"paddle_tk.compare.{framework}_worker"
    given = job(inputs, tmp_path, framework)
    found = run_fresh(module, given, threads=1, what=framework, timeout_seconds=300)
    assert (found["framework"], found["device"], found["threads"]) == (framework, "cpu", 1)
    assert found["inputs_sha256"] == inputs.sha256
    assert 0 < found["import_seconds"] < found["inference"]["cold_start_seconds"]
    assert found["trainer_import_seconds"] > 0
    inference = found["inference"]
    assert (len(inference["latency_ms"]), len(inference["throughput_ms"]), inference["batch_size"]) == (5, 2, 4)
    assert inference["compiled"]["form"], inference["compiled"]["reason"]
    assert len(inference["compiled"]["latency_ms"]) == 5
    assert np.load(found["outputs"]["files"]["logits"]).shape == (found["outputs"]["images"], 10)
    assert len(found["losses"]["losses"]) == len(found["losses"]["losses_float32"]) == 2
    assert found["losses"]["losses"] == pytest.approx(found["losses"]["losses_float32"], rel=1e-4)
    for phase in ("bare", "fit"):
        assert (len(found[phase]["step_ms"]), len(found[phase]["losses"]), found[phase]["images_per_step"]) == (
            2,
            3,
            16,
        )
        assert found[phase]["gpu"]["reason"] == "no GPU: computed on the CPU"
        assert 20 < found[phase]["peak_mib"] < 8192
    train = found["train"]
    assert [entry["epoch"] for entry in train["epochs"]] == [1, 2]
    assert (len(train["losses"]), train["metric"], train["test_n"]) == (4, "top1", 32)
    assert 0 <= train["test_metric"] <= 1
    trained, first = read_weights(train["weights"]), read_weights(inputs.weights)
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in first.items()}
    assert np.abs(trained["fc.weight"] - first["fc.weight"]).max() > 0
    before, after = (np.load(found[name]["files"]["logits"]) for name in ("outputs", "trained_outputs"))
    assert before.shape == after.shape
    assert np.abs(before - after).max() > 0


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_worker_tells_of_inputs_that_are_not_there(framework: str, inputs: SharedInputs, tmp_path: Path) -> None:
    given = job(inputs, tmp_path, framework, inputs=str(tmp_path))
    with pytest.raises(ArtifactError, match="holds no inputs of a comparison"):
        run_fresh(f"paddle_tk.compare.{framework}_worker", given, threads=1, what=framework, timeout_seconds=120)


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_losses_are_of_some_images_when_the_job_says_so(framework: str, inputs: SharedInputs, tmp_path: Path) -> None:
    module, found = f"paddle_tk.compare.{framework}_worker", []
    for images in (None, 16, 5):
        given = job(inputs, tmp_path, framework, phases=["losses"], curve_images=images)
        answer = run_fresh(module, given, threads=1, what=framework, timeout_seconds=300)
        found.append(answer["losses"]["losses"])
    assert found[0] == found[1] != found[2]


def test_a_python_without_torch_is_told(inputs: SharedInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    given = job(inputs, tmp_path, "torch")
    with pytest.raises(BadInput, match="torch cannot be imported by"):
        run_fresh("paddle_tk.compare.torch_worker", given, threads=1, what="torch", timeout_seconds=60)
