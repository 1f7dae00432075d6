"""From what a step allocates on a CPU to what it would allocate on a GPU, by Paddle's rules. Nothing of it is measured.

Convolutions lose the columns that the CPU kernel unfolds (cuDNN's workspace is counted apart), and in automatic mixed
precision what each image takes shrinks to two bytes a number where Paddle computes so. The lists of operators are
Paddle's own (torch's autocast has about the same); operators on neither list follow their inputs, which are taken as
low.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paddle_tk.hardware.allocations import Lines, Trace

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_DTYPE = {"bf16": "bfloat16", "fp16": "float16"}
_HALF = 0.5
_OLD_NAMES = {"sum": "reduce_sum", "cross_entropy_with_softmax": "softmax_with_cross_entropy"}
_OLD_NAMES |= {f"{kind}_interp": f"{kind}_interp_v2" for kind in ("linear", "nearest", "bilinear", "bicubic")}


NOTE = (
    "estimated for a GPU from the tensors of a CPU step and the framework's rules; the CUDA context and the largest "
    "cuDNN workspace are cited and counted apart"
)


@dataclass(frozen=True)
class State:
    """Bytes of what a training holds between steps, gradients in a step.

    Attributes:
        parameters: With batch-norm statistics.
        gradients: Of all trained parameters.
        matrices: Of the parameters, the trained ones of more than one dimension: kernels and matrices.
        optimizer: The optimizer's state.
        averages: The averaged weights.
    """

    parameters: float
    gradients: float
    matrices: float
    optimizer: float
    averages: float

    @property
    def resident(self) -> float:
        """What stays between steps."""
        return self.parameters + self.optimizer + self.averages


def low_state(state: State, precision: str, level: str) -> tuple[State, float]:
    """Returns the state in mixed precision, and the bytes of weights that are cast for a step.

    O1 keeps float32 weights and casts them for every pass. O2 holds 16-bit weights and gradients, batch norm apart, and
    float32 master weights in the optimizer.
    """
    if precision == "fp32":
        return state, 0.0
    half = state.matrices * _HALF
    if level == "O1":
        return state, half
    low = replace(
        state,
        parameters=state.parameters - half,
        gradients=state.gradients - half,
        optimizer=state.optimizer + state.matrices,
    )
    return low, 0.0


def on_gpu(trace: Trace, sizes: Lines, precision: str, level: str) -> Lines:
    """Returns what the allocations would take on a GPU.

    Args:
        trace: Recorded on a CPU, with Paddle's own kernels, in float32.
        sizes: Of its allocations.
        precision: Of the training.
        level: Of the mixed precision; without meaning for fp32.
    """
    factors = np.array(_without_columns(trace))
    each = factors.copy()
    if precision != "fp32":
        each *= _low_factors(trace.operators, precision, level)
    return Lines(sizes.fixed * factors, sizes.each * each)


def _without_columns(trace: Trace) -> list[float]:
    pairs = zip(trace.operators, trace.passing, strict=True)
    return [0.0 if passing and _base(operator) in _CONVOLUTIONS else 1.0 for operator, passing in pairs]


def _base(operator: str) -> str:
    """Returns an operator's name without what marks its gradient, in Paddle's spelling where it is torch's."""
    name = operator.removeprefix("aten::").removeprefix("_")
    return re.sub(r"((_(double|triple))?_grad|_forward|_backward(_data)?)$", "", name)


def _low_factors(operators: Sequence[str], precision: str, level: str) -> np.ndarray:
    from paddle.amp.amp_lists import black_list

    full = black_list()[_DTYPE[precision]][level]
    names = [_base(operator) for operator in operators]
    stays = [name in full or _OLD_NAMES.get(name, name) in full for name in names]
    return np.where(stays, 1.0, _HALF)
