from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from paddle_tk.training.callbacks.history import read_history

Tool = Callable[..., "subprocess.CompletedProcess[str]"]
SETTINGS = (
    "model=lenet", "data.image_size=28", "trainer.max_epochs=1", "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1", "trainer.loggers=[]", "trainer.max_retries=0",
)  # fmt: skip


def test_train_in_two_processes_ends_as_in_one_when_the_batch_is_the_same(tool: Tool, tmp_path: Path) -> None:
    one = tool("train", *SETTINGS, "data.batch_size=48", "--run-dir", "one", cwd=tmp_path)
    two = tool("train", *SETTINGS, "data.batch_size=24", "trainer.devices=2", "--run-dir", "two", cwd=tmp_path)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert two.stderr == ""
    assert two.stdout.count("test top1") == 1
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=0, atol=1e-5)
    records = [read_history(tmp_path / name / "history.jsonl") for name in ("one", "two")]
    assert [r["step"] for r in records[1]] == [r["step"] for r in records[0]]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[1]["final"]["top1"] == results[0]["final"]["top1"]
    assert results[1]["final"]["n"] == 359


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["trainer.rank_batch_sizes=[8,4,20]", "trainer.devices=2"], "names 3 process(es), the job has 2"),
        (["trainer.devices=1000000"], "so many processes take at least 135,462.9 GB of memory"),
    ],
)
def test_train_in_processes_refuses_in_one_line_and_leaves_nothing(
    bad: list[str], said: str, tool: Tool, tmp_path: Path
) -> None:
    done = tool("train", *SETTINGS, *bad, "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_train_picks_a_batch_itself_and_keeps_it_when_resumed(tool: Tool, tmp_path: Path) -> None:
    done = tool("train", *SETTINGS, "data.batch_size=auto", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    choice = json.loads((tmp_path / "run" / "batch.json").read_text())
    assert f"batch size {choice['picked']} (auto): takes " in done.stdout
    assert (choice["confirmed"], choice["running"], choice["backed_off"]) == (True, False, False)
    assert choice["picked"] == 64  # 1,294 images and at least 16 updates an epoch
    assert choice["predictions"]["32"] < choice["predictions"]["64"] < choice["limit_mb"]
    (tmp_path / "run" / "result.json").unlink()
    again = tool("train", "--resume", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "batch.json").read_text()) == choice
