"""Arithmetic of a training: fp32, bf16 or fp16, at AMP level O1 (per operator) or O2 (whole network)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import paddle

from paddle_tk.errors import BadInput

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


class Precision:
    """Autocast and, for fp16, loss scaling; the scaler's state survives a resume.

    Args:
        name: "fp32", "bf16" or "fp16".
        level: "O1" or "O2"; without meaning for fp32.
        device: "cpu" or "gpu:N".

    Attributes:
        note: What the user should know when the arithmetic is not what was asked for; empty otherwise.

    Raises:
        BadInput: fp16 on a CPU, which Paddle has no kernels for.
    """

    def __init__(self, name: str, level: str, device: str) -> None:
        if name == "fp16" and not device.startswith("gpu"):
            raise BadInput(
                "trainer.precision=fp16 needs a GPU, this run uses the CPU",
                "use trainer.precision=bf16 or fp32",
            )
        self.note = ""
        if name == "bf16" and not device.startswith("gpu"):
            # Paddle 3.3's autocast and decorate return unchanged on a CPU (python/paddle/amp/auto_cast.py).
            self.note = "trainer.precision=bf16 has no effect on a CPU in Paddle 3.3: computing in fp32"
            name = "fp32"
        self.name, self.level = name, level
        # bfloat16 has float32's range and needs no scaling.
        self.scaler = paddle.amp.GradScaler(init_loss_scaling=2.0**15) if name == "fp16" else None

    @property
    def low(self) -> bool:
        """Whether anything runs below float32."""
        return self.name != "fp32"

    def decorate(
        self, network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer
    ) -> tuple[paddle.nn.Layer, paddle.optimizer.Optimizer]:
        """Casts the network for O2, with float32 master weights in the optimizer; otherwise changes nothing."""
        if not self.low or self.level != "O2":
            return network, optimizer
        cast: tuple[paddle.nn.Layer, paddle.optimizer.Optimizer] = paddle.amp.decorate(
            models=network, optimizers=optimizer, level="O2", dtype=_DTYPES[self.name], master_weight=True
        )
        return cast

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context for a forward pass, in training and in evaluation."""
        if not self.low:
            return nullcontext()
        context: AbstractContextManager[Any] = paddle.amp.auto_cast(
            enable=True, level=self.level, dtype=_DTYPES[self.name]
        )
        return context

    def backward(self, loss: paddle.Tensor) -> None:
        """Back-propagates, scaled where there is a scaler."""
        (self.scaler.scale(loss) if self.scaler is not None else loss).backward()

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Applies the gradients; a scaled step with infinities is skipped and lowers the scale."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Returns the scaler's state as plain JSON types; empty without one."""
        raw = self.scaler.state_dict() if self.scaler is not None else {}
        return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in raw.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved scaler state."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(state))
