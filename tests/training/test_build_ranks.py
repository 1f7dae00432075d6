from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.config.load import load_config
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.shares import Share
from paddle_tk.errors import BadInput
from paddle_tk.training.build_ranks import Batches, build_together, check_shares, share_batches
from paddle_tk.training.checkpoint import STATE, CheckpointStore, recorded_batch
from paddle_tk.training.run_folder import CHECKPOINTS


def config(*overrides: str) -> Config:
    return load_config(None, list(overrides)).config


def save(folder: Path, sizes: list[int] | None, step: int = 3) -> None:
    state = {} if sizes is None else {"batch": {"sizes": sizes, "accumulate": 2}}
    CheckpointStore(folder / CHECKPOINTS, keep_last=9).save(
        {"model": {"w": np.zeros(2, np.float32)}}, state, epoch=0, step=step, rank=None
    )


def test_share_batches_takes_the_config_when_the_run_is_new(tmp_path: Path) -> None:
    found = share_batches(
        config("data.batch_size=24", "trainer.accumulate_grad_batches=3"), tmp_path, None, Output(quiet=True)
    )
    assert (found.share, found.accumulate, found.images) == (Share(0, (24,)), 3, 24)


def test_share_batches_keeps_the_batch_when_other_processes_began_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, [16, 16])
    found = share_batches(config("data.batch_size=16"), tmp_path, None, Output())
    assert (found.share, found.accumulate) == (Share(0, (32,)), 2)
    said = capsys.readouterr().out
    assert said == "the batch stays at 32 images: 16 + 16 in 2 processes before, 32 in 1 process from here on\n"


def test_share_batches_says_nothing_when_the_processes_are_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, [16])
    assert share_batches(config("data.batch_size=16"), tmp_path, None, Output()).images == 16
    assert capsys.readouterr().out == ""


def test_share_batches_raises_when_the_sizes_are_of_other_processes(tmp_path: Path) -> None:
    settings = config("trainer.rank_batch_sizes=[8,4,20]")
    with pytest.raises(BadInput, match=r"rank_batch_sizes=\[8, 4, 20\] names 3 process\(es\), the job has 1"):
        share_batches(settings, tmp_path, None, Output(quiet=True))
    save(tmp_path, [8, 4, 20])
    assert share_batches(settings, tmp_path, None, Output(quiet=True)).images == 32


def test_recorded_batch_passes_over_a_damaged_checkpoint_when_it_is_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / CHECKPOINTS
    assert recorded_batch(folder) is None
    save(tmp_path, [16], step=1)
    save(tmp_path, [32], step=2)
    (folder / "epoch-0000-step-000002" / STATE).write_text("{}")
    assert recorded_batch(folder) == {"sizes": [16], "accumulate": 2}


def test_recorded_batch_is_none_when_the_checkpoint_is_of_an_earlier_release(tmp_path: Path) -> None:
    save(tmp_path, None)
    assert recorded_batch(tmp_path / CHECKPOINTS) is None


@pytest.mark.parametrize(
    ("sizes", "images", "message"),
    [
        ((4, 4, 4), 2, "3 processes for 2 training images"),
        ((1, 1, 30), 3, r"a batch of 32 images divided as \[1, 1, 30\] leaves process 2 of 3 without any of the 3"),
        ((2, 0, 1), 9, r"divided as \[2, 0, 1\] leaves process 2 of 3 without any"),
    ],
)
def test_check_shares_raises_when_a_process_would_never_train(
    sizes: tuple[int, ...], images: int, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check_shares(Batches(Share(0, sizes), 1), images)


@pytest.mark.parametrize(("sizes", "images"), [((64,), 3), ((4, 4, 4), 3), ((16, 16), 1000)])
def test_check_shares_accepts_a_job_when_every_process_has_images(sizes: tuple[int, ...], images: int) -> None:
    check_shares(Batches(Share(0, sizes), 1), images)


@pytest.mark.parametrize(
    ("overrides", "device", "message"),
    [
        (("trainer.strategy=sharded",), "cpu", "needs GPUs, this run uses the CPU.*trainer.strategy=ddp"),
        (("trainer.strategy=sharded",), "gpu:0", "is for several processes, this run has one"),
        (("trainer.offload=true",), "cpu", "a part of trainer.strategy=sharded"),
    ],
)
def test_build_together_raises_when_a_training_cannot_be_sharded(
    overrides: tuple[str, ...], device: str, message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        build_together(config(*overrides), device, None)
    assert re.search(message, str(caught.value))
