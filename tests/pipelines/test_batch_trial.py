from __future__ import annotations

import subprocess
import sys

import pytest

from paddle_tk.config.load import load_config
from paddle_tk.errors import BadInput
from paddle_tk.pipelines.batch_trial import TRIAL_BATCH, run_trial, trial_config

LENET = ["model=lenet", "data.image_size=28", "data.batch_size=auto", "trainer.loggers=[]"]


def test_trial_measures_a_training_of_two_batches_in_a_process_of_its_own() -> None:
    config = load_config(None, [*LENET, "trainer.devices=4", "trainer.rank_batch_sizes=auto"]).config
    trial = run_trial(config, "cpu", 1)
    assert (trial.batch, trial.images, trial.num_classes, trial.input_size) == (TRIAL_BATCH, 1294, 10, (28, 28))
    assert 100 < trial.resident_mb < trial.mapped_mb
    assert 0 < trial.data_mb < trial.mapped_mb
    assert trial.images_per_second > 0


def test_trial_passes_on_what_is_wrong_with_the_config() -> None:
    config = load_config(None, [*LENET, "model.num_classes=7"]).config
    with pytest.raises(BadInput, match="class count mismatch"):
        run_trial(config, "cpu", 1)


def test_trial_config_is_one_quiet_process_whatever_the_run_is() -> None:
    given = ["trainer.devices=4", "trainer.rank_batch_sizes=[1,2,3,4]", "trainer.leak_watch=stop"]
    trainer = trial_config(load_config(None, [*LENET, *given]).config).trainer
    assert (trainer.devices, trainer.rank_batch_sizes, trainer.leak_watch) == ("auto", None, "off")


def test_process_ends_by_itself_when_it_stands_still() -> None:
    code = "from paddle_tk.pipelines.batch_trial import _end_when_stalled as end; import time; end(0.5); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == 1
