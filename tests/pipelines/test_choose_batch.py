from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.environment.memory_limits import MemoryLimit
from paddle_tk.errors import BadInput
from paddle_tk.pipelines import choose_batch as module
from paddle_tk.pipelines.batch_trial import TRIAL_BATCH, Trial
from paddle_tk.pipelines.choose_batch import Room, choose_batch
from paddle_tk.training.batch_choice import change, read_choice

CONFIG = load_config(None, ["data.batch_size=auto"]).config
TRIAL = Trial(
    batch=TRIAL_BATCH, images=100_000, num_classes=10, input_size=(64, 64), boxes_per_image=0, resident_mb=500.0,
    mapped_mb=1500.0, data_mb=800.0, workers_mb=50.0, images_per_second=100.0,
)  # fmt: skip


class Linear:
    """100 MB and 10 MB an image."""

    def peak_mb(self, batch: int) -> float:
        return 100.0 + 10.0 * batch


def _room(*limits: MemoryLimit, trial: Trial = TRIAL, on_gpu: bool = False) -> Room:
    return Room(limits, trial, Linear(), on_gpu, device_mb=400.0 if on_gpu else 0.0, queued=4)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Room]:
    """The room that a machine is found to have; the machine is the boundary."""
    rooms: list[Room] = []
    monkeypatch.setattr(module, "measure_room", lambda config, device, local: rooms[-1])
    return rooms


def _choose(folder: Path, world: int = 1) -> int:
    return choose_batch(CONFIG, folder, "cpu", world, world, Output(quiet=True))


def test_needed_memory_is_what_was_measured_plus_what_grows_with_the_images() -> None:
    resident, mapped = MemoryLimit("free RAM", 1e6, "resident"), MemoryLimit("ulimit", 1e6, "mapped")
    room = _room(resident, mapped)
    image_mb = 3 * 64 * 64 * 4 / 2**20
    assert room.needed_mb(resident, TRIAL_BATCH, 0.0) == pytest.approx(550.0)
    assert room.needed_mb(mapped, TRIAL_BATCH, 0.0) == pytest.approx(1500.0)
    grown = 10.0 * 30 + 30 * image_mb * 4
    assert room.needed_mb(resident, TRIAL_BATCH + 30, 0.0) == pytest.approx(550.0 + grown)
    assert room.needed_mb(mapped, TRIAL_BATCH + 30, 0.5) == pytest.approx(1500.0 + grown + 0.5 * 420.0)


def test_needed_memory_of_a_gpu_is_its_own_when_the_tensors_lie_there() -> None:
    device, resident = MemoryLimit("gpu", 8000.0, "device"), MemoryLimit("free RAM", 1e6, "resident")
    room = _room(device, resident, on_gpu=True)
    assert room.needed_mb(device, 10, 0.5) == pytest.approx(400.0 + 200.0 * 1.5)
    assert room.needed_mb(resident, 10, 0.5) - 550.0 < 2  # only the queue of batches
    assert room.for_training_mb == pytest.approx(7600.0)


@pytest.mark.parametrize(("total_mb", "picked"), [(4000.0, 192), (2500.0, 96), (1000.0, 24), (560.0, 2)])
def test_choice_shrinks_with_the_memory(total_mb: float, picked: int, measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", total_mb, "resident")))
    assert _choose(tmp_path) == picked
    written = json.loads((tmp_path / "batch.json").read_text())
    assert (written["picked"], written["limit"], written["confirmed"]) == (picked, "free RAM", False)
    if picked > TRIAL_BATCH:
        assert measured[0].holds(picked)
        assert not measured[0].holds(picked * 3 // 2)


def test_choice_is_bounded_by_the_images_when_memory_is_plenty(measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", 1e6, "resident"), trial=dataclasses.replace(TRIAL, images=1258)))
    assert _choose(tmp_path / "one") == 64  # 19 updates an epoch
    assert _choose(tmp_path / "two", world=2) == 32


def test_choice_divides_the_target_when_one_is_given(measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", 2500.0, "resident")))
    config = load_config(None, ["data.batch_size=auto", "trainer.target_batch_size=320"]).config
    assert choose_batch(config, tmp_path, "cpu", 1, 1, Output(quiet=True)) == 64
    assert json.loads((tmp_path / "batch.json").read_text())["global_batch"] == 320
    odd = load_config(None, ["data.batch_size=auto", "trainer.target_batch_size=321"]).config
    with pytest.raises(BadInput, match="cannot be split over 2 processes"):
        choose_batch(odd, tmp_path / "odd", "cpu", 2, 2, Output(quiet=True))


def test_choice_refuses_when_the_target_leaves_only_what_does_not_fit(measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", 540.0, "resident"), trial=dataclasses.replace(TRIAL, images=40)))
    assert _choose(tmp_path) == TRIAL_BATCH  # which ran in the trial
    assert "margin" in json.loads((tmp_path / "batch.json").read_text())["reason"]


def test_choice_is_kept_when_the_run_goes_on(measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", 1000.0, "resident")))
    assert _choose(tmp_path) == 24
    measured.append(_room(MemoryLimit("free RAM", 4000.0, "resident")))
    assert _choose(tmp_path) == 24


def test_choice_is_halved_once_when_the_process_was_killed_in_its_first_updates(
    measured: list[Room], tmp_path: Path
) -> None:
    measured.append(_room(MemoryLimit("free RAM", 1000.0, "resident")))
    assert _choose(tmp_path) == 24
    change(tmp_path, running=True)  # as a killed process leaves it
    assert _choose(tmp_path) == 12
    choice = read_choice(tmp_path)
    assert choice is not None
    assert (choice.backed_off, choice.first_picked) == (True, 24)


def test_choice_is_kept_when_a_run_that_had_trained_was_killed(measured: list[Room], tmp_path: Path) -> None:
    measured.append(_room(MemoryLimit("free RAM", 1000.0, "resident")))
    assert _choose(tmp_path) == 24
    change(tmp_path, running=True, confirmed=True)
    assert _choose(tmp_path) == 24
