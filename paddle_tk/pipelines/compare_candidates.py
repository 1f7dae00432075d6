"""Which options are compared, and how much of each is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec

from paddle_tk.compare.rounds import Effort
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.errors import BadInput
from paddle_tk.evidence import Option, option_label

_QUICK_STEPS = 11  # of the losses that must agree; more than the ten with the tight bound
_CURVE_IMAGES = 8  # of each batch of those losses; float64 is slow


@dataclass(frozen=True)
class Candidate:
    """An option and what it is measured by.

    Attributes:
        name: Unique.
        framework: "paddle" or "torch".
        precision: "fp32" or "int8".
        base: The FP32 option that trains it; its own name where it trains itself.
    """

    name: str
    framework: str
    precision: str
    base: str


def candidates(options: list[str]) -> list[Candidate]:
    """Returns the options by unique names; one that is given twice is numbered, which makes an A/A test."""
    found = []
    for index, option in enumerate(options):
        framework, _, precision = option.partition("-")
        number = f"-{options[: index + 1].count(option)}" if options.count(option) > 1 else ""
        name = option + number
        base = name if not precision else framework
        found.append(Candidate(name, framework, precision or "fp32", base))
    return found


def effort_of(config: Config, *, threads: int, device: str, quick: bool) -> Effort:
    """Returns how much is measured; ``quick``: about a third of it, with the same checks.

    A quick comparison times training by the steps of the training to the end alone.
    """
    said = config.compare
    return Effort(
        rounds=min(3, said.rounds) if quick else said.rounds,
        warmup=min(2, said.warmup_steps) if quick else said.warmup_steps,
        train_steps=max(2, said.train_steps // 3) if quick else said.train_steps,
        inference_repeats=max(5, said.inference_repeats // 2) if quick else said.inference_repeats,
        throughput_batch=said.throughput_batch,
        throughput_repeats=max(2, said.throughput_repeats // 2) if quick else said.throughput_repeats,
        epochs=min(2, said.epochs) if quick else said.epochs,
        curve_steps=min(_QUICK_STEPS, said.curve_steps) if quick else said.curve_steps,
        threads=threads,
        device=device,
        timeout_seconds=said.timeout_seconds,
        torch_python=said.torch_python,
        turns=min(4, said.turns) if quick else said.turns,
        curve_images=_CURVE_IMAGES,
        loops=not quick,
    )


def require_torch(wanted: list[Candidate], effort: Effort) -> None:
    """Refuses to begin where torch is wanted and not there.

    Raises:
        BadInput: It is not installed.
    """
    here = effort.torch_python is not None or all(find_spec(name) for name in ("torch", "pytorch_lightning"))
    if not here and any(candidate.framework == "torch" for candidate in wanted):
        raise BadInput(
            "torch and pytorch-lightning are not both installed here",
            "run 'make setup', or name an interpreter that has them with compare.torch_python",
        )


def option(candidate: Candidate, version: str) -> Option:
    """Returns what the evidence says of a candidate."""
    suffix = candidate.name.removeprefix(candidate.framework)
    numbered = f" ({suffix[1:]})" if suffix[1:].isdigit() else ""
    label = option_label(candidate.framework, version, candidate.precision) + numbered
    return Option(candidate.name, label, candidate.framework, version, candidate.precision)


class Watch:
    """Says how long each stage took."""

    def __init__(self, output: Output) -> None:
        self.seconds: dict[str, float] = {}
        self._output, self._began = output, time.perf_counter()

    def stage(self, name: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._began, 1)
        self._output.say(f"{name}: {self.seconds[name]:.0f} s")
        self._began = now
