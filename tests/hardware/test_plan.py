from __future__ import annotations

import itertools

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.hardware.plan import Device, choose_accumulation, largest_batch, measure_speed, plan_split


def _memory(batch: int) -> float:
    return 100.0 + 10.0 * batch


def _devices(*pairs: tuple[float, float]) -> list[Device]:
    return [Device(f"gpu {i}", memory, speed) for i, (memory, speed) in enumerate(pairs)]


@pytest.mark.parametrize(("memory", "batch"), [(164, 0), (165, 1), (299, 9), (300, 10), (301, 10), (1e9, 5000)])
def test_largest_batch_fits_with_its_margin_and_one_more_does_not(memory: float, batch: int) -> None:
    assert largest_batch(memory, _memory, 0.5, 5000) == batch


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7])
def test_largest_batch_is_no_more_than_asked(most: int) -> None:
    assert largest_batch(1e9, _memory, 0.5, most) == most


def test_split_follows_the_speed_when_memory_is_ample() -> None:
    plan = plan_split(64, _devices((1e6, 100), (1e6, 300)), _memory)
    assert (plan.batches, plan.accumulation, plan.bound_by) == ([16, 48], 1, "speed")
    assert plan.step_seconds == pytest.approx(0.16)
    assert [share.idle for share in plan.shares] == pytest.approx([0, 0])


def test_split_follows_the_memory_when_the_fast_device_is_small() -> None:
    plan = plan_split(64, _devices((1e6, 100), (450, 300)), _memory)
    assert plan.batches == [44, 20]  # (100 + 10 * 20) * 1.5 = 450
    assert [share.bound_by for share in plan.shares] == ["speed", "memory"]
    assert plan.bound_by == "memory"
    assert plan.shares[1].memory_mb == 300


@pytest.mark.parametrize("total", [1, 2, 7, 20])
def test_no_other_split_has_a_shorter_step(total: int) -> None:
    devices = _devices((240, 7.0), (1e6, 3.0), (360, 1.5))
    limits = [largest_batch(device.memory_mb, _memory, 0.5, total) for device in devices]
    plan = plan_split(total, devices, _memory)
    assert sum(plan.batches) == total
    choices = itertools.product(*(range(limit + 1) for limit in limits))
    best = min(
        max(batch / device.images_per_second for batch, device in zip(choice, devices, strict=True))
        for choice in choices
        if sum(choice) == total
    )
    assert plan.step_seconds == pytest.approx(best)


def test_accumulation_is_the_least_that_divides_when_the_batch_does_not_fit() -> None:
    plan = plan_split(96, _devices((300, 1), (300, 1)), _memory)  # 10 images each
    assert (plan.accumulation, plan.batches, plan.global_batch) == (6, [8, 8], 96)
    assert plan.update_seconds == pytest.approx(48)
    assert "better" not in " ".join(plan.remarks)


def test_a_batch_that_splits_badly_is_remarked() -> None:
    plan = plan_split(97, _devices((300, 1), (300, 1)), _memory)
    assert plan.accumulation == 97
    assert any("97" in remark and "100 images would take 5" in remark for remark in plan.remarks)


def test_devices_that_take_no_part_are_remarked() -> None:
    plan = plan_split(8, _devices((1e6, 100), (10, 100), (1e6, 0.01)), _memory)
    assert plan.batches == [8, 0, 0]
    assert any("cannot hold one image: gpu 1" in remark for remark in plan.remarks)
    assert any("too slow" in remark and "gpu 2" in remark for remark in plan.remarks)
    assert plan.to_dict()["batches"] == [8, 0, 0]


@pytest.mark.parametrize(
    ("batch", "devices", "margin", "said"),
    [
        (0, [(1e6, 1)], 0.5, "batch of 0"),
        (8, [], 0.5, "no devices"),
        (8, [(1e6, 1)], -0.1, "-0.1"),
        (8, [(100, 1), (120, 1)], 0.5, "165 MB"),
    ],
)
def test_split_is_refused_when_it_cannot_be(
    batch: int, devices: list[tuple[float, float]], margin: float, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        plan_split(batch, _devices(*devices), _memory, margin)


@pytest.mark.parametrize(("memory", "speed"), [(-1, 1), (float("nan"), 1), (100, 0), (100, float("inf"))])
def test_a_device_that_cannot_be_is_refused(memory: float, speed: float) -> None:
    with pytest.raises(BadInput, match="gpu"):
        Device("gpu", memory, speed)


def test_accumulation_meets_the_target_exactly() -> None:
    assert choose_accumulation(256, 16, 4) == 4
    assert choose_accumulation(16, 16, 1) == 1


@pytest.mark.parametrize(("target", "nearest"), [(250, "192 or 256"), (10, "use 64")])
def test_a_target_that_cannot_be_met_names_the_nearest(target: int, nearest: str) -> None:
    with pytest.raises(BadInput, match=f"{target}.*") as caught:
        choose_accumulation(target, 16, 4)
    assert nearest in caught.value.fix


@pytest.mark.parametrize("values", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_accumulation_of_nothing_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(BadInput, match="is 0"):
        choose_accumulation(*values)


def test_speed_is_the_median_after_the_warm_up() -> None:
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0])  # steps of 9, 2 and 1 s
    calls: list[int] = []
    speed = measure_speed(lambda: calls.append(1), 8, warm_up=2, repeats=3, clock=lambda: next(clock))
    assert (speed, len(calls)) == (4.0, 5)


def test_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        measure_speed(lambda: None, 0)
