"""A machine whose figures stand in a table, in place of the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddle_tk.errors import ArtifactError
from paddle_tk.measure.latency import Latency
from paddle_tk.measure.memory import ProcessFigures
from paddle_tk.pipelines.latency_bench import CAREFUL, SCREENING, Accuracy, Effort, Times
from paddle_tk.pipelines.latency_candidates import Candidate, ModelFile, Settings
from paddle_tk.runtime.load import ModelSource
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

CORES = 2


@dataclass(frozen=True)
class Row:
    """What a candidate's figures are.

    Attributes:
        ms: Median of every stage; None: it cannot be timed.
        tail: p95 and p99 / the median.
        top1: Its accuracy.
        peak_mib: Peak memory.
        careful_ms: Median once it is measured with care; None: as before.
        alone_ms: Median alone; None: as with care.
        rate: Images per second; None: as its median says.
    """

    ms: float | None
    top1: float | None = 0.9
    tail: float = 1.0
    peak_mib: float = 100.0
    careful_ms: float | None = None
    alone_ms: float | None = None
    rate: float | None = None


@dataclass
class TableBench:
    """Answers from a function; keeps what it was asked for."""

    row_of: Callable[[Settings], Row]
    same: bool = True
    screened: list[Settings] = field(default_factory=list)
    careful: list[Settings] = field(default_factory=list)
    alone: list[Settings] = field(default_factory=list)
    evaluated: list[Settings] = field(default_factory=list)

    def times(self, candidates: Sequence[Candidate], effort: Effort) -> list[Times | str]:
        """Times from the table."""
        asked = {SCREENING: self.screened, CAREFUL: self.careful}.get(effort, self.alone)
        asked += [candidate.settings for candidate in candidates]
        return [self._times(candidate.settings, effort) for candidate in candidates]

    def process(self, candidate: Candidate) -> ProcessFigures:
        """Memory from the table."""
        own = candidate.settings
        peak = self.row_of(own).peak_mib
        return ProcessFigures(0.5, 9.0, peak, 1.0, CORES, 30, own.engine, "fp32", own.threads, own.batch_size)

    def accuracy(self, candidate: Candidate) -> Accuracy:
        """Accuracy from the table."""
        self.evaluated.append(candidate.settings)
        value = self.row_of(candidate.settings).top1
        return Accuracy(value, 0 if value is None else 1000, self.same)

    def _times(self, own: Settings, effort: Effort) -> Times | str:
        row = self.row_of(own)
        if row.ms is None:
            return str(ArtifactError("it cannot be loaded", "").problem)
        ms = row.ms if effort == SCREENING else row.careful_ms or row.ms
        if effort not in (SCREENING, CAREFUL):
            ms = row.alone_ms or ms
        count = effort.least * effort.rounds
        samples = (ms,) * (9 * count // 10) + (ms * row.tail,) * (count - 9 * count // 10)
        latency = Latency(own.told(), samples, (ms,) * effort.rounds, own.batch_size)
        arithmetic = "bf16" if own.arithmetic == "default" else "fp32"
        rate = row.rate or 1e3 * own.batch_size * own.in_flight / ms
        rates = {count: (count * rate,) for count in effort.streams}
        return Times(latency, rate, own.threads / CORES, row.peak_mib, arithmetic, rates)


def model_file(
    precision: str, engines: tuple[str, ...], *, size: tuple[int, int] = (64, 64), batch: int | None = 1,
    function: str = "", path: Path = Path("m.onnx"),
) -> ModelFile:  # fmt: skip
    """A model file that is only described."""
    spec = InputSpec("image", (batch, 3, *size))
    artifact = ModelArtifact(
        path.name, "onnx", precision, Task("classification", ("a", "b")), (spec,), (InputSpec("logits", (batch, 2)),),
        Preprocessing(size), {path.name: f"{precision}{size}{batch}"}, variant="x86" if precision == "int8" else "",
    )  # fmt: skip
    return ModelFile(ModelSource(artifact, path, None), engines, batch, function)
