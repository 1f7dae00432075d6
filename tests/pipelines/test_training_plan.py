from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.errors import BadInput
from paddle_tk.pipelines.training_plan import plan_training
from paddle_tk.training.checkpoint import CheckpointStore

CONFIG = load_config(None, ["data.batch_size=24", "trainer.target_batch_size=64"]).config


def test_plan_sets_the_accumulation_when_a_target_is_given(tmp_path: Path) -> None:
    config = load_config(None, ["data.batch_size=16", "trainer.target_batch_size=64"]).config
    planned = plan_training(config, tmp_path, "cpu", None, Output(quiet=True))
    assert planned.trainer.accumulate_grad_batches == 4


def test_plan_refuses_when_the_target_cannot_be_met(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="target_batch_size=64 is no multiple of the 24 images"):
        plan_training(CONFIG, tmp_path, "cpu", None, Output(quiet=True))


def test_plan_leaves_it_to_the_checkpoint_when_the_run_goes_on_with_other_processes(tmp_path: Path) -> None:
    batch = {"sizes": [16, 16], "accumulate": 2}
    store = CheckpointStore(tmp_path / "checkpoints")
    folder = store.save({"model": {"w": np.zeros(1)}}, {"batch": batch}, epoch=0, step=1, rank=None)
    assert json.loads((folder / "state.json").read_text())["state"]["batch"] == batch
    assert plan_training(CONFIG, tmp_path, "cpu", None, Output(quiet=True)) == CONFIG
