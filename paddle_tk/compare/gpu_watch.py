"""Utilisation and memory of a GPU while something runs, sampled through NVML."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

LEAST_UTILISATION, MOST_MEMORY = 0.90, 0.80  # below the one a GPU idles, above the other it runs out of memory
_INTERVAL_SECONDS = 0.05
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuWatch:
    """A thread that samples a GPU between entering and leaving.

    Args:
        device: "cpu" or "gpu:N", N counted as CUDA counts.
        interval_seconds: Between two samples.
    """

    def __init__(self, device: str, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        self._device, self._interval = device, interval_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._nvml: Any = None
        self._handle: Any = None
        self._busy: list[float] = []
        self._memory: list[float] = []
        self.reason = ""

    def __enter__(self) -> GpuWatch:
        self._open()
        if not self.reason:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._nvml is not None:
            self._nvml.nvmlShutdown()

    def _open(self) -> None:
        if not self._device.startswith("gpu"):
            self.reason = "no GPU: computed on the CPU"
            return
        try:
            import pynvml
        except ImportError:
            self.reason = "nvidia-ml-py is not installed"
            return
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = _handle(pynvml, int(self._device.partition(":")[2] or 0), os.environ)
        except (pynvml.NVMLError, ValueError, IndexError) as error:
            self.reason = f"NVML does not know {self._device}: {error}"

    def _sample(self) -> None:
        while True:
            try:
                self._busy.append(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
                self._memory.append(memory.used / memory.total)
            except self._nvml.NVMLError as error:
                self.reason = f"NVML stopped answering: {error}"
                return
            if self._stop.wait(self._interval):
                return

    def result(self) -> dict[str, Any]:
        """Returns what was seen, once it was left.

        Returns:
            "utilisation" and "memory_share": samples, shares in 0..1 of the whole device, other processes' part
            included; both None where "reason" says why. "bounds" are what they are held against.
        """
        seen = bool(self._busy and self._memory) and not self.reason
        return {
            "utilisation": self._busy if seen else None,
            "memory_share": self._memory if seen else None,
            "bounds": {"least_utilisation": LEAST_UTILISATION, "most_memory_share": MOST_MEMORY},
            "reason": self.reason,
        }


def _handle(nvml: Any, index: int, environment: Mapping[str, str]) -> Any:
    """Returns NVML's handle of the GPU that CUDA counts as ``index``; NVML itself counts all of the machine."""
    visible = [part.strip() for part in environment.get(_VISIBLE, "").split(",") if part.strip()]
    name = visible[index] if visible else str(index)
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
