from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddle_tk.commands.train import main
from paddle_tk.config.load import load_config
from paddle_tk.files import sha256_file
from paddle_tk.manifest import load_manifest
from paddle_tk.training.callbacks.history import read_history

ROOT = Path(__file__).resolve().parents[2]
Tool = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ["model=mobilenet_v3_small", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1"]
QUICK += ["trainer.max_epochs=2", "trainer.max_retries=0", "trainer.log_every_n_steps=1", "data.batch_size=8"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    assert main([*QUICK, "--run-dir", str(folder), "--quiet"]) == 0
    return folder


def test_train_writes_everything_the_contract_names(finished: Path) -> None:
    names = {"config.yaml", "environment.json", "history.jsonl", "checkpoints", "vdl", "model", "result.json"}
    assert names <= {p.name for p in finished.iterdir()}
    result = json.loads((finished / "result.json").read_text())
    keys = {
        "task",
        "model",
        "dataset",
        "epochs",
        "best",
        "final",
        "seconds",
        "images_per_second",
        "seed",
        "config_sha256",
    }
    assert keys <= result.keys()
    assert (result["task"], result["model"], result["dataset"]) == ("classification", "mobilenet_v3_small", "digits")
    assert result["final"]["n"] == 359
    assert 0 <= result["final"]["top1"] <= result["final"]["top5"] <= 1
    assert result["best"]["epoch"] in (1, 2)
    assert result["config_sha256"] == load_config(finished / "config.yaml").sha256


def test_train_ships_a_model_whose_manifest_verifies(finished: Path) -> None:
    artifact = load_manifest(finished / "model")
    assert artifact.task.classes == tuple(str(d) for d in range(10))
    assert artifact.architecture["name"] == "mobilenet_v3_small"
    assert artifact.sha256["model.safetensors"] == sha256_file(finished / "model" / "model.safetensors")


def test_train_history_holds_every_step_and_epoch_once(finished: Path) -> None:
    records = read_history(finished / "history.jsonl")
    assert [(r["kind"], r["step"]) for r in records] == [
        ("step", 1), ("step", 2), ("step", 3), ("epoch", 3), ("step", 4), ("step", 5), ("step", 6), ("epoch", 6),
    ]  # fmt: skip


def test_train_repeats_the_same_bytes_when_run_from_the_saved_config(finished: Path, tmp_path: Path) -> None:
    assert main(["-c", str(finished / "config.yaml"), "--run-dir", str(tmp_path / "again"), "--quiet"]) == 0
    one, other = (p / "model" / "model.safetensors" for p in (finished, tmp_path / "again"))
    assert sha256_file(one) == sha256_file(other)


def test_train_exits_0_and_trains_nothing_when_the_run_is_finished(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(finished / "history.jsonl")
    assert main([*QUICK, "--run-dir", str(finished), "--resume", "auto"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert sha256_file(finished / "history.jsonl") == before


def test_train_makes_the_model_again_when_only_the_closing_phase_was_lost(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "model")
    assert main([*QUICK, "--run-dir", str(copy), "--resume", "auto", "--quiet"]) == 0
    one, other = (p / "model" / "model.safetensors" for p in (finished, copy))
    assert sha256_file(one) == sha256_file(other)


def test_train_goes_through_in_a_fast_development_run(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    assert main(["model=mobilenet_v2", "trainer.fast_dev_run=true", "--run-dir", str(folder), "--quiet"]) == 0
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1


def test_train_starts_from_weights_of_an_earlier_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*QUICK, f"model.weights={finished}", "trainer.fast_dev_run=true", "--run-dir", str(tmp_path / "b")]
    assert main(arguments) == 0
    assert f"weights from {finished}" in capsys.readouterr().out


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "tools" / "train.py"), "model=mobilenet_v3_small", "data.batch_size=8"]
    command += ["trainer.max_epochs=50", "--run-dir", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("the run did not get there within a minute")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_train_saves_and_exits_when_stopped_by_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = _start(folder, "trainer.log_every_n_steps=1")
    _wait_for(lambda: len(read_history(folder / "history.jsonl")) >= 3, process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert "everything is saved" in output
    assert "Traceback" not in output
    assert len(list((folder / "checkpoints").glob("epoch-*"))) == 1
    assert not list(folder.rglob(".tmp-*"))


def test_train_restarts_by_itself_when_its_process_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["trainer.limit_train_batches=6", "trainer.max_epochs=3", "trainer.save_every_n_steps=1"]
    process = _start(folder, *settings, "trainer.retry_delay=0")
    _wait_for(lambda: len(list((folder / "checkpoints").glob("epoch-*"))) >= 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "was killed by SIGKILL; restart 1 of 3" in output
    assert "resumed from epoch-" in output
    assert json.loads((folder / "result.json").read_text())["epochs"] == 3


def _images(root: Path, classes: int = 3, count: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
        for index in range(count):
            picture = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            cv2.imwrite(str(root / f"class{number}" / f"{index}.png"), picture)
    return root


BAD: list[tuple[list[str], str]] = [
    (["-c", "nowhere.yaml"], "nowhere.yaml does not exist"),
    (["trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'"),
    (["trainer.max_epochs=three"], "trainer.max_epochs: should be a valid integer, got 'three'"),
    (["model=resnet19"], "unknown model 'resnet19'. Fix: did you mean 'resnet18'? known: alexnet, "),
    (["data=cifar11"], "unknown dataset 'cifar11'. Fix: did you mean 'cifar10'? known: cifar10, coco, "),
    (["model.num_classes=7"], "class count mismatch: model.num_classes=7, dataset digits has 10 classes"),
    (["model.weights=nothing.safetensors"], "nothing.safetensors"),
    (["trainer.precision=fp16"], "fp16 needs a GPU"),
    (["trainer.accelerator=gpu"], "GPU"),
    (["model=alexnet", "model.stem=imagenet"], "alexnet"),
    (["--resume", "nowhere"], "no run is there"),
    (["--what"], "unrecognized arguments: --what"),
    (["trainer.loggers=[wandb]"], "wandb"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_one_clear_line_with_exit_code_2_and_leaves_nothing(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "trainer.max_retries=0"]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not list(tmp_path.rglob("*.yaml"))


def test_supervised_bad_input_is_the_same_line_and_leaves_nothing(tool: Tool, tmp_path: Path) -> None:
    done = tool("train", "model=resnet19", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unknown model 'resnet19'" in done.stderr
    assert not any((tmp_path / "runs").iterdir())


def test_train_refuses_weights_of_another_architecture(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    code = main(["model=resnet18", f"model.weights={finished}", "trainer.max_retries=0", "--run-dir", str(folder)])
    assert code == 2
    assert "another architecture" in capfd.readouterr().err
    assert not folder.exists()


def test_train_refuses_a_folder_without_classes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    code = main(["data=image_folder", f"data.root={tmp_path / 'empty'}", "trainer.max_retries=0", "--run-dir",
                 str(tmp_path / "run")])  # fmt: skip
    assert code == 2
    assert "class" in capfd.readouterr().err


def test_train_names_the_unreadable_image_and_goes_on_only_when_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = _images(tmp_path / "data")
    (root / "class1" / "broken.png").write_bytes(b"not a picture")
    arguments = ["data=image_folder", f"data.root={root}", "data.image_size=32", "model=mobilenet_v3_small"]
    arguments += ["trainer.fast_dev_run=true", "data.batch_size=4", "data.num_workers=0"]
    assert main([*arguments, "--run-dir", str(tmp_path / "a")]) == 2
    error = capfd.readouterr().err
    assert "broken.png" in error
    assert "data.skip_unreadable=true" in error
    assert not (tmp_path / "a").exists()
    assert main([*arguments, "data.skip_unreadable=true", "--run-dir", str(tmp_path / "b")]) == 0
    assert "broken.png" in capfd.readouterr().err


def test_train_refuses_a_run_folder_that_holds_another_config(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_bytes()
    assert main([*QUICK, "seed=9", "--run-dir", str(finished), "--resume", "auto"]) == 2
    assert "another config (seed: 0 -> 9)" in capfd.readouterr().err
    assert (finished / "config.yaml").read_bytes() == before


def test_train_refuses_to_resume_on_other_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = _images(tmp_path / "data")
    arguments = ["data=image_folder", f"data.root={root}", "data.image_size=32", "model=mobilenet_v3_small"]
    arguments += ["trainer.fast_dev_run=true", "data.batch_size=4", "data.num_workers=0", "--quiet"]
    arguments += ["--run-dir", str(tmp_path / "run")]
    assert main(arguments) == 0
    (tmp_path / "run" / "result.json").unlink()
    (root / "class0" / "0.png").unlink()
    assert main([*arguments, "--resume", "auto"]) == 2
    assert "was trained on other images" in capfd.readouterr().err
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_train_needs_disk_space_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    usage: Any = type("Usage", (), {"free": 2**20, "total": 2**30, "used": 2**30})
    monkeypatch.setattr("paddle_tk.files.shutil.disk_usage", lambda path: usage)
    assert main([*QUICK, "--run-dir", str(tmp_path / "run")]) == 2
    assert "not enough disk space for checkpoints" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_train_output_is_plain_lines_when_piped(tool: Tool, tmp_path: Path) -> None:
    done = tool("train", "trainer.fast_dev_run=true", "model=mobilenet_v3_small", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""
    assert "epoch 1/1" in done.stdout
    quiet = tool("train", "trainer.fast_dev_run=true", "model=mobilenet_v3_small", "--quiet", cwd=tmp_path)
    assert quiet.stdout.count("\n") == 1
    assert quiet.stdout.startswith("test top1 ")
    assert (tmp_path / "runs" / "config-2" / "result.json").is_file()


@pytest.mark.parametrize(
    ("asked", "done"), [("auto", "none"), ("class_weights", "class_weights"), ("oversample", "oversample")]
)
def test_train_says_what_it_did_about_unequal_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str, done: str
) -> None:
    quick = [*QUICK, "trainer.max_epochs=1", "trainer.loggers=[]"]
    assert main([*quick, f"data.balance={asked}", "--run-dir", str(tmp_path / "run")]) == 0
    assert f"balance: {done} (" in " ".join(capsys.readouterr().out.split())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["balance"]["asked"], result["balance"]["method"]) == (asked, done)
    assert sum(result["balance"]["images"].values()) == 1294
    assert 0 <= result["best"]["macro_recall"] <= 1


def test_train_refuses_class_weights_for_a_detector(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["-c", "configs/picodet.yaml", "data.balance=focal", "trainer.max_retries=0"]
    assert main([*arguments, "--run-dir", str(tmp_path / "run")]) == 2
    assert "data.balance=focal is for classification" in capfd.readouterr().err
