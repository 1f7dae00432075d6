"""Every option in fresh processes that take turns, so that what else the machine does falls on all of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from paddle_tk.compare.turns import run_in_turns
from paddle_tk.errors import BadInput
from paddle_tk.measure.fresh_process import run_fresh

_WORKERS = {"paddle": "paddle_tk.compare.paddle_worker", "torch": "paddle_tk.compare.torch_worker"}
_DISTRIBUTIONS = {"paddle": ("paddlepaddle",), "torch": ("torch", "pytorch-lightning")}
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured, the same for every option.

    Attributes:
        rounds: Fresh processes of each option.
        warmup: Steps and inferences before the timed ones.
        train_steps: Timed training steps in each process, of either loop.
        inference_repeats: Timed inferences of one image.
        throughput_batch: Images at once where throughput is measured.
        throughput_repeats: Timed inferences of such a batch.
        epochs: Of the training to the end.
        curve_steps: Steps whose losses are compared.
        threads: CPU threads.
        device: "cpu" or "gpu:N".
        timeout_seconds: For one process.
        torch_python: Interpreter for torch; None: this one.
        turns: Of each process of a round in each series of samples, while the others wait; 1: each at a stretch. On a
            GPU it is 1, where waiting processes would be part of the memory and the utilisation.
        curve_images: Of each batch of ``curve_steps``; None: all.
        loops: Whether rounds time training, by the high-level API and by a bare loop; if not, the steps of the training
            to the end tell its speed.
    """

    rounds: int
    warmup: int
    train_steps: int
    inference_repeats: int
    throughput_batch: int
    throughput_repeats: int
    epochs: int
    curve_steps: int
    threads: int
    device: str
    timeout_seconds: float
    torch_python: str | None = None
    turns: int = 1
    curve_images: int | None = None
    loops: bool = True

    @property
    def timed_phases(self) -> tuple[str, ...]:
        """Phases of a process of a round, see ``phases.PHASES``."""
        return ("inference", "bare", "fit") if self.loops else ("inference",)

    @property
    def takes_turns(self) -> bool:
        """Whether the processes of a round are there together, each waiting while another is timed."""
        return self.turns > 1 and self.device == "cpu"

    @property
    def turns_taken(self) -> int:
        """Turns of each process of a round in a series of samples; 1 where it is timed at a stretch."""
        return self.turns if self.takes_turns else 1

    def __post_init__(self) -> None:
        if self.torch_python is not None and not Path(self.torch_python).is_file():
            raise BadInput(
                f"compare.torch_python={self.torch_python} is no file", "give the path of a Python that has torch"
            )


@dataclass(frozen=True)
class Workers:
    """Starts the processes of a comparison.

    Attributes:
        inputs: Folder of the shared batches and first weights.
        folder: Where workers write arrays.
        effort: How much is measured.
    """

    inputs: Path
    folder: Path
    effort: Effort

    def run(
        self,
        framework: str,
        phases: Sequence[str],
        *,
        name: str,
        link: socket.socket | None = None,
        beside: int = 1,
    ) -> Answer:
        """Runs phases of one framework in one fresh process.

        Args:
            framework: "paddle" or "torch".
            phases: In this order.
            name: Of the option, for messages and for the folder of arrays.
            link: The process's end of ``run_in_turns``; None: it takes no turns.
            beside: Processes that take turns, whose time is part of this one's.

        Raises:
            CheckFailed: The process ended without an answer or in time; nothing is compared then.
        """
        effort, output = self.effort, self.folder / name
        output.mkdir(parents=True, exist_ok=True)
        job = {
            "inputs": str(self.inputs),
            "option": name,
            "phases": list(phases),
            "threads": effort.threads,
            "device": effort.device,
            "warmup": effort.warmup,
            "train_steps": effort.train_steps,
            "inference_repeats": effort.inference_repeats,
            "throughput_batch": effort.throughput_batch,
            "throughput_repeats": effort.throughput_repeats,
            "epochs": effort.epochs,
            "curve_steps": effort.curve_steps,
            "curve_images": effort.curve_images,
            "output": str(output),
            "turns": effort.turns,
            "link": None if link is None else link.fileno(),
        }
        what = f"{name} ({', '.join(phases)})"
        return self._fresh(_WORKERS[framework], framework, job, what, link=link, beside=beside)

    def installed(self, framework: str) -> Answer:
        """Returns "mib" and "distributions" of what training in a framework needs installed.

        Raises:
            CheckFailed: It is not installed.
        """
        job = {"distributions": list(_DISTRIBUTIONS[framework])}
        return self._fresh("paddle_tk.compare.facts", framework, job, f"the installed size of {framework}")

    def export_torch(self, name: str, weights: Path, file: Path, *, opset: int) -> Answer:
        """Lets torch write an ONNX file.

        Raises:
            CheckFailed: Its exporter failed.
        """
        job = {"inputs": str(self.inputs), "weights": str(weights), "file": str(file), "opset": opset}
        return self._fresh("paddle_tk.compare.torch_export", "torch", job, f"the ONNX export of {name}")

    def _fresh(
        self,
        module: str,
        framework: str,
        job: Mapping[str, Any],
        what: str,
        *,
        link: socket.socket | None = None,
        beside: int = 1,
    ) -> Answer:
        python = self.effort.torch_python if framework == "torch" else None
        seconds = self.effort.timeout_seconds * beside
        found: Answer = run_fresh(
            module, job, threads=self.effort.threads, what=what, timeout_seconds=seconds, python=python, link=link
        )  # fmt: skip
        return found


def interleaved_rounds(
    workers: Workers, frameworks: Mapping[str, str], advance: Callable[[int], None] = lambda n: None
) -> dict[str, list[Answer]]:
    """Times every option in each round, in a fresh process; every other round goes backwards.

    Args:
        workers: Starts the processes.
        frameworks: Framework by option; an option may stand for the same framework as another (A/A).
        advance: Called with 1 after each process.

    Returns:
        Answers of all rounds, by option, in the order of ``frameworks``.
    """
    found: dict[str, list[Answer]] = {name: [] for name in frameworks}
    for number in range(workers.effort.rounds):
        order = dict(list(frameworks.items())[:: 1 if number % 2 == 0 else -1])
        for name, answer in run_side_by_side(workers, order, workers.effort.timed_phases, advance).items():
            found[name].append(answer)
    return found


def run_side_by_side(
    workers: Workers,
    frameworks: Mapping[str, str],
    phases: Sequence[str],
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Answer]:
    """Runs phases of every option, each in a fresh process; on a CPU in turns, else one after the other.

    Args:
        workers: Starts the processes.
        frameworks: Framework by option, in the order in which they begin.
        phases: In this order.
        advance: Called with 1 after each process.

    Returns:
        By option, in the same order.

    Raises:
        CheckFailed: A process ended without an answer or in time.
    """
    if not workers.effort.takes_turns:
        found = {}
        for name, framework in frameworks.items():
            found[name] = workers.run(framework, phases, name=name)
            advance(1)
        return found

    def start(name: str, link: socket.socket) -> Answer:
        return workers.run(frameworks[name], phases, name=name, link=link, beside=len(frameworks))

    answers = run_in_turns([partial(start, name) for name in frameworks], lambda: advance(1))
    return dict(zip(frameworks, answers, strict=True))
