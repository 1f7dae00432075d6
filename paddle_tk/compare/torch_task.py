"""What is particular to a task on torch's side: loss and figures, the counterpart of ``training.steps``."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from paddle_tk.compare.inputs import EvalImages, Plan
from paddle_tk.metrics.accuracy import TopK


class TorchTask(Protocol):
    """One task's way from a batch to a loss and to figures; counts the same as Paddle's step does."""

    def loss(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Returns a training batch's loss and what ``measure`` takes."""

    def measure(self, outcome: Any, labels: torch.Tensor) -> None:
        """Counts a training batch in the training figures."""

    def begin_evaluation(self, data: EvalImages) -> None:
        """Forgets the last evaluation."""

    def evaluate(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Counts an evaluation batch and returns its loss."""

    def metric(self) -> float:
        """Returns the plan's metric over the evaluation."""


class ClassificationTask:
    """Cross-entropy and top-1. See ``TorchTask``."""

    def __init__(self, plan: Plan) -> None:
        self._entropy = torch.nn.CrossEntropyLoss(label_smoothing=plan.label_smoothing)
        self._trained, self._found = TopK(), TopK()

    def loss(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Returns the loss and the logits."""
        logits = network(images)
        return self._entropy(logits, labels), logits

    def measure(self, outcome: Any, labels: torch.Tensor) -> None:
        """Counts a training batch's logits."""
        self._trained.update(outcome.detach().cpu().numpy(), labels.cpu().numpy())

    def begin_evaluation(self, data: EvalImages) -> None:
        """Forgets the last evaluation, and the training figures of the epoch before it."""
        self._trained.reset()
        self._found.reset()

    def evaluate(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Counts an evaluation batch and returns its loss."""
        logits = network(images)
        self._found.update(logits.cpu().numpy(), labels.cpu().numpy())
        return float(self._entropy(logits, labels))

    def metric(self) -> float:
        """Returns top-1."""
        return self._found.result()["top1"]


class DetectionTask:
    """The twin's own loss and COCO's mean average precision. See ``TorchTask``."""

    def __init__(self, plan: Plan, network: Any) -> None:
        from paddle_tk.metrics.detection import DetectionMetric

        self._plan, self._loss = plan, network.make_loss()
        self._metric = DetectionMetric(plan.classes)
        self._count: Any = None
        self.parts: dict[str, float] = {}

    def loss(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Returns the loss and its parts."""
        total, parts = self._loss(*network(images), labels)
        return total, parts

    def measure(self, outcome: Any, labels: torch.Tensor) -> None:
        """Reads a training batch's loss parts."""
        self.parts = {name: float(value) for name, value in outcome.items()}

    def begin_evaluation(self, data: EvalImages) -> None:
        """Forgets the last evaluation."""
        from paddle_tk.runtime.detections import DetectionCount

        if data.split is None:
            raise ValueError("a detector is evaluated on a split with boxes")
        self._metric.reset()
        self._count = DetectionCount(self._metric, data.split, self._plan.preprocessing, self._plan.postprocessing)

    def evaluate(self, network: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Counts an evaluation batch and returns its loss."""
        raw = network.raw(images)
        total, _ = self._loss(*raw, labels)
        boxes, scores = (x.cpu().numpy() for x in network.decode(raw))
        for outputs in zip(boxes, scores, strict=True):
            self._count.add(*outputs)
        return float(total)

    def metric(self) -> float:
        """Returns the mean average precision over IoU 0.5 to 0.95, 0 where nothing was found."""
        return self._metric.result().main[self._plan.metric]


def make_task(plan: Plan, network: Any) -> TorchTask:
    """Returns the plan's task."""
    return DetectionTask(plan, network) if plan.kind == "detection" else ClassificationTask(plan)
