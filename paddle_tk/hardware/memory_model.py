"""How much memory a training or an inference takes at its peak, part by part, for any batch. Imports no framework.

The figures come from small recorded steps (``allocations``, ``recorder``); this module holds what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddle_tk.errors import BadInput
from paddle_tk.files import MIB
from paddle_tk.hardware.plan import MARGIN, largest_batch

MOST_IMAGES = 2**20


@dataclass(frozen=True)
class Line:
    """Bytes as a function of the batch B: ``fixed + each * B``."""

    fixed: float
    each: float

    def at(self, batch: int) -> float:
        """Returns the bytes at a batch."""
        return self.fixed + self.each * batch


@dataclass(frozen=True)
class MemoryModel:
    """The memory of one training step, or of one inference, for any batch; bytes.

    Attributes:
        parameters: Parameters and batch-norm statistics.
        gradients: Of all trained parameters.
        optimizer: The optimizer's state, float32 master weights included.
        averages: The averaged weights (EMA).
        inputs: Images and labels of a batch.
        kept: Allocated at the end of the forward pass besides what stays between steps: the activations kept for the
            backward pass, images and labels included.
        lines: The peak at batch B is the largest of these at B.
        device_overhead: What the device holds besides the allocator's (context, libraries); not in the peak.
        origin: Of the peak: "measured" in small passes and extrapolated, or "estimated" where parts are not run.
        notes: What the user should know, in words.
    """

    parameters: float
    gradients: float
    optimizer: float
    averages: float
    inputs: Line
    kept: Line
    lines: tuple[Line, ...]
    device_overhead: float = 0.0
    origin: str = "estimated"
    notes: tuple[str, ...] = ()

    def peak_mb(self, batch: int) -> float:
        """Returns the allocator's peak with so many images in a step, in units of 2^20 bytes."""
        return self._peak(batch) / MIB

    @property
    def device_overhead_mb(self) -> float:
        """What the device holds besides the allocator's peak, in MB."""
        return self.device_overhead / MIB

    def _peak(self, batch: int) -> float:
        if batch < 1:
            raise BadInput(f"a batch of {batch} images", "use a whole number of at least 1")
        return max(line.at(batch) for line in self.lines)

    def estimate(self, batch: int, *, queued_batches: int = 0, margin: float = MARGIN) -> MemoryEstimate:
        """Returns the parts at a batch.

        Args:
            batch: Images of a step.
            queued_batches: Batches that the loader keeps ready besides the one in use.
            margin: Share of the peak and the cache that is to stay free.

        Raises:
            BadInput: A batch below 1.
        """
        peak = self._peak(batch)
        state = self.parameters + self.gradients + self.optimizer + self.averages
        room = max(0.0, peak - state)
        activations = min(max(0.0, self.kept.at(batch)), room)
        cache = self.inputs.at(batch) * queued_batches
        return MemoryEstimate(
            batch=batch,
            parameters_mb=self.parameters / MIB,
            gradients_mb=self.gradients / MIB,
            optimizer_mb=(self.optimizer + self.averages) / MIB,
            averages_mb=self.averages / MIB,
            activations_mb=activations / MIB,
            input_mb=self.inputs.at(batch) / MIB,
            workspace_mb=(room - activations) / MIB,
            data_cache_mb=cache / MIB,
            peak_mb=peak / MIB,
            safety_margin_mb=margin * (peak + cache) / MIB,
            device_overhead_mb=self.device_overhead / MIB,
            origin=self.origin,
            notes=self.notes,
        )

    def largest_batch(self, memory_mb: float, margin: float = MARGIN) -> int:
        """Returns the most images whose peak and margin a memory holds besides the overhead; 0 where not even one."""
        return largest_batch(memory_mb - self.device_overhead_mb, self.peak_mb, margin, MOST_IMAGES)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, for ``model_from_dict``."""
        lines = [[line.fixed, line.each] for line in self.lines]
        pairs = {name: [line.fixed, line.each] for name, line in (("inputs", self.inputs), ("kept", self.kept))}
        names = ("parameters", "gradients", "optimizer", "averages", "device_overhead", "origin")
        return {**{name: getattr(self, name) for name in names}, **pairs, "lines": lines, "notes": list(self.notes)}


def model_from_dict(raw: Mapping[str, Any]) -> MemoryModel:
    """Returns the model that ``to_dict`` wrote down."""
    pairs = {name: Line(*raw[name]) for name in ("inputs", "kept")}
    lines = tuple(Line(*line) for line in raw["lines"])
    return MemoryModel(**{**raw, **pairs, "lines": lines, "notes": tuple(raw["notes"])})


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory at one batch; MB are 2^20 bytes.

    The first four and the workspace add up to ``peak_mb``. Where the peak comes before all gradients exist, as with
    large batches, they later take the place of activations that are no longer needed: their own room is counted in
    full, and ``workspace_mb`` (if that is not enough, ``activations_mb``) is smaller by what they share.

    Attributes:
        batch: Images of a step.
        parameters_mb: Parameters and batch-norm statistics.
        gradients_mb: Of all trained parameters.
        optimizer_mb: The optimizer's state, master weights and averaged weights included.
        averages_mb: Of that, the averaged weights (EMA).
        activations_mb: Kept for the backward pass, the input batch included.
        input_mb: Of that, the input batch.
        workspace_mb: What the peak holds besides: buffers of operators, gradients of activations, temporaries.
        data_cache_mb: Batches that the loader keeps ready; host memory.
        peak_mb: The allocator's peak of a step, the input batch included, without cache and margin.
        safety_margin_mb: To be kept free.
        device_overhead_mb: Context and libraries of a GPU, apart from all the others; 0 on a CPU.
        origin: Of the peak.
        notes: What the user should know, in words.
    """

    batch: int
    parameters_mb: float
    gradients_mb: float
    optimizer_mb: float
    averages_mb: float
    activations_mb: float
    input_mb: float
    workspace_mb: float
    data_cache_mb: float
    peak_mb: float
    safety_margin_mb: float
    device_overhead_mb: float
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def total_mb(self) -> float:
        """Peak, cache and margin."""
        return self.peak_mb + self.data_cache_mb + self.safety_margin_mb

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**vars(self), "notes": list(self.notes), "total_mb": self.total_mb}
