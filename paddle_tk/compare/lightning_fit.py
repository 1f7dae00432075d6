"""The high-level training of torch's side: a ``LightningModule`` and a ``Trainer`` over the shared batches."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as lightning
import torch

from paddle_tk.compare.backend import Feed, Listener
from paddle_tk.compare.inputs import Array, EvalImages, Plan
from paddle_tk.compare.torch_optim import build_torch_optimizer
from paddle_tk.compare.torch_task import TorchTask, make_task
from paddle_tk.compare.weights import torch_to_paddle, twin_arrays

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


class LightningFit:
    """See ``HighLevel``.

    Args:
        plan: What is trained.
        network: The twin, its first weights set.
        device: "cpu" or "gpu:N".
        shapes: Of the Paddle network's tensors, by name.
    """

    def __init__(self, plan: Plan, network: Any, device: str, shapes: Mapping[str, Sequence[int]]) -> None:
        self._plan, self._network, self._device, self._shapes = plan, network, device, shapes
        self._task = make_task(plan, network)

    def fit(self, feed: Feed, val: EvalImages, listener: Listener) -> None:
        """See ``HighLevel``."""
        self._network.train()  # Lightning keeps the mode it finds
        trainer = self._trainer(feed.epochs, listener)
        module = _Module(self._plan, self._network, self._task, val)
        train = _TrainBatches(feed, trainer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on loaders and on checkpoints
            trainer.fit(module, train_dataloaders=train, val_dataloaders=_EvalBatches(val))

    def _trainer(self, epochs: int, listener: Listener) -> Any:
        gpu = self._device != "cpu"
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if gpu else "cpu",
            devices=[int(self._device.partition(":")[2] or 0)] if gpu else 1,
            precision="32-true",
            gradient_clip_val=self._plan.optimizer["clip_norm"],
            callbacks=[_Told(listener)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )

    def evaluate(self, data: EvalImages) -> float:
        """See ``HighLevel``."""
        network, where = self._network.eval(), next(self._network.parameters()).device
        self._task.begin_evaluation(data)
        with torch.inference_mode():
            for images, labels in _EvalBatches(data):
                self._task.evaluate(network, images.to(where), labels.to(where))
        return self._task.metric()

    def arrays(self) -> dict[str, Array]:
        """See ``HighLevel``."""
        return torch_to_paddle(twin_arrays(self._network), self._shapes)


class _Module(lightning.LightningModule):
    """The twin with its task, as a user of Lightning writes it."""

    def __init__(self, plan: Plan, network: Any, task: TorchTask, val: EvalImages) -> None:
        super().__init__()
        self.plan, self.network, self.task, self.val = plan, network, task, val

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer, schedule = build_torch_optimizer(self.network, self.plan.optimizer, self.plan.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss, outcome = self.task.loss(self.network, images, labels)
        self.task.measure(outcome, labels)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.task.begin_evaluation(self.val)

    def validation_step(self, batch: Sequence[torch.Tensor], batch_idx: int) -> None:
        self.task.evaluate(self.network, batch[0], batch[1])


class _TrainBatches:
    """A feed as Lightning takes it; each pass is the epoch that the trainer is in."""

    def __init__(self, feed: Feed, trainer: Any) -> None:
        self._feed, self._trainer = feed, trainer

    def __len__(self) -> int:
        return self._feed.batches_per_epoch

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for images, labels in self._feed.batches(self._trainer.current_epoch):
            yield [torch.from_numpy(images), torch.from_numpy(labels)]


class _EvalBatches:
    """Evaluation images as Lightning takes them."""

    def __init__(self, data: EvalImages) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for images, labels in self._data.batches():
            yield [torch.from_numpy(images), torch.from_numpy(labels)]


class _Told(lightning.Callback):
    """Passes on what happens."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._sum, self._images = 0.0, 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._listener.began()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._sum, self._images = 0.0, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss, count = float(outputs["loss"]), len(batch[0])
        self._sum, self._images = self._sum + loss * count, self._images + count
        self._listener.batch_ended(loss)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # Lightning evaluates before it ends the epoch.
        self._listener.epoch_ended(pl_module.task.metric(), self._sum / max(1, self._images))
