from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddle_tk.environment import devices as module
from paddle_tk.environment.devices import (
    choose_device,
    hardware,
    memory_bytes,
    process_count,
    require_room,
    resolve_device,
    resolve_rank_device,
)
from paddle_tk.environment.ranks import Rank
from paddle_tk.errors import BadInput


@pytest.mark.parametrize(
    ("accelerator", "devices", "cuda", "gpus", "expected"),
    [
        ("auto", "auto", False, 0, "cpu"),
        ("auto", "auto", True, 0, "cpu"),
        ("auto", "auto", True, 2, "gpu:0"),
        ("auto", 1, True, 1, "gpu:0"),
        ("auto", "1", False, 0, "cpu"),
        ("cpu", "auto", True, 2, "cpu"),
        ("cpu", 1, True, 2, "cpu"),
        ("auto", "cpu", True, 2, "cpu"),
        ("gpu", "auto", True, 2, "gpu:0"),
        ("auto", "gpu:1", True, 2, "gpu:1"),
        ("gpu", "gpu:0", True, 1, "gpu:0"),
    ],
)
def test_device_is_chosen_when_the_request_can_be_met(
    accelerator: str, devices: int | str, cuda: bool, gpus: int, expected: str
) -> None:
    assert choose_device(accelerator, devices, compiled_with_cuda=cuda, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("accelerator", "devices", "cuda", "gpus", "message"),
    [
        ("gpu", "auto", False, 0, "CPU wheel.*https://www.paddlepaddle.org.cn/packages/stable/cu126/"),
        ("auto", "gpu:0", False, 0, "CPU wheel"),
        ("gpu", "auto", True, 0, "sees no GPU"),
        ("auto", "gpu:2", True, 2, "gpu:0, gpu:1"),
        ("cpu", "gpu:0", True, 1, "contradicts"),
        ("gpu", "cpu", True, 1, "contradicts"),
        ("auto", 2, True, 2, "tools/train.py only"),
        ("cpu", "2", False, 0, "tools/train.py only"),
        ("auto", 0, True, 2, "devices is 0"),
        ("auto", "gpu:x", True, 2, "devices is 'gpu:x'"),
        ("tpu", "auto", True, 2, "accelerator is 'tpu'"),
    ],
)
def test_device_raises_when_the_request_cannot_be_met(
    accelerator: str, devices: int | str, cuda: bool, gpus: int, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        choose_device(accelerator, devices, compiled_with_cuda=cuda, gpus=gpus)


def test_resolve_device_gives_what_this_machine_has_when_auto() -> None:
    gpus = hardware()["gpus"]
    assert resolve_device("auto", "auto") == ("gpu:0" if gpus else "cpu")
    assert resolve_device("cpu", "auto") == "cpu"
    with pytest.raises(BadInput, match="gpu:99"):
        resolve_device("auto", "gpu:99")


def test_memory_is_the_containers_limit_when_that_is_lower(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    total = memory_bytes(())
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for text, expected in (("1048576", 1048576), ("max", total), (str(2**62), total)):
        limit.write_text(text + "\n")
        assert memory_bytes((limit, tmp_path / "absent")) == expected


@pytest.mark.parametrize(("devices", "count"), [("auto", 1), ("cpu", 1), ("gpu:3", 1), (1, 1), (4, 4), ("4", 4)])
def test_process_count_is_one_when_a_device_is_named(devices: int | str, count: int) -> None:
    assert process_count(devices) == count


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "selected", "expected"),
    [
        ("auto", 2, 0, "", "cpu"),
        ("cpu", 2, 4, "", "cpu"),
        ("auto", "cpu", 4, "", "cpu"),
        ("auto", 2, 4, "", "gpu:1"),
        ("gpu", "auto", 4, "3", "gpu:3"),
        ("auto", 2, 1, "", "Paddle sees 1 GPU"),
        ("gpu", 2, 0, "", "Paddle sees no GPU"),
        ("auto", 3, 4, "", "the job has 2 processes"),
        ("auto", "gpu:0", 4, "", "the job has 2 processes"),
    ],
)
def test_rank_device_is_the_ranks_own_when_it_is_there(
    accelerator: str, devices: int | str, gpus: int, selected: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "device_count", lambda: gpus)
    monkeypatch.setattr(module, "_compiled_with_cuda", lambda: True)
    monkeypatch.setenv("FLAGS_selected_gpus", selected)
    rank = Rank(1, 2, 1, 2)
    if expected.startswith("gpu:") or expected == "cpu":
        assert resolve_rank_device(accelerator, devices, rank) == expected
        return
    with pytest.raises(BadInput, match=expected):
        resolve_rank_device(accelerator, devices, rank)


def test_require_room_refuses_more_processes_than_memory_can_hold() -> None:
    require_room(1, 0)
    require_room(8, 2 * 2**30)
    with pytest.raises(BadInput, match=r"trainer.devices=5000: .*677.3 GB .*there are 25.8 GB.*at most 190"):
        require_room(5000, 25_769_803_776)
