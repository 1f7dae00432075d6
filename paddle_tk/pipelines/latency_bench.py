"""Measures candidates of the latency mode: time in fresh processes, memory, accuracy. The clock is only here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.environment.processor import cpu_model
from paddle_tk.errors import PaddleTkError
from paddle_tk.evaluate.task import evaluate
from paddle_tk.manifest import artifact_to_dict
from paddle_tk.measure.fresh_process import run_fresh
from paddle_tk.measure.latency import Latency
from paddle_tk.measure.memory import ProcessFigures, measure_process
from paddle_tk.pipelines.latency_candidates import Candidate
from paddle_tk.runtime.base import Predictor, noise_batch
from paddle_tk.runtime.choose import SAME, cosine
from paddle_tk.runtime.load import load_predictor

_WORKER = "paddle_tk.pipelines.latency_worker"
_EVALUATED_AT_ONCE = 32
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Effort:
    """How carefully a candidate is timed.

    Attributes:
        rounds: Fresh processes; those of several candidates take turns.
        warmup: Batches before the timed ones.
        least: Timed batches of a round, at least.
        most: At most.
        seconds: Time of a round, between these.
        streams: Batches in flight that the rate is also measured with.
    """

    rounds: int = 1
    warmup: int = 3
    least: int = 7
    most: int = 1000
    seconds: float = 0.3
    streams: tuple[int, ...] = ()


SCREENING = Effort()
CAREFUL = Effort(rounds=3, warmup=10, least=40, seconds=0.5)
ALONE = Effort(warmup=20, least=200, seconds=0.5)


@dataclass(frozen=True)
class Times:
    """What timing a candidate gave.

    Attributes:
        latency: Of every batch; with several in flight from when a batch is handed over until its result is there.
        images_per_second: Median of the rounds, as the candidate is run.
        cpu_share: Busy share of the cores, median of the rounds, 0..1.
        peak_mib: Peak memory of the process, the largest of the rounds.
        arithmetic: In what the engine computes what is not integer.
        rates: Samples of images/s by batches in flight, as far as the effort asked for them.
    """

    latency: Latency
    images_per_second: float
    cpu_share: float
    peak_mib: float
    arithmetic: str
    rates: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Accuracy:
    """What a candidate's predictions are worth.

    Attributes:
        value: The main metric on labelled images, a share in 0..1; None: there are no labelled images.
        n: Images.
        same: Without labelled images: whether its outputs for noise are the given model's (cosine of at least 0.99).
    """

    value: float | None
    n: int
    same: bool = True


class Bench(Protocol):
    """What the search measures with."""

    def times(self, candidates: Sequence[Candidate], effort: Effort) -> list[Times | str]:
        """Times candidates in turn; in place of the figures the reason why one could not be timed."""

    def process(self, candidate: Candidate) -> ProcessFigures:
        """Returns memory and cold start of a process that runs nothing else."""

    def accuracy(self, candidate: Candidate) -> Accuracy:
        """Returns what its predictions are worth; measured once for all candidates that compute the same."""


class MachineBench:
    """Measures on the machine at hand.

    Args:
        reference: The given model as its accuracy is known: what others are held against where nothing is labelled.
        split: Labelled images in the model's classes; None: there are none.
        advance: Told after each process that it ran.
    """

    def __init__(
        self,
        reference: Candidate,
        split: ImageSplit | None,
        *,
        advance: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._reference, self._split, self._advance = reference, split, advance
        self._known: dict[tuple[Any, ...], Accuracy] = {}

    def times(self, candidates: Sequence[Candidate], effort: Effort) -> list[Times | str]:
        """Times candidates in turn, each in fresh processes; every other round goes backwards."""
        found: list[list[dict[str, Any]]] = [[] for _ in candidates]
        failed: dict[int, str] = {}
        for number in range(effort.rounds):
            for i in range(len(candidates))[:: 1 if number % 2 == 0 else -1]:
                if i in failed:
                    continue
                try:
                    found[i].append(_timed(candidates[i], effort))
                except PaddleTkError as error:
                    failed[i] = error.problem
                self._advance(candidates[i].settings.told())
        return [failed.get(i) or _merged(candidates[i], found[i], effort) for i in range(len(candidates))]

    def process(self, candidate: Candidate) -> ProcessFigures:
        """Returns memory and cold start of a process that runs nothing else, one batch after the other."""
        own = candidate.settings
        return measure_process(
            candidate.model.source, engine=own.engine, threads=own.threads, batch_size=own.batch_size,
            options=own.options(), timeout_seconds=_TIMEOUT_SECONDS,
        )  # fmt: skip

    def accuracy(self, candidate: Candidate) -> Accuracy:
        """Evaluates a model file in an engine on all labelled images, once."""
        own = candidate.settings
        level = own.graph_optimization if own.precision == "int8" else ""  # in FP32 it only rounds otherwise
        key = (candidate.model.identity, own.engine, own.arithmetic, level)
        if key not in self._known:
            self._advance(f"accuracy: {own.told()}")
            self._known[key] = self._measured(candidate)
        return self._known[key]

    def _measured(self, candidate: Candidate) -> Accuracy:
        predictor = self._loaded(candidate)
        if self._split is None:
            return Accuracy(None, 0, self._same(predictor, candidate))
        found = evaluate(predictor, self._split, batch_size=_EVALUATED_AT_ONCE)
        return Accuracy(found.figures[predictor.artifact.task.metric], found.n)

    def _same(self, predictor: Predictor, candidate: Candidate) -> bool:
        if candidate.model.size != self._reference.model.size:
            return False
        batch = noise_batch(predictor.artifact, predictor.artifact.inputs[0].shape[0] or 1)
        expected = self._loaded(self._reference).predict(batch)
        pairs = zip(expected, predictor.predict(batch), strict=True)
        return min(cosine(ours, theirs) for ours, theirs in pairs) >= SAME

    def _loaded(self, candidate: Candidate) -> Predictor:
        plain = candidate.changed(affinity=(), preallocate=False, spinning=None, streams=1).settings
        # As many threads as it was timed with: more of them than pay here would only wait for one another.
        return load_predictor(
            candidate.model.source, threads=plain.threads, engine=plain.engine, options=plain.options()
        )


def _timed(candidate: Candidate, effort: Effort) -> dict[str, Any]:
    own, source = candidate.settings, candidate.model.source
    job = {
        "folder": str(source.file.parent.resolve()),
        "artifact": artifact_to_dict(source.artifact),
        "engine": own.engine,
        "threads": own.threads,
        "options": own.options(),
        "affinity": list(own.affinity),
        "batch_size": own.batch_size,
        "in_flight": own.in_flight,
        "warmup": effort.warmup,
        "least": effort.least,
        "most": effort.most,
        "seconds": effort.seconds,
        "streams": list(effort.streams),
    }
    found: dict[str, Any] = run_fresh(
        _WORKER, job, threads=own.threads, what=own.told(), timeout_seconds=_TIMEOUT_SECONDS
    )
    return found


def _merged(candidate: Candidate, parts: list[dict[str, Any]], effort: Effort) -> Times:
    own = candidate.settings
    first = parts[0]
    conditions = {
        **own.to_dict(), "arithmetic": first["arithmetic"], "warmup": effort.warmup, "cpu": cpu_model(),
        "process": "fresh, confined to the model",
    }  # fmt: skip
    latency = Latency(
        own.told(),
        tuple(sample for part in parts for sample in part["samples_ms"]),
        tuple(median(part["samples_ms"]) for part in parts),
        own.batch_size,
        first["device"],
        conditions,
    )
    return Times(
        latency,
        median(part["images_per_second"] for part in parts),
        median(part["cpu_cores"] / part["cores"] for part in parts),
        max(part["peak_mib"] for part in parts),
        first["arithmetic"],
        {int(count): tuple(samples) for count, samples in first["rates"].items()},
    )
