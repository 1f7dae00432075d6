"""What a worker measures, written once over ``Backend``, so that every framework is timed by the same code.

Each phase wants a process of its own where its peak memory is to count: what an earlier one left is in it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.compare.backend import Backend, Feed, Predict, epoch_feed, whole_feed
from paddle_tk.compare.gpu_watch import GpuWatch
from paddle_tk.compare.inputs import TEST, VAL, SharedInputs
from paddle_tk.compare.turns import TRAINING_TURN, Turns
from paddle_tk.errors import BadInput
from paddle_tk.measure.fresh_process import peak_mib, reset_peak
from paddle_tk.runtime.timing import sample_ms

_OUTPUT_IMAGES = 16  # whose outputs are held against each other


class Clock:
    """A ``Listener`` that notes when what happened; the time while others have their turn is not part of it.

    Args:
        turns: Of this process among others.
        hands_over: After so many steps.
    """

    def __init__(self, turns: Turns | None = None, hands_over: Iterable[int] = ()) -> None:
        self.start = self._from = 0.0
        self.step_seconds: list[float] = []
        self.losses: list[float] = []
        self.epochs: list[dict[str, float]] = []
        self._turns, self._hands_over, self._waited = turns or Turns(), frozenset(hands_over), 0.0

    def began(self) -> None:
        """See ``Listener``."""
        self.start = self._from = time.perf_counter()

    def batch_ended(self, loss: float) -> None:
        """See ``Listener``."""
        now = time.perf_counter()
        self.step_seconds.append(now - self._from)
        self.losses.append(loss)
        self._from = now
        if len(self.losses) in self._hands_over:
            self._turns.hand_over()
            self._from = time.perf_counter()
            self._waited += self._from - now

    def epoch_ended(self, metric: float, loss: float) -> None:
        """See ``Listener``; the evaluation is part of the time, but no step's."""
        self._from = time.perf_counter()
        seconds = self._from - self.start - self._waited
        entry = {"epoch": len(self.epochs) + 1, "seconds": seconds, "train_loss": loss, "val_metric": metric}
        self.epochs.append(entry)


