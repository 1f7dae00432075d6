from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddle_tk.commands.validate import main
from paddle_tk.config.load import load_config
from paddle_tk.data.datasets import load_dataset
from paddle_tk.errors import CheckFailed
from paddle_tk.files import sha256_file
from paddle_tk.pipelines.validate import Chain, debug_config, shared_image, validate

SMALL = ["model=lenet", "data.image_size=28"]


def _steps(file: Path) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in json.loads(file.read_text())["steps"]}


def test_validate_passes_every_step_when_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, file = tmp_path / "kept", tmp_path / "v.json"
    code = main(["--dataset", "digits", *SMALL, "--keep", str(kept), "--json", str(file)])
    steps = _steps(file)
    of_training = {name: step["status"] for name, step in steps.items() if name != "environment"}
    assert of_training == dict.fromkeys(["data", "train", "resume", "eval", "export", "parity"], "pass"), steps
    assert code == (0 if steps["environment"]["status"] == "pass" else 1)
    assert "from epoch 1, batch 2: all 10 tensors equal" in steps["resume"]["found"]
    assert "(n=32)" in steps["eval"]["found"]
    hashes = {sha256_file(kept / name / "model" / "model.safetensors") for name in ("run", "resumed")}
    assert len(hashes) == 1
    assert {p.name for p in (kept / "onnx").iterdir()} == {"model.onnx", "manifest.json", "parity.json"}
    said = capsys.readouterr().out
    assert all(f"  {name}" in said for name in steps)
    assert all(step["seconds"] > 0 for step in steps.values())


def test_validate_exits_1_and_skips_the_rest_when_data_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "v.json"
    assert main(["--dataset", "image_folder", f"data.root={tmp_path / 'none'}", "--json", str(file)]) == 1
    steps = _steps(file)
    assert steps["data"]["status"] == "fail"
    assert "none is not a folder" in steps["data"]["found"]
    assert steps["data"]["fix"]
    assert {steps[name]["status"] for name in ("train", "resume", "eval", "export", "parity")} == {"skipped"}
    assert steps["train"]["found"] == "data did not pass"
    assert "failed: " in capsys.readouterr().out


def test_validate_goes_on_when_only_the_training_diverges(tmp_path: Path) -> None:
    file = tmp_path / "v.json"
    options = ["trainer.learning_rate=100", "trainer.schedule=constant", "trainer.warmup_epochs=0", "data.mean=[9,9,9]"]
    assert main(["--quiet", *SMALL, *options, "data.std=[1e-9,1e-9,1e-9]", "--json", str(file)]) == 1
    steps = _steps(file)
    assert steps["data"]["status"] == "pass"
    assert (steps["train"]["status"], steps["parity"]["status"]) == ("fail", "skipped")
    assert "diverged" in steps["train"]["found"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dataset", "digit"], "did you mean 'digits'"),
        (["model=resnet"], "unknown model 'resnet'"),
        (["model=alexnet", "data.image_size=16"], "too small for alexnet"),
        (["trainer.speed=9"], "trainer.speed"),
        (["--stage", "test"], "--stage"),
        (["trainer.devices=gpu:7", "trainer.accelerator=gpu"], "gpu:7"),
    ],
)
def test_validate_exits_2_and_leaves_nothing_when_asked_for_what_cannot_be(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--keep", str(tmp_path / "kept"), "--json", str(tmp_path / "v.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert list(tmp_path.iterdir()) == []


def test_validate_exits_2_when_the_folder_to_keep_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main([*SMALL, "--keep", str(tmp_path)]) == 2
    assert "mine.txt" in capsys.readouterr().err


def test_validate_trains_in_full_when_the_stage_is_production(tmp_path: Path) -> None:
    file = tmp_path / "v.json"
    quick = ["trainer.max_epochs=2", "data.max_samples=60", "trainer.loggers=[]"]
    main(["--quiet", "--stage", "production", *SMALL, *quick, "--json", str(file)])
    steps = _steps(file)
    assert "2 epoch(s)" in steps["train"]["found"]
    assert "(n=359)" in steps["train"]["found"]
    assert "from epoch 2, batch 1: all 10 tensors equal" in steps["resume"]["found"]
    assert {steps[name]["status"] for name in ("eval", "export", "parity")} == {"pass"}


def test_validate_tool_exits_2_with_one_line_when_the_config_is_missing(
    tmp_path: Path, tool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tool("validate", "-c", "none.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "none.yaml" in done.stderr


def _chain(folder: Path, *overrides: str) -> Chain:
    config = debug_config(load_config(None, [*SMALL, *overrides]).config)
    return Chain("debug", config, "0" * 64, "cpu", 1, folder)


def test_resume_step_fails_when_the_resumed_run_is_trained_otherwise(tmp_path: Path) -> None:
    chain = _chain(tmp_path)
    chain.check_data()
    chain.train()
    # What a broken resume would do: go on with another learning rate.
    chain.config = chain.config.model_copy(
        update={"trainer": chain.config.trainer.model_copy(update={"learning_rate": 0.5, "warmup_epochs": 0.0})}
    )
    with pytest.raises(CheckFailed, match="tensors differ"):
        chain.resume()


def test_resume_step_is_skipped_with_a_reason_when_it_cannot_be_judged(tmp_path: Path) -> None:
    chain = _chain(tmp_path)
    chain.device = "gpu:0"
    assert "CPU only" in str(chain.resume_reason())
    chain.device = "cpu"
    assert "only one checkpoint" in str(chain.resume_reason())


def test_eval_step_fails_when_the_written_result_is_another(tmp_path: Path) -> None:
    chain = _chain(tmp_path)
    chain.check_data()
    chain.train()
    file = tmp_path / "run" / "result.json"
    result = json.loads(file.read_text())
    result["final"]["top1"] += 0.25
    file.write_text(json.dumps(result))
    with pytest.raises(CheckFailed, match="the training said"):
        chain.evaluate()


def test_shared_image_is_found_when_two_splits_hold_it() -> None:
    bundle = load_dataset("digits", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    assert shared_image(bundle) is None
    test = bundle.splits["test"]
    leaking = replace(bundle, splits={**bundle.splits, "val": test.subset(np.arange(3))})
    assert shared_image(leaking) == f"{test.name(0)} in val and test"


def test_debug_config_keeps_what_is_asked_for_but_is_small() -> None:
    full = load_config(None, ["data.batch_size=8", "trainer.optimizer=adamw", "trainer.accumulate_grad_batches=4"])
    small = debug_config(full.config)
    assert (small.data.batch_size, small.trainer.optimizer, small.trainer.fast_dev_run) == (8, "adamw", True)
    assert debug_config(load_config(None, ["data.batch_size=512"]).config).data.batch_size == 16


def test_validate_fails_the_step_but_no_other_when_a_step_breaks(tmp_path: Path) -> None:
    chain = _chain(tmp_path, "data=image_folder", f"data.root={tmp_path / 'images'}")
    rng = np.random.default_rng(0)
    for name in "ab":
        for i in range(12):
            file = tmp_path / "images" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    (tmp_path / "onnx").mkdir()  # the export finds its folder taken
    steps = {step.name: step for step in validate(chain)}
    assert (steps["eval"].status, steps["export"].status, steps["parity"].status) == ("pass", "fail", "skipped")
    assert "FileExistsError" in steps["export"].found
