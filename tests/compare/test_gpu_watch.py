from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from paddle_tk.compare.gpu_watch import GpuWatch


class FakeNvml(SimpleNamespace):
    """The parts of NVML that are used: two GPUs, the second of which is busy."""

    class NVMLError(Exception):
        """As NVML raises it."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__(fails=fails, open=0)

    def nvmlInit(self) -> None:
        if self.fails:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return [10, 11][index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return {"GPU-b": 11}[uuid]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=95 if handle == 11 else 5)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=6, total=8)


def watch(monkeypatch: pytest.MonkeyPatch, nvml: Any, device: str = "gpu:0", visible: str | None = None) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with GpuWatch(device, interval_seconds=0.001) as seen:
        time.sleep(0.05)
    return seen.result()


@pytest.mark.parametrize(("device", "visible"), [("gpu:1", None), ("gpu:0", "1,0"), ("gpu:0", "GPU-b")])
def test_samples_are_those_of_the_gpu_that_cuda_counts(
    device: str, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml()
    found = watch(monkeypatch, nvml, device, visible)
    assert set(found["utilisation"]) == {0.95}
    assert set(found["memory_share"]) == {0.75}
    assert found["bounds"] == {"least_utilisation": 0.90, "most_memory_share": 0.80}
    assert (found["reason"], nvml.open) == ("", 0)


@pytest.mark.parametrize(
    ("nvml", "device", "reason"),
    [
        (FakeNvml(), "cpu", "no GPU: computed on the CPU"),
        (None, "gpu:0", "nvidia-ml-py is not installed"),
        (FakeNvml(fails=True), "gpu:0", "NVML does not know gpu:0: Driver Not Loaded"),
        (FakeNvml(), "gpu:7", "NVML does not know gpu:7: list index out of range"),
    ],
)
def test_nothing_is_made_up_where_nothing_can_be_seen(
    nvml: Any, device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watch(monkeypatch, nvml, device)
    assert (found["utilisation"], found["memory_share"], found["reason"]) == (None, None, reason)
