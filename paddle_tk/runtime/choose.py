"""``--engine auto``: a short measurement picks the quickest engine for a model on this machine, and is remembered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from paddle_tk.data.home import home_folder
from paddle_tk.environment.processor import cpu_model
from paddle_tk.errors import BadInput, PaddleTkError
from paddle_tk.files import canonical_json, sha256_bytes, write_json
from paddle_tk.runtime.base import Array, Predictor, noise_batch
from paddle_tk.runtime.engines import ENGINES, available_engines, engines_for, load_with
from paddle_tk.runtime.timing import sample_ms
from paddle_tk.types import ModelArtifact

CACHE = "engines.json"
SCHEMA_VERSION = 1
_ROUNDS, _SECONDS, _MOST, _LEAST = 5, 0.1, 20, 2  # per engine: rounds, time of a round, calls of a round
# Engines round differently, bf16 most of all; below this cosine they do not compute the same function.
SAME = 0.99


@dataclass(frozen=True)
class EngineChoice:
    """Which engine was taken and why.

    Attributes:
        name: The engine.
        median_ms: Median latency of one batch by engine.
        left_out: Reason by engine that was not considered.
        samples: Timed batches per engine.
        batch_size: Images in the batch.
        threads: CPU threads.
        remembered: The figures are those of an earlier measurement on this machine.
    """

    name: str
    median_ms: Mapping[str, float]
    left_out: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 1
    threads: int = 1
    remembered: bool = False

    def line(self) -> str:
        """Returns the choice in one line."""
        figures = ", ".join(
            f"{name} {self.median_ms[name]:.2f} ms (n={self.samples[name]})"
            for name in sorted(self.median_ms, key=self.median_ms.__getitem__)
        )
        out = "".join(f"; without {name}: {reason}" for name, reason in self.left_out.items())
        when = "measured earlier" if self.remembered else "measured"
        return (
            f"engine {self.name}, {when} on a batch of {self.batch_size} with {self.threads} thread(s): {figures}{out}"
        )


def choose_engine(
    artifact: ModelArtifact,
    file: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    batch_size: int = 1,
    cache: Path | None = None,
) -> EngineChoice:
    """Times every available engine on one batch of noise and takes the one with the lowest median.

    The engines take turns. One whose outputs are not those of the format's own engine (cosine below 0.99) is left out.

    Args:
        artifact: The model's manifest.
        file: The model file.
        device: Of Paddle.
        threads: CPU threads.
        batch_size: Images in the batch.
        cache: Where choices are remembered; None: ``$PADDLE_TK_HOME/engines.json``. A file that cannot be read is
            ignored and written anew; one that cannot be written is no failure.

    Raises:
        ArtifactError: No engine can load the model.
        BadInput: No engine for its format is installed.
    """
    path = cache if cache is not None else home_folder() / CACHE
    names = available_engines(artifact)
    if not names:
        own = ENGINES[engines_for(artifact)[0]]
        raise BadInput(f"no engine for {artifact.format} models is installed", own.install)
    key = _key(artifact, names, device, threads, batch_size)
    known = _read(path)
    found = _remembered(known.get(key), names)
    if found is not None:
        return found
    choice = _measure(names, artifact, file, device, threads, batch_size)
    known[key] = asdict(choice)
    with suppress(PaddleTkError, OSError):  # it is measured again next time
        write_json(path, {"schema_version": SCHEMA_VERSION, "choices": known})
    return choice


def _measure(
    names: list[str], artifact: ModelArtifact, file: Path, device: str, threads: int, batch_size: int
) -> EngineChoice:
    batch = noise_batch(artifact, batch_size)
    loaded, left_out = _load_all(names, artifact, file, device, threads, batch)
    samples: dict[str, list[float]] = {name: [] for name in loaded}
    calls = {name: _calls(predictor, batch) for name, predictor in loaded.items()}
    for _ in range(_ROUNDS):
        for name, predictor in loaded.items():
            samples[name] += sample_ms(lambda p=predictor: p.predict(batch), repeats=calls[name], warmup=1)  # type: ignore[misc]
    medians = {name: median(values) for name, values in samples.items()}
    return EngineChoice(
        name=min(medians, key=medians.__getitem__),
        median_ms=medians,
        left_out=left_out,
        samples={name: len(values) for name, values in samples.items()},
        batch_size=batch_size,
        threads=threads,
    )


def _load_all(
    names: list[str], artifact: ModelArtifact, file: Path, device: str, threads: int, batch: Array
) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Returns the engines that compute what the first of them computes, and why others are left out."""
    loaded: dict[str, Predictor] = {}
    left_out: dict[str, str] = {}
    failure: Exception | None = None
    expected: tuple[Array, ...] | None = None
    for name in names:
        try:
            predictor = load_with(name, artifact, file, device=device, threads=threads)
            outputs = predictor.predict(batch)
        except Exception as error:  # an optional engine that fails, however it does, must not stop the others
            failure = failure or error
            left_out[name] = error.problem if isinstance(error, PaddleTkError) else " ".join(str(error).split())
            continue
        if expected is None:
            expected = outputs
        least = _agreement(expected, outputs)
        if outputs is not expected and least < SAME:
            left_out[name] = f"its output differs (cosine {least:.4f}, at least {SAME} is asked for)"
            continue
        loaded[name] = predictor
    if not loaded and failure is not None:
        raise failure
    return loaded, left_out


def _agreement(expected: tuple[Array, ...], found: tuple[Array, ...]) -> float:
    if len(expected) != len(found):
        return -1.0
    return min(cosine(ours, theirs) for ours, theirs in zip(expected, found, strict=True))


def cosine(a: Array, b: Array) -> float:
    """Returns the cosine of two outputs, 1 where both are zero, -1 where one is not finite or of another shape."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return -1.0
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if lengths == 0:
        return 1.0 if np.array_equal(x, y) else -1.0
    return float(x @ y) / lengths


def _calls(predictor: Predictor, batch: Array) -> int:
    """Returns how many calls fill a round, and warms the engine up."""
    once = median(sample_ms(lambda: predictor.predict(batch), repeats=3, warmup=2))
    return max(_LEAST, min(_MOST, int(1e3 * _SECONDS / max(once, 1e-3))))


def _key(artifact: ModelArtifact, names: list[str], device: str, threads: int, batch_size: int) -> str:
    facts = {
        "model": artifact.sha256[artifact.path],
        "size": artifact.preprocessing.size,
        "device": device,
        "threads": threads,
        "batch": batch_size,
        "cpu": cpu_model(),
        "engines": {name: ENGINES[name].version for name in names},
    }
    return sha256_bytes(canonical_json(facts))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return dict(raw["choices"]) if raw["schema_version"] == SCHEMA_VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remembered(raw: Any, names: list[str]) -> EngineChoice | None:
    """Returns what the cache holds, None where that makes no sense."""
    try:
        choice = EngineChoice(**{**raw, "remembered": True})
        sane = choice.name in names and set(choice.samples) == set(choice.median_ms)
        sane = sane and all(math.isfinite(value) and value > 0 for value in choice.median_ms.values())
    except (TypeError, AttributeError):
        return None
    return choice if sane and choice.name in choice.median_ms else None
