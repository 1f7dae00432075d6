"""Records what a training step or an inference of a torch twin allocates, by torch's profiler, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from paddle_tk.compare.torch_backend import clip_gradients
from paddle_tk.compare.torch_models import build_twin
from paddle_tk.compare.torch_optim import build_torch_optimizer
from paddle_tk.hardware.allocations import Trace
from paddle_tk.hardware.events import Event, make_trace, without_workspaces
from paddle_tk.hardware.gpu_rules import State

_STEP, _FORWARD = "paddle_tk.step", "paddle_tk.forward"
_RATE, _SMOOTHING, _CLIP = 1e-6, 0.1, 1.0  # whether they are set matters, not how
_SCHEDULE = {"schedule": "constant", "updates_per_epoch": 1, "max_epochs": 1}
LABEL_BYTES, BOX_BYTES, PIXEL_BYTES = 8, 5 * 4, 3 * 4


class TorchSubject:
    """A twin with all that its training keeps between steps.

    Args:
        name: Of the twin.
        num_classes: Of the network.
        detects: Whether it is a detector.
        stem: Of a classifier, "imagenet" or "small".
        activation: Of a detector.
        dropout: Of a classifier.
        boxes: In every image of a detector's batch.
        optimizer: "sgd", "adam" or "adamw".
        momentum: Of "sgd".
        weight_decay: Of the optimizer.
        clip: Whether gradients are clipped.
        accumulate: Whether an update takes several steps.
        label_smoothing: Whether targets are smoothed.
        inference: A forward pass without gradients instead.

    Raises:
        BadInput: There is no such twin.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int,
        detects: bool,
        stem: str = "imagenet",
        activation: str | None = None,
        dropout: float | None = None,
        boxes: int = 20,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        clip: bool = False,
        accumulate: bool = False,
        label_smoothing: bool = False,
        inference: bool = False,
    ) -> None:
        torch.manual_seed(0)
        self.detects, self.boxes, self.classes, self.inference = detects, boxes, num_classes, inference
        self.network = build_twin(
            name, num_classes=num_classes, stem=stem, activation=activation, dropout=dropout
        ).train(not inference)  # fmt: skip
        self._clip, self._accumulate = clip, accumulate
        settings = {
            "name": optimizer, "learning_rate": _RATE, "momentum": momentum, "nesterov": False, "beta1": 0.9,
            "beta2": 0.999, "weight_decay": weight_decay,
        }  # fmt: skip
        self.optimizer, _ = build_torch_optimizer(self.network, settings, _SCHEDULE)
        smoothing = _SMOOTHING if label_smoothing else 0.0
        self._loss: Any = self.network.make_loss() if detects else torch.nn.CrossEntropyLoss(label_smoothing=smoothing)

    def input_bytes(self, size: tuple[int, int]) -> int:
        """Returns the bytes of an image and its labels."""
        labels = 0 if self.inference else self.boxes * BOX_BYTES if self.detects else LABEL_BYTES
        return size[0] * size[1] * PIXEL_BYTES + labels

    def traces(self, runs: Sequence[tuple[int, tuple[int, int]]]) -> list[Trace]:
        """Returns recorded steps, one for each (batch, size), without the buffers of convolutions."""
        return [without_workspaces(self.trace(batch, size), "conv") for batch, size in runs]

    def state(self) -> State:
        """Returns the bytes that stay between steps."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        state = [v for held in self.optimizer.state.values() for v in held.values() if isinstance(v, torch.Tensor)]
        return State(
            parameters=float(_bytes(self.network.state_dict().values())),
            gradients=0.0 if self.inference else float(_bytes(parameters)),
            matrices=float(_bytes(p for p in parameters if p.ndim > 1)),
            optimizer=float(_bytes(state)),
            averages=0.0,
        )

    def _batch(self, count: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.normal(size=(count, 3, *size)).astype(np.float32))
        if not self.detects:
            return images, torch.from_numpy(rng.integers(0, self.classes, count))
        low, side = rng.uniform(0.0, 0.6, (count, self.boxes, 2)), rng.uniform(0.1, 0.4, (count, self.boxes, 2))
        sides, ids = np.array([size[1], size[0]]), rng.integers(0, self.classes, (count, self.boxes, 1))
        rows = np.concatenate([ids, low * sides, (low + side) * sides], axis=2)
        return images, torch.from_numpy(rows.astype(np.float32))

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
        def train() -> None:
            # As in ``compare.torch_backend``: the last step's gradients live until the loss is known.
            with record_function(_FORWARD):
                loss = self._forward(images, labels)
            if not self._accumulate:
                self.optimizer.zero_grad()
            loss.backward()
            if self._clip:
                clip_gradients(self.network, _CLIP)
            self.optimizer.step()

        def infer() -> None:
            with torch.inference_mode(), record_function(_FORWARD):
                self.network(images)

        return infer if self.inference else train

    def _forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = self.network(images)
        loss: torch.Tensor = self._loss(*outputs, labels)[0] if self.detects else self._loss(outputs, labels)
        return loss

    def trace(self, batch: int, size: tuple[int, int]) -> Trace:
        """Returns a recorded step."""
        step = self._step(*self._batch(batch, size))
        if not self.inference and not self.optimizer.state:
            step()
        resident = int(self.state().resident)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            for _ in range(2):  # the first one makes the gradients that the second one finds
                with record_function(_STEP):
                    step()
        return _read(seen, batch, size, resident, batch * self.input_bytes(size))


def _bytes(tensors: Any) -> int:
    return sum(int(tensor.numel()) * int(tensor.element_size()) for tensor in tensors)


def _read(seen: Any, batch: int, size: tuple[int, int], resident: int, inputs: int) -> Trace:
    """Returns the second of two recorded steps."""
    roots = seen.profiler.kineto_results.experimental_event_tree()
    begin = sorted(node.start_time_ns for node in _nodes(roots) if node.name == _STEP)[1]
    forward_end = max(node.end_time_ns for node in _nodes(roots) if node.name == _FORWARD)
    events = sorted(_events(roots), key=lambda event: event.nanoseconds)
    left: dict[int, int] = {}  # by the first step: address -> bytes
    for event in events:
        if event.nanoseconds < begin and event.change > 0:
            left[event.address] = event.change
        elif event.nanoseconds < begin:
            left.pop(event.address, None)
    return make_trace(
        [event for event in events if event.nanoseconds >= begin],
        forward_end=forward_end,
        batch=batch,
        size=size,
        before=resident + sum(left.values()),
        inputs=inputs,
    )


def _nodes(roots: Any) -> Iterator[Any]:
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children)


def _events(roots: Any) -> Iterator[Event]:
    from torch._C._profiler import _EventType

    waiting = [(root, "", 0) for root in roots]
    number = 0
    while waiting:
        node, operator, call = waiting.pop()
        if node.tag == _EventType.Allocation:
            yield Event(node.start_time_ns, node.extra_fields.ptr, node.extra_fields.alloc_size, operator, call)
        elif node.tag == _EventType.TorchOp:
            number += 1
            operator, call = node.name, number
        waiting.extend((child, operator, call) for child in node.children)