class Phases:
    """The phases of a job.

    Args:
        backend: The framework.
        inputs: What it starts from.
        job: Of JSON types, see ``JOB_KEYS``.
        began: When the process began, by ``time.perf_counter``.
    """

    def __init__(self, backend: Backend, inputs: SharedInputs, job: Mapping[str, Any], began: float) -> None:
        self.backend, self.inputs, self.job, self._began = backend, inputs, job, began
        self.weights = inputs.weights
        self.turns = Turns(job.get("link"), job.get("turns", 1))

    def run(self) -> dict[str, Any]:
        """Runs those that the job names, in the order of ``PHASES``.

        Raises:
            BadInput: A phase that does not exist, or a count that is not there.
        """
        unknown = sorted(set(self.job["phases"]) - set(PHASES))
        if unknown:
            raise BadInput(f"unknown phase {unknown[0]}", f"choose from {', '.join(PHASES)}")
        found = {}
        for name, phase in PHASES.items():
            if name in self.job["phases"]:
                gc.collect()  # of the phase before
                try:
                    found[name] = phase(self)
                except KeyError as error:
                    if error.args[0] in JOB_KEYS:
                        raise BadInput(f"the phase {name} needs {error.args[0]} in its job", "give it") from error
                    raise
        return found

    def inference(self) -> dict[str, Any]:
        """Evaluation mode, array in, arrays out: cold start, latency of one image, of a batch, peak memory."""
        can_reset = reset_peak()
        predict = self.backend.predictor(self.weights)
        images = self.inputs.eval_images(TEST).images
        one, many = np.array(images[:1]), _filled_up(images, self.job["throughput_batch"])
        predict(one)
        cold = time.perf_counter() - self._began
        found: dict[str, Any] = {"cold_start_seconds": cold, **self._timed(predict, one, many)}
        found.update(batch_size=len(many), peak_mib=peak_mib() if can_reset else None)
        found["compiled"] = self._compiled(one, many)
        return found

    def _timed(self, predict: Predict, one: np.ndarray, many: np.ndarray) -> dict[str, list[float]]:
        job = self.job
        return {
            # Another process has been at the caches, which matters to one image and not to many.
            "latency_ms": self._sampled(lambda: predict(one), job["inference_repeats"], (job["warmup"], 1)),
            "throughput_ms": self._sampled(lambda: predict(many), job["throughput_repeats"], (1, 0)),
        }

    def _sampled(self, call: Callable[[], object], repeats: int, warmup: tuple[int, int]) -> list[float]:
        """Samples in turns, with so many calls before the first and before each other one."""
        found = []
        for place, count in enumerate(self.turns.blocks(repeats)):
            self.turns.hand_over()
            found += sample_ms(call, repeats=count, warmup=warmup[place > 0])
        return found

    def _compiled(self, one: np.ndarray, many: np.ndarray) -> dict[str, Any]:
        """The same by the framework's graph form, a trace for each batch; where that fails, why."""
        if not self.job.get("compiled", False):
            return {"form": None, "reason": "not asked for"}
        try:
            form, single = self.backend.compiled(self.weights, one)
            batched = self.backend.compiled(self.weights, many)[1]
            single(one), batched(many)
        except Exception as error:  # whatever tracing a network may raise
            told = str(error).strip().splitlines() or [type(error).__name__]
            return {"form": None, "reason": f"{type(error).__name__}: {told[-1]}"}

        def predict(batch: np.ndarray) -> tuple[np.ndarray, ...]:
            return single(batch) if len(batch) == len(one) else batched(batch)

        return {"form": form, "reason": "", **self._timed(predict, one, many)}

    def outputs(self) -> dict[str, Any]:
        """Outputs for the first test images, in evaluation mode, as files."""
        images = np.array(self.inputs.eval_images(TEST).images[:_OUTPUT_IMAGES])
        folder = Path(self.job["output"])
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        option = self.job["option"] + ("" if self.weights == self.inputs.weights else "-trained")
        names = ("boxes", "scores") if self.inputs.plan.kind == "detection" else ("logits",)
        for name, array in zip(names, self.backend.predictor(self.weights)(images), strict=True):
            path = folder / f"{option}_{name}.npy"
            np.save(path, array)
            files[name] = str(path)
        return {"images": len(images), "files": files}

    def losses(self) -> dict[str, Any]:
        """The losses of a bare loop over the batches as they come, without random layers.

        In float64 they tell whether both frameworks compute the same. In float32 they cannot, beyond a few steps:
        rounding turns the sign of a few activations out of a million, each of which moves the gradient by tenths of a
        percent, and the curves part as those of one framework in float32 and in float64 do. A detector's loss computes
        in float32 itself and has that curve alone.
        """
        single = self._curve(double=False)
        if self.inputs.plan.kind == "detection":
            return {"losses": single, "losses_float32": single, "arithmetic": "float32"}
        return {"losses": self._curve(double=True), "losses_float32": single, "arithmetic": "float64"}

    def _curve(self, *, double: bool) -> list[float]:
        step = self.backend.bare_step(self.weights, random_layers=False, double=double)
        total = self.inputs.plan.epochs * self.inputs.plan.batches_per_epoch
        some = slice(self.job.get("curve_images"))
        batches = (self.inputs.train_batch(place % total) for place in range(self.job["curve_steps"]))
        return [step(images[some], labels[some]) for images, labels in batches]

    def bare(self) -> dict[str, Any]:
        """The bare loop over full batches, timed."""
        can_reset = reset_peak()
        step = self.backend.bare_step(self.weights)
        feed, clock = self._steps_feed()
        with GpuWatch(self.backend.device) as watch:
            clock.began()
            for images, labels in feed.batches(0):
                clock.batch_ended(step(images, labels))
        return self._stepped(clock, watch, can_reset)

    def fit(self) -> dict[str, Any]:
        """The same steps by the high-level API, timed from one batch's end to the next."""
        can_reset = reset_peak()
        model = self.backend.high_level(self.weights)
        feed, clock = self._steps_feed()
        with GpuWatch(self.backend.device) as watch:
            model.fit(feed, self.inputs.eval_images(VAL).first(1), clock)
        return self._stepped(clock, watch, can_reset)

    def _steps_feed(self) -> tuple[Feed, Clock]:
        warmup, timed = max(1, self.job["warmup"]), self.job["train_steps"]
        begins = accumulate(self.turns.blocks(timed)[:-1], initial=warmup)
        return whole_feed(self.inputs, warmup + timed), Clock(self.turns, begins)

    def _stepped(self, clock: Clock, watch: GpuWatch, can_reset: bool) -> dict[str, Any]:
        # Batch end to batch end; the first step, which has no end before it, is one of the warm-up.
        return {
            "step_ms": [1e3 * seconds for seconds in clock.step_seconds[-self.job["train_steps"] :]],
            "images_per_step": self.inputs.plan.batch_size,
            "losses": clock.losses,
            "peak_mib": peak_mib() if can_reset else None,
            "gpu": watch.result(),
        }

    def train(self) -> dict[str, Any]:
        """A training to the end by the high-level API; phases after it look at what was learned."""
        plan, epochs = self.inputs.plan, self.job["epochs"]
        if not 1 <= epochs <= plan.epochs:
            raise BadInput(f"{epochs} epochs asked for", f"there are batches for 1 to {plan.epochs}")
        can_reset = reset_peak()
        model = self.backend.high_level(self.weights)
        total = epochs * plan.batches_per_epoch
        clock, test = Clock(self.turns, range(TRAINING_TURN, total, TRAINING_TURN)), self.inputs.eval_images(TEST)
        self.turns.hand_over()  # all are loaded before any begins
        with GpuWatch(self.backend.device) as watch:
            model.fit(epoch_feed(self.inputs, epochs), self.inputs.eval_images(VAL), clock)
        peak = peak_mib() if can_reset else None
        self.weights = _save(model.arrays(), Path(self.job["output"]), self.job["option"])
        return {
            "epochs": clock.epochs,
            "losses": clock.losses,
            "step_ms": [1e3 * seconds for seconds in clock.step_seconds],
            "step_images": [plan.batch_images(step % plan.batches_per_epoch) for step in range(total)],
            "gpu": watch.result(),
            "train_seconds": clock.epochs[-1]["seconds"],
            "peak_mib": peak,
            "metric": plan.metric,
            "test_metric": model.evaluate(test),
            "test_n": len(test.images),
            "weights": str(self.weights),
        }


def _filled_up(images: np.ndarray, count: int) -> np.ndarray:
    """Returns ``count`` images, the first ones again where there are fewer."""
    return np.array(images[np.arange(count) % len(images)])


def _save(arrays: Mapping[str, np.ndarray], folder: Path, option: str) -> Path:
    from safetensors.numpy import save

    from paddle_tk.files import write_bytes_atomic

    path = folder / f"{option}.safetensors"
    write_bytes_atomic(path, save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}))
    return path


PHASES: dict[str, Callable[[Phases], dict[str, Any]]] = {
    # A cold start is only one in a process that has done nothing before.
    "inference": Phases.inference,
    "outputs": Phases.outputs,
    "losses": Phases.losses,
    "bare": Phases.bare,
    "fit": Phases.fit,
    "train": Phases.train,
    "trained_outputs": Phases.outputs,
}
JOB_KEYS = (
    "inputs", "option", "phases", "threads", "device", "warmup", "train_steps", "inference_repeats",
    "throughput_batch", "throughput_repeats", "epochs", "curve_steps", "output", "turns", "link", "curve_images",
)  # fmt: skip
