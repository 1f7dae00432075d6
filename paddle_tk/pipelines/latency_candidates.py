"""What the latency mode tries: a model file in an engine, with threads, processors, graph optimisation and batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paddle_tk.runtime.load import ModelSource

ONNXRUNTIME, OPENVINO, TENSORRT = "onnxruntime", "openvino", "tensorrt"
BATCHES = (4, 16)  # tried beside 1 where a rate is asked for
_LEVELS = ("extended", "basic")  # tried beside "all"; "none" leaves every layer by itself
_TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Settings:
    """How a model is run.

    Attributes:
        engine: A name of ``paddle_tk.runtime.engines.ENGINES``.
        precision: Of the model file: "fp32" or "int8".
        input_size: (height, width) in pixels.
        threads: CPU threads.
        affinity: Processors, one for each thread, that the process is confined to; empty: all that it may use.
        graph_optimization: ONNX Runtime's level: "all", "extended" or "basic"; "" for other engines.
        arithmetic: OpenVINO's choice for what is not integer: "default" or "fp32"; "" for other engines.
        batch_size: Images in a batch.
        in_flight: Batches at work at once; 1: one after the other.
        streams: OpenVINO's requests that are computed side by side.
        preallocate: Input and output buffers are made once.
        spinning: Whether ONNX Runtime's idle threads wait busily; None: as it sets it.
    """

    engine: str
    precision: str
    input_size: tuple[int, int]
    threads: int = 1
    affinity: tuple[int, ...] = ()
    graph_optimization: str = ""
    arithmetic: str = ""
    batch_size: int = 1
    in_flight: int = 1
    streams: int = 1
    preallocate: bool = False
    spinning: bool | None = None

    def options(self) -> dict[str, Any]:
        """Returns the arguments of the engine's predictor beside its threads, of JSON types."""
        if self.engine == ONNXRUNTIME:
            made: dict[str, Any] = {
                "graph_optimization": self.graph_optimization or "all", "preallocate": self.preallocate,
            }  # fmt: skip
            if self.spinning is not None:
                made["spinning"] = self.spinning
            if len(self.affinity) > 1:
                made["affinity"] = list(self.affinity[1:])  # the first is the calling thread's
            return made
        if self.engine == OPENVINO:
            return {"precision": self.arithmetic or "default", "streams": self.streams, "preallocate": self.preallocate}
        return {"batch_size": self.batch_size} if self.engine == TENSORRT else {}

    @property
    def extras(self) -> int:
        """How many settings are not what an engine does by itself."""
        special = (bool(self.affinity), self.graph_optimization not in ("", "all"), self.preallocate)
        return sum((*special, self.spinning is not None, self.in_flight > 1, self.batch_size > 1))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def told(self) -> str:
        """Returns the settings in words."""
        height, width = self.input_size
        parts = [f"{self.engine} {self.precision} {height}x{width}", f"{self.threads} thread{'s' * (self.threads > 1)}"]
        if self.arithmetic == "fp32":
            parts.append("fp32 arithmetic")
        if self.affinity:
            parts.append(f"on CPU {','.join(str(cpu) for cpu in self.affinity)}")
        if self.graph_optimization not in ("", "all"):
            parts.append(f"{self.graph_optimization} optimisation")
        parts += [f"batch {self.batch_size}"] * (self.batch_size > 1)
        parts += [f"{self.in_flight} in flight"] * (self.in_flight > 1)
        parts += ["preallocated"] * self.preallocate
        parts += ["no spinning"] * (self.spinning is False)
        return ", ".join(parts)


@dataclass(frozen=True)
class ModelFile:
    """A model file that candidates run.

    Attributes:
        source: The file and its manifest.
        engines: Installed engines that run it.
        batch_size: The batch it takes; None: any.
        function: Sha256 of the file that computes the same with another batch size, or its own.
    """

    source: ModelSource
    engines: tuple[str, ...]
    batch_size: int | None = 1
    function: str = ""

    @property
    def precision(self) -> str:
        """Of the file: "fp32" or "int8"."""
        return self.source.artifact.precision

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.source.artifact.preprocessing.size

    @property
    def identity(self) -> tuple[str, tuple[int, int]]:
        """What it computes: equal for files that differ in their batch size only."""
        return self.function or self.source.sha256, self.size


