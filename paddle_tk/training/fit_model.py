"""``paddle.Model`` whose ``fit`` can start in the middle of an epoch and repeats, bit for bit, what it would have done.

What hapi lacks on Paddle 3.3: a start epoch and step, averaged gradient accumulation, autocast in evaluation, a loss
averaged over the epoch, a scaler that survives a reload, and a return value. The epoch loop itself stays hapi's
``_run_one_epoch``; the public hooks ``train_batch`` and ``eval_batch`` do the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from paddle.hapi.callbacks import LRScheduler, config_callbacks

from paddle_tk.errors import CheckFailed, PaddleTkError
from paddle_tk.training.ema import Ema
from paddle_tk.training.precision import Precision
from paddle_tk.training.progress import Progress
from paddle_tk.training.sharding import Sharding
from paddle_tk.training.steps.base import TaskStep
from paddle_tk.training.together import Part, Together


class FitModel(paddle.Model):
    """The one subclass of ``paddle.Model``.

    Args:
        network: Takes images (B, 3, H, W), returns what the step expects.
        task: What is particular to the task: loss, figures, pictures.
        precision: Autocast and loss scaling.
        ema: Averaged weights, used in evaluation; None: none.
        together: The processes that share every batch and go through all methods at the same time; None: this one
            alone.
    """

    _optimizer: Any  # hapi's; a sharded training puts its own in its place

    def __init__(
        self,
        network: paddle.nn.Layer,
        *,
        task: TaskStep,
        precision: Precision,
        ema: Ema | None = None,
        together: Together | None = None,
    ) -> None:
        inputs = paddle.static.InputSpec([None, 3, None, None], "float32", "image")
        super().__init__(network, inputs, task.target)
        self.task, self.precision, self.ema, self.together = task, precision, ema, together
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.stop_signal: int | None = None
        self.stop_now = False
        self.stop_error: PaddleTkError | None = None
        self._epochs = 1
        self._eval_loss, self._eval_samples = 0.0, 0
        self._train_data: Any = None
        self._eval_data: Any = None
        self._eval_step = 0
        self._clock = time.perf_counter()

    def fit(
        self,
        train_data: Any = None,
        eval_data: Any = None,
        *,
        epochs: int = 1,
        callbacks: Sequence[paddle.callbacks.Callback] = (),
        accumulate_grad_batches: int = 1,
    ) -> list[dict[str, Any]]:
        """Trains from where ``progress`` stands up to ``epochs`` finished epochs.

        ``on_epoch_end`` comes after the evaluation, with its figures under "val_..." in the logs; all else is in hapi's
        order. ``progress.finished`` ends the run after the epoch; ``stop_now`` ends it before the next batch, which a
        callback that saved the state sets once ``stop_signal`` is there. A callback that ends it for a reason calls
        ``ask_to_stop`` and sets ``stop_error``, which the trainer raises then.

        Args:
            train_data: A ``TrainLoader``.
            eval_data: An ``EvalLoader``; evaluated after each epoch.
            epochs: Total number of epochs, earlier attempts included.
            callbacks: Paddle callbacks; no progress bar, checkpoint writer or scheduler is added to them.
            accumulate_grad_batches: Batches whose gradients are averaged, by images, for one update.

        Returns:
            One entry per epoch: "epoch" (from 1), "train_loss", "val_loss", the metrics, "images_per_second" and so on.
        """
        self._train_data, self._accumulate = train_data, accumulate_grad_batches
        self._epochs = epochs
        if self.sharding is not None and self.sharding.model is None:
            plain: Any = vars(self)["_optimizer"]
            self._optimizer = self.sharding.wrap(self.network, plain, self.precision.scaler)
        train_data.stop_when = lambda: self.stop_now
        self.num_iters = None
        hooks = self._hooks(callbacks, epochs, train_data.batches_per_epoch)
        hooks.on_begin("train")
        while self.progress.epoch < epochs and not self._ended():
            self._fit_epoch(train_data, eval_data, hooks)
        hooks.on_end("train", self.history[-1] if self.history else {})
        return self.history

    @property
    def sharding(self) -> Sharding | None:
        """What divides the state over the processes; None: each of them holds everything."""
        return None if self.together is None else self.together.sharding

    def _hooks(
        self, callbacks: Sequence[paddle.callbacks.Callback] = (), epochs: int | None = None, steps: int | None = None
    ) -> Any:
        # hapi adds a scheduler that steps with every batch; the rate moves with updates, in train_batch.
        idle = LRScheduler(by_step=False, by_epoch=False)
        names = self._metrics_name()
        return config_callbacks([*callbacks, idle], model=self, epochs=epochs, steps=steps, metrics=names, verbose=0)

    def _ended(self) -> bool:
        # stop_training is what Paddle's own callbacks set; it is not saved, progress.finished is.
        return bool(self.stop_training or self.progress.finished or self.stop_signal is not None)

    def _fit_epoch(self, train_data: Any, eval_data: Any, hooks: Any) -> None:
        epoch = self.progress.epoch
        train_data.start(epoch, self.progress.step)
        self.task.start_epoch(epoch, self._epochs)
        hooks.on_epoch_begin(epoch)
        self._clock = time.perf_counter()
        self._run_one_epoch(train_data, hooks, "train", {})
        if self.progress.step < train_data.batches_per_epoch:
            return
        logs = self._epoch_entry(epoch)
        logs.update(self.run_evaluation(eval_data, hooks))
        if self.stop_signal is not None:
            return  # the evaluation may be cut short: it is run again after the resume
        self.progress.next_epoch(self.rank(logs))
        self.history.append(logs)
        hooks.on_epoch_end(epoch, logs)

    def _epoch_entry(self, epoch: int) -> dict[str, Any]:
        progress = self.progress
        return {
            "epoch": epoch + 1,
            "step": progress.updates,
            "train_loss": progress.mean_loss,
            **{f"train_{name}": value for name, value in progress.train_metrics.items()},
            "learning_rate": float(self._optimizer.get_lr()),
            "seconds": progress.epoch_seconds,
            "images_per_second": progress.samples / max(progress.epoch_seconds, 1e-9),
        }

    def rank(self, logs: Mapping[str, Any]) -> list[float]:
        """Returns what orders epochs, lower is better: the main metric, then the loss, which breaks ties."""
        value = float(logs[self.task.main_metric])
        return [-value if self.task.higher_is_better else value, float(logs["val_loss"])]

    def run_evaluation(self, eval_data: Any, hooks: Any = None) -> dict[str, Any]:
        """Evaluates with averaged weights where there are any, in autocast where training uses it.

        Returns:
            "val_loss" and "val_<metric>" over all images, with "val_n", the image count.
        """
        eval_data.stop_when = lambda: self.stop_signal is not None
        self.task.begin_evaluation(eval_data)
        self._eval_data, self._eval_step = eval_data, 0
        self._eval_loss, self._eval_samples = 0.0, 0
        hooks = hooks or self._hooks()
        hooks.on_begin("eval", {"steps": len(eval_data), "metrics": self._metrics_name()})
        with self.ema.applied() if self.ema is not None else nullcontext():
            logs = self._run_one_epoch(eval_data, hooks, "eval", {})
        values = {f"val_{k}": float(logs[k]) for k in self._metrics_name()[1:] if k in logs}
        values = {
            "val_loss": self._eval_loss / max(1, self._eval_samples),
            **values,
            **({f"val_{k}": v for k, v in self.task.evaluation().items()} if self._eval_samples else {}),
            "val_n": self._eval_samples,
        }
        hooks.on_end("eval", values)
        return values

    def train_batch(self, inputs: Any, labels: Any = None, update: bool = True) -> tuple[list[np.ndarray], list[Any]]:
        """One batch: forward, backward, and with ``update`` the optimizer, the schedule and the average.

        Raises:
            CheckFailed: The loss is no longer finite.
        """
        progress = self.progress
        images, target = inputs[0], labels[0]
        self.network.train()
        self.mode = "train"
        part = self._part(self._train_data, progress.step, target)
        with self._training_batch(part):
            with self.precision.autocast():
                network = self.network if self.together is None else self.together.network(self.network)
                loss, outcome = self.task.forward(network, images, target, progress.epoch, progress.step)
            share = self._window_share(part.own) * (1.0 if self.together is None else self.together.loss_factor)
            self.precision.backward(loss * share if share != 1.0 else loss)
            if self.together is not None:
                self.together.average_statistics(self.network)
        if update:
            self._update()
        value, added = self._agreed(float(loss), part, lambda: self.task.measure(outcome, target))
        if not math.isfinite(value):
            raise _diverged(value, progress)
        if added is not None:
            self.task.agreed(added)
        progress.train_metrics = dict(zip(self._metrics_name()[1:], self._metric_values(), strict=True))
        progress.add_batch(value, part.of_all)
        now = time.perf_counter()
        progress.add_seconds(now - self._clock)
        self._clock = now
        return [np.asarray(value, np.float32)], []

    def _part(self, data: Any, step: int, target: paddle.Tensor) -> Part:
        if self.together is not None:
            return self.together.part(data, step)
        return Part(int(target.shape[0]), 0, int(target.shape[0]))

    def _training_batch(self, part: Part) -> AbstractContextManager[None]:
        if self.together is None:
            return nullcontext()
        return self.together.training_batch(part, self.progress.epoch, self.progress.step)

    def _agreed(self, loss: float, part: Part, count: Callable[[], None]) -> tuple[float, list[np.ndarray] | None]:
        """Counts a batch; returns its loss over the images of all processes, and what these added to the metrics."""
        if self.together is None:
            if math.isfinite(loss) or self.mode == "eval":
                count()
            return loss, None
        value, asked, added = self.together.agree(loss, part, self._metrics, count)
        self.stop_signal = asked if self.stop_signal is None else self.stop_signal
        return value, added

    def ask_to_stop(self, number: int) -> None:
        """Ends the training after the running update, once all processes know of it."""
        if self.together is None:
            self.stop_signal = number
        else:
            self.together.asked = number

    def agree_to_stop(self) -> None:
        """Learns of a signal that came to any process after its last batch."""
        if self.together is not None and self.stop_signal is None:
            self.stop_signal = self.together.agree_to_stop()

    def _metric_values(self) -> list[float]:
        return [float(v) for metric in self._metrics for v in metric.accumulate()]

    def _window_share(self, samples: int) -> float:
        """Weight of a batch in its accumulation window, so that the window's gradient is the mean over its images.

        Of several processes it is the weight of this one's images; what they do is added up.
        """
        if self._accumulate == 1 and self.together is None:
            return 1.0
        step, data = self.progress.step, self._train_data
        first = step - step % self._accumulate
        last = min(first + self._accumulate, data.batches_per_epoch)
        return samples / int(sum(data.batch_samples(i) for i in range(first, last)))

    def _update(self) -> None:
        if self.together is not None:
            self.together.sum_gradients(self._optimizer._parameter_list)
        self.precision.step(self._optimizer)
        if self.sharding is None:
            self._optimizer.clear_grad(set_to_zero=False)
        else:
            self._optimizer.clear_grad()
        self.progress.updates += 1
        self._optimizer._learning_rate.step(self.progress.updates)
        if self.ema is not None:
            self.ema.update(self.progress.updates)

    def eval_batch(self, inputs: Any, labels: Any = None) -> tuple[list[np.ndarray], list[Any]]:
        """One evaluation batch, in the arithmetic of the training."""
        self.network.eval()
        self.mode = "eval"
        target = labels[0]
        part = self._part(self._eval_data, self._eval_step, target)
        shared = nullcontext() if self.together is None else self.together.evaluation_batch(part)
        with paddle.no_grad(), self.precision.autocast(), shared:
            loss, outcome = self.task.evaluate(self.network, inputs[0], target)
        value, _ = self._agreed(loss, part, lambda: self.task.count(outcome, target))
        self._eval_loss += value * part.of_all
        self._eval_samples += part.of_all
        self._eval_step += 1
        return [np.asarray(value, np.float32)], []


def _diverged(value: float, progress: Progress) -> CheckFailed:
    return CheckFailed(
        f"training diverged: the loss is {value} in epoch {progress.epoch + 1}, batch {progress.step + 1}",
        "lower trainer.learning_rate, add trainer.warmup_epochs or trainer.gradient_clip_val, or use fp32",
    )
