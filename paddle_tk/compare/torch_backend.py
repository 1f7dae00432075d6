"""torch's side of a comparison: eager mode, a bare loop, Lightning."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from paddle_tk.compare.backend import RANDOM_LAYERS, HighLevel, Predict, Step
from paddle_tk.compare.inputs import Array, Plan
from paddle_tk.compare.torch_models import build_twin
from paddle_tk.compare.torch_optim import build_torch_optimizer
from paddle_tk.compare.torch_task import make_task
from paddle_tk.compare.weights import load_into, paddle_to_torch
from paddle_tk.errors import ArtifactError, BadInput


class TorchBackend:
    """See ``Backend``.

    Args:
        plan: What is built and trained.
        device: "cpu" or "gpu:N", as Paddle says it.
        threads: CPU threads.

    Raises:
        BadInput: torch has no such device.
    """

    framework = "torch"

    def __init__(self, plan: Plan, device: str, threads: int) -> None:
        self.plan, self.device, self.version = plan, device, str(torch.__version__)
        self.trainer_import_seconds: float | None = None
        if device != "cpu" and not torch.cuda.is_available():
            raise BadInput(f"this torch finds no GPU, {device} was asked for", "use trainer.accelerator=cpu")
        self._device = torch.device(device.replace("gpu", "cuda"))
        torch.set_num_threads(threads)
        torch.manual_seed(plan.seed)

    def predictor(self, weights: Path) -> Predict:
        """See ``Backend``."""
        return self._predict(self.network(weights).eval())

    def compiled(self, weights: Path, images: Array) -> tuple[str, Predict]:
        """See ``Backend``."""
        network = self.network(weights).eval()
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of tracing
            traced = torch.jit.freeze(torch.jit.trace(network, self._tensor(images)))
        return "torch.jit.trace, frozen", self._predict(traced)

    def bare_step(self, weights: Path, *, random_layers: bool = True, double: bool = False) -> Step:
        """See ``Backend``."""
        network, settings = self.network(weights), self.plan.optimizer
        if double:
            network, settings = _in_double(network), _as_paddle_holds(settings)
        network.train()
        if not random_layers:
            for module in network.modules():
                if type(module).__name__ in RANDOM_LAYERS:
                    module.eval()
        task, kind = make_task(self.plan, network), np.float64 if double else np.float32
        optimizer, schedule = build_torch_optimizer(network, settings, self.plan.schedule)
        clip = settings["clip_norm"]

        def step(images: Array, labels: Array) -> float:
            loss, _ = task.loss(network, self._tensor(images.astype(kind, copy=False)), self._tensor(labels))
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                clip_gradients(network, clip)
            optimizer.step()
            schedule.step()
            return float(loss.detach())

        return step

    def high_level(self, weights: Path) -> HighLevel:
        """See ``Backend``."""
        if self.trainer_import_seconds is None:
            began = time.perf_counter()
            try:
                import pytorch_lightning  # noqa: F401
            except ImportError as error:
                raise BadInput(
                    f"pytorch-lightning cannot be imported: {error}", "pip install pytorch-lightning"
                ) from error
            self.trainer_import_seconds = time.perf_counter() - began
        from paddle_tk.compare.lightning_fit import LightningFit

        arrays = _read(weights)
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        return LightningFit(self.plan, self._built(arrays), self.device, shapes)

    def network(self, weights: Path) -> Any:
        """Returns the twin with weights of Paddle's names, on the device, in training mode.

        Raises:
            ArtifactError: They cannot be read or do not fit.
        """
        return self._built(_read(weights))

    def _built(self, arrays: Mapping[str, Array]) -> Any:
        model = self.plan.model
        network = build_twin(
            model["name"],
            num_classes=model["num_classes"],
            stem=model["stem"] or "imagenet",
            dropout=model["dropout"],
            activation=model["activation"],
        )
        load_into(network, paddle_to_torch(arrays, network))
        return network.to(self._device)

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)

    def _predict(self, network: Any) -> Predict:
        def predict(images: Array) -> tuple[Array, ...]:
            with torch.inference_mode():
                outputs = network(self._tensor(images))
            return tuple(x.cpu().numpy() for x in (outputs if isinstance(outputs, list | tuple) else [outputs]))

        return predict


def clip_gradients(network: Any, limit: float) -> None:
    """Bounds the norm of all gradients together by Paddle's formula; torch's own adds 1e-6 to the norm."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    share = limit / torch.clamp(norm, min=limit)
    for gradient in gradients:
        gradient.mul_(share)


def _in_double(network: Any) -> Any:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = _as_float32(module.eps)
    return network.double()


def _as_paddle_holds(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's constants as Paddle's kernels get them, which matters where they compute in float64.

    Momentum takes them in float32, where 0.9 is 0.89999998; AdamW takes its own, and both take the rate, as they are.
    """
    rounded = ("momentum", "weight_decay") if settings["name"] == "sgd" else ()
    return {k: _as_float32(v) if k in rounded else v for k, v in settings.items()}


def _as_float32(value: float) -> float:
    return float(np.float32(value))


def _read(weights: Path) -> dict[str, Array]:
    try:
        return dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{weights} cannot be read: {error}", "give a .safetensors file") from error