@dataclass(frozen=True)
class Candidate:
    """A model file and how it is run."""

    model: ModelFile
    settings: Settings

    def changed(self, **changes: Any) -> Candidate:
        """Returns it with other settings."""
        return replace(self, settings=replace(self.settings, **changes))


def core_order(cpus: Sequence[int], topology: Path = _TOPOLOGY) -> tuple[int, ...]:
    """Returns processors in the order in which threads are put on them.

    Cores before their second hardware threads, and the highest numbers first: the lowest get most of the interrupts.
    """
    taken: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for cpu in sorted(cpus, reverse=True):
        try:
            core = (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="utf-8").strip()
        except OSError:
            core = str(cpu)
        (second if core in taken else first).append(cpu)
        taken.add(core)
    return (*first, *second)


def allowed_cpus() -> tuple[int, ...]:
    """Returns the processors this process may use, in the order of ``core_order``; none where that is not known."""
    return core_order(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def thread_counts(cores: int) -> tuple[int, ...]:
    """Returns the numbers of threads to try: powers of two and all cores."""
    powers = [1]
    while powers[-1] * 2 < cores:
        powers.append(powers[-1] * 2)
    return tuple(dict.fromkeys((*powers, cores)))


def starters(model: ModelFile, cores: int) -> list[Candidate]:
    """Returns a model's first candidates: each engine with all cores, one image after the other."""
    made = []
    for engine in model.engines:
        threads = 1 if engine == TENSORRT else cores
        level = "all" if engine == ONNXRUNTIME else ""
        for arithmetic in ("default", "fp32") if engine == OPENVINO else ("",):
            settings = Settings(
                engine, model.precision, model.size, threads, graph_optimization=level, arithmetic=arithmetic
            )
            made.append(Candidate(model, settings))
    return made


def other_threads(start: Candidate, cores: int) -> list[Candidate]:
    """Returns a first candidate with every other number of threads."""
    if start.settings.engine == TENSORRT:
        return []
    return [start.changed(threads=count) for count in thread_counts(cores) if count != start.settings.threads]


def for_rate(start: Candidate, models: Sequence[ModelFile], cores: int) -> list[Candidate]:
    """Returns what may raise a first candidate's rate: larger batches, and several batches in flight.

    Args:
        start: A first candidate.
        models: All files; those that differ in their batch size only are used for larger batches.
        cores: Cores that may be used.
    """
    made = []
    for size in BATCHES:
        fitting = [m for m in models if m.identity == start.model.identity and m.batch_size in (None, size)]
        made += [replace(start.changed(batch_size=size), model=m) for m in fitting[:1]]
    flying = max(2, cores)
    if start.settings.engine == ONNXRUNTIME:
        made.append(start.changed(threads=1, in_flight=flying))
    elif start.settings.engine == OPENVINO:
        made.append(start.changed(threads=cores, streams=cores, in_flight=flying))
    return made


def refinements(best: Candidate, cpus: Sequence[int]) -> list[Candidate]:
    """Returns a candidate with one more setting changed, each in turn.

    Args:
        best: What is refined.
        cpus: Processors that may be used, the preferred ones first.
    """
    own = best.settings
    made = []
    # Where all processors are taken, only an engine that puts each thread on its own gains from it.
    if own.in_flight == 1 and (own.threads < len(cpus) or (own.engine == ONNXRUNTIME and own.threads == len(cpus) > 1)):
        made.append(best.changed(affinity=tuple(cpus[: own.threads])))
    if own.engine == ONNXRUNTIME:
        made += [best.changed(graph_optimization=level) for level in _LEVELS]
        made += [best.changed(spinning=False)] * (own.threads > 1)
    if own.engine in (ONNXRUNTIME, OPENVINO) and own.in_flight == 1:
        made.append(best.changed(preallocate=True))
    return made


def combined(best: Candidate, better: Sequence[Candidate]) -> Candidate | None:
    """Returns a candidate with all changes that helped; None where fewer than two did."""
    plain = best.settings.to_dict()
    changes = {
        key: getattr(other.settings, key)
        for other in reversed(better)  # of two values of one setting the first one counts
        for key, value in other.settings.to_dict().items()
        if value != plain[key]
    }
    return best.changed(**changes) if len(changes) > 1 else None
