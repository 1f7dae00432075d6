"""Paddle's side of a comparison: dygraph, the toolkit's kernels, ``FitModel.fit``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.compare.backend import RANDOM_LAYERS, HighLevel, Predict, Step
from paddle_tk.compare.inputs import Array, Plan
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.losses import ClassificationLoss
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.models.weights import apply_weights, read_weights, to_array
from paddle_tk.training.optim import build_optimizer
from paddle_tk.training.schedule import learning_rate_factor


class PaddleBackend:
    """See ``Backend``.

    Args:
        plan: What is built and trained.
        device: "cpu" or "gpu:N".

    Raises:
        BadInput: Paddle has no such device.
    """

    framework = "paddle"

    def __init__(self, plan: Plan, device: str) -> None:
        self.plan, self.device, self.version = plan, device, str(paddle.__version__)
        self.trainer_import_seconds: float | None = None
        if device != "cpu" and not paddle.is_compiled_with_cuda():
            raise BadInput(f"this Paddle was built without CUDA, {device} was asked for", "use trainer.accelerator=cpu")
        paddle.set_device(device)
        paddle.seed(plan.seed)

    def predictor(self, weights: Path) -> Predict:
        """See ``Backend``."""
        network = self._network(weights)
        network.eval()
        return _predict(network)

    def compiled(self, weights: Path, images: Array) -> tuple[str, Predict]:
        """See ``Backend``."""
        network = self._network(weights)
        network.eval()
        spec = [paddle.static.InputSpec(list(images.shape), "float32", "image")]
        return "paddle.jit.to_static", _predict(paddle.jit.to_static(network, input_spec=spec, full_graph=True))

    def bare_step(self, weights: Path, *, random_layers: bool = True, double: bool = False) -> Step:
        """See ``Backend``."""
        kind = "float64" if double else "float32"
        with _default_dtype(kind):
            network = self._network(weights) if double else self._training_network(weights)
            optimizer, loss_of = self._optimizer(network), _loss(self.plan, network)
        network.train()
        if not random_layers:
            for layer in network.sublayers():
                if type(layer).__name__ in RANDOM_LAYERS:
                    layer.eval()

        def step(images: Array, labels: Array) -> float:
            # The optimizer makes its state, and the schedule its rate, in the default type.
            with _default_dtype(kind):
                loss = loss_of(paddle.to_tensor(images.astype(kind, copy=False)), paddle.to_tensor(labels))
                loss.backward()
                optimizer.step()
                optimizer.clear_grad(set_to_zero=False)
                optimizer._learning_rate.step()
                return float(loss)

        return step

    def high_level(self, weights: Path) -> HighLevel:
        """See ``Backend``."""
        began = time.perf_counter()
        from paddle_tk.compare.paddle_fit import PaddleFit, step_class

        step_class(self.plan.kind)
        if self.trainer_import_seconds is None:
            self.trainer_import_seconds = time.perf_counter() - began
        network = self._training_network(weights)
        return PaddleFit(self.plan, network, self._optimizer(network), self.device)

    def _network(self, weights: Path) -> Any:
        model = self.plan.model
        size = (model["image_size"][0], model["image_size"][1])
        shared: dict[str, Any] = {"num_classes": model["num_classes"], "image_size": size}
        if self.plan.kind == "detection":
            network = build_detector(model["name"], activation=model["activation"], **shared)
        else:
            network = build_classifier(model["name"], stem=model["stem"], dropout=model["dropout"], **shared)
        report = apply_weights(network, read_weights(weights), source=str(weights))
        if not report.complete or report.unexpected:
            raise ArtifactError(
                f"{weights} does not fit the plan's network: {'; '.join(report.lines()[1:])}",
                "give weights that were trained with this plan",
            )
        return network

    def _training_network(self, weights: Path) -> Any:
        """A network with the kernels that a user gets who trains with this toolkit."""
        network, kernels = self._network(weights), self.plan.kernels
        if self.device != "cpu":
            return network
        if kernels["fast_conv"]:
            use_small_map_conv(network)
        if kernels["fast_depthwise"] is not False:
            from paddle_tk.models.depthwise import use_fast_depthwise  # loads a compiler

            use_fast_depthwise(network, required=kernels["fast_depthwise"] is True)
        return network

    def _optimizer(self, network: Any) -> Any:
        factor = learning_rate_factor(**self.plan.schedule)
        own = dict(self.plan.optimizer)
        return build_optimizer(own.pop("name"), network, factor=factor, **own)


@contextmanager
def _default_dtype(name: str) -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(name)
    try:
        yield
    finally:
        paddle.set_default_dtype(before)


def _loss(plan: Plan, network: Any) -> Callable[[Any, Any], Any]:
    if plan.kind == "detection":
        detector_loss = network.make_loss()
        return lambda images, targets: detector_loss(*network(images), targets)[0]
    loss = ClassificationLoss(plan.label_smoothing)
    return lambda images, labels: loss(network(images), labels)


def _predict(network: Any) -> Predict:
    def predict(images: Array) -> tuple[Array, ...]:
        with paddle.no_grad():
            outputs = network(paddle.to_tensor(images))
        return tuple(to_array(x) for x in (outputs if isinstance(outputs, list | tuple) else [outputs]))

    return predict
