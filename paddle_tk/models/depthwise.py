"""Depthwise convolutions that train on a CPU, as compiled loops over whole planes.

Paddle's own CPU kernel is about half of a training step of MobileNetV2, EfficientNet or PicoDet, or more. These loops
take a third to a twentieth of its time (benchmarks/depthwise.py measures it), for any kernel, stride, dilation and zero
padding. The parameters, their names and the mathematics are the same; sums are rounded in another order. Two runs give
the same bits, with any number of threads.

Threads are those of the training (``OMP_NUM_THREADS``), started by this module instead of by numba: numba would take
TBB, GNU's OpenMP or a pool of its own, whichever can be loaded, of which the second fights with the OpenMP of Paddle
for the cores and the third must not be used from two threads at once.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from paddle_tk.environment.threads import OMP
from paddle_tk.errors import BadInput

if TYPE_CHECKING:
    from paddle_tk.models.depthwise_kernels import Floats, Layout, Shape, Taps

# Values that are laid out together in one pass: small maps of several images, so that loops are long.
_PASS = 8192
# Multiplications (and about as costly copies) that every thread must have to itself, about 0.2 ms: a thread that other
# work keeps from its core makes short ones longer.
_WORTH_A_THREAD = 5_000_000
# Shares of the channels for each thread: another process may hold up one of them.
_SHARES = 4


def use_fast_depthwise(network: paddle.nn.Layer, required: bool = False, dry: bool = False) -> int:
    """Lets a network's depthwise convolutions compute by compiled loops while it trains on a CPU in float32.

    Evaluation, other types, other places and traced graphs keep Paddle's kernel, so that figures and exported files are
    those of the network that is shipped. Convolutions with "SAME" or other than zero padding, channels in the last axis
    or groups of several channels are left alone. The first call on a machine compiles for some seconds, later ones load
    the code from disk. Gradients of gradients are not supported.

    Args:
        network: Changed in place; a second call changes nothing.
        required: Whether it is an error that the loops cannot be had; otherwise a warning says so.
        dry: Write a pattern instead of computing, which allocates the same and compiles nothing: for the memory model.

    Returns:
        How many layers can take the faster way: 0 where there is no depthwise convolution or numba cannot compile.

    Raises:
        BadInput: ``required``, and numba is missing or cannot compile.
    """
    layers = [layer for layer in network.sublayers(include_self=True) if _fits(layer)]
    if not layers:
        return 0
    try:
        if not dry:
            _kernels()
    except Exception as error:  # numba's own kinds cannot be named where it is missing
        problem = f"depthwise convolutions cannot be compiled: {type(error).__name__}: {_first_line(error)}"
        if required:
            raise BadInput(problem, "install numba ('pip install numba'), or set trainer.fast_depthwise=auto") from None
        warnings.warn(f"{problem}; Paddle's kernel trains them, which is much slower", stacklevel=2)
        return 0
    for layer in layers:
        if not isinstance(layer.forward, _Forward):
            layer.forward = _Forward(layer, dry)
    return len(layers)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


@lru_cache(maxsize=1)
def _kernels() -> ModuleType:
    """Returns the compiled functions, after a first call of each; numba is imported only here."""
    kernels = importlib.import_module("paddle_tk.models.depthwise_kernels")
    plan = _plan(_Geometry((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), 1, 4, 4)
    sizes, x, w = plan.shape(1, 1), np.ones(16, np.float32), np.ones(9, np.float32)
    kernels.forward(x, w, np.empty_like(x), plan.taps, sizes, plan.layout, 0, 1)
    kernels.backward(x, w, x, np.empty_like(x), np.empty_like(w), plan.taps, sizes, plan.layout, (True, True), 0, 1)
    return kernels


def _fits(layer: Any) -> bool:
    if type(layer) is not paddle.nn.Conv2D or layer._groups != layer._in_channels or layer._groups == 1:
        return False
    found = (layer._padding_mode, layer._data_format, layer._padding_algorithm)
    return found in (("zeros", "NCHW", "EXPLICIT"), ("zeros", "NCHW", "VALID"))


@dataclass(frozen=True)
class _Geometry:
    """A convolution without its sizes: pairs are (down, across), the padding is (top, bottom, left, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]

    @classmethod
    def of(cls, layer: Any) -> _Geometry:
        p = [int(value) for value in layer._updated_padding]
        padding = (p[0], p[1], p[2], p[3]) if len(p) == 4 else (p[0], p[0], p[1], p[1])
        return cls(_pair(layer._kernel_size), _pair(layer._stride), _pair(layer._dilation), padding)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        top, bottom, left, right = self.padding
        down, across = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        rows, columns = height + top + bottom - down, width + left + right - across
        return rows // self.stride[0] + 1, columns // self.stride[1] + 1


def _pair(values: Any) -> tuple[int, int]:
    return int(values[0]), int(values[1])


@dataclass(frozen=True)
class _Axis:
    """One axis of the flat layout: a tap lies in phase ``phases[tap]``, ``shifts[tap]`` positions further on."""

    phases: list[int]
    shifts: list[int]
    pitch: int


def _axis(size: int, out: int, kernel: int, stride: int, dilation: int, before: int) -> _Axis:
    """Returns the least pitch (distance of rows, or of images) at which no tap reaches another row's values.

    The padding behind a row is the one before the next: output ``out - 1`` with the furthest shift of a phase may reach
    into the next row up to its first value, and turned round the first value of a row back to the last output.
    """
    phases = [tap * dilation % stride for tap in range(kernel)]
    shifts = [tap * dilation // stride for tap in range(kernel)]
    pitch = out
    for phase in range(stride):
        places = [(before + i) // stride for i in range(size) if (before + i) % stride == phase]
        if places:
            reach = max((s for s, p in zip(shifts, phases, strict=True) if p == phase), default=0)
            pitch = max(pitch, places[-1] + 1, out + reach - places[0])
    return _Axis(phases, shifts, pitch)


@dataclass(frozen=True)
class _Plan:
    """The flat layout of a convolution of one size."""

    batch: int
    size: tuple[int, int]
    output_size: tuple[int, int]
    taps: Taps
    layout: Layout

    def shape(self, channels: int, many: int) -> Shape:
        return (self.batch, channels, *self.size, many, *self.output_size)

    def work(self, channels: int, many: int) -> int:
        """Returns about how many multiplications the output takes; copying a value costs four."""
        columns, rows, _, down, across = self.layout[:5]
        return self.batch * channels * many * rows * columns * (len(self.taps[0]) + 4 * (down * across + 1))


@lru_cache(maxsize=512)
def _plan(geometry: _Geometry, batch: int, height: int, width: int) -> _Plan:
    out, (down, across), (top, _, left, _) = geometry.output_size(height, width), geometry.stride, geometry.padding
    rows = _axis(height, out[0], geometry.kernel[0], down, geometry.dilation[0], top)
    columns = _axis(width, out[1], geometry.kernel[1], across, geometry.dilation[1], left)
    group = max(1, min(batch, _PASS // (rows.pitch * columns.pitch)))
    reach = rows.shifts[-1] * columns.pitch + columns.shifts[-1]
    length = group * rows.pitch * columns.pitch + reach
    sheets = np.add.outer(np.array(rows.phases, np.int64) * across, columns.phases).ravel()
    shifts = np.add.outer(np.array(rows.shifts, np.int64) * columns.pitch, columns.shifts).ravel()
    order = np.argsort(sheets, kind="stable")
    starts = np.searchsorted(sheets[order], np.arange(down * across + 1))
    taps = (sheets * length + shifts, (reach - shifts)[order], order, starts)
    layout = (columns.pitch, rows.pitch, length, down, across, top, left, reach, group)
    return _Plan(batch, (height, width), out, taps, layout)


class _Memory:
    """A tensor's values as a flat array without a copy; the array keeps the tensor."""

    def __init__(self, tensor: paddle.Tensor) -> None:
        self.tensor = tensor if tensor.is_contiguous() else tensor.contiguous()
        address, size = self.tensor.data_ptr(), math.prod(tensor.shape)
        self.__array_interface__ = {"version": 3, "typestr": "<f4", "shape": (size,), "data": (address, False)}


def _flat(tensor: paddle.Tensor | None) -> Floats:
    return np.empty(0, np.float32) if tensor is None else np.asarray(_Memory(tensor))


class _Depthwise(paddle.autograd.PyLayer):
    """Output (N, C * M, Ho, Wo) of an input (N, C, H, W) and a weight (C * M, 1, kh, kw)."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, plan: _Plan, dry: bool) -> paddle.Tensor:
        channels, many = x.shape[1], weight.shape[0] // x.shape[1]
        y = paddle.empty([plan.batch, weight.shape[0], *plan.output_size], dtype="float32")
        arguments = (_flat(x), _flat(weight), _flat(y), plan.taps, plan.shape(channels, many), plan.layout)
        if dry:
            arguments[2][:] = np.cos(np.arange(arguments[2].size))  # norms behind it want a variance
        else:
            _share_out(partial(_kernels().forward, *arguments), channels, plan.work(channels, many))
        ctx.save_for_backward(x, weight)
        ctx.plan, ctx.dry, ctx.wanted = plan, dry, (not x.stop_gradient, not weight.stop_gradient)
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        (x, weight), plan = ctx.saved_tensor(), ctx.plan
        channels, many = x.shape[1], weight.shape[0] // x.shape[1]
        dx = paddle.empty(x.shape, dtype="float32") if ctx.wanted[0] else None
        dw = paddle.empty(weight.shape, dtype="float32") if ctx.wanted[1] else None
        arrays = (_flat(x), _flat(weight), _flat(dy), _flat(dx), _flat(dw))
        arguments = (*arrays, plan.taps, plan.shape(channels, many), plan.layout, ctx.wanted)
        if ctx.dry:
            for array in arrays[3:]:
                array.fill(0)
            return dx, dw
        _share_out(partial(_kernels().backward, *arguments), channels, sum(ctx.wanted) * plan.work(channels, many))
        return dx, dw


class _Forward:
    """The forward of one layer: compiled while it trains on a CPU in float32, Paddle's kernel elsewhere."""

    def __init__(self, layer: Any, dry: bool) -> None:
        self.layer, self.plain, self.dry = layer, layer.forward, dry
        self.geometry = _Geometry.of(layer)

    def __call__(self, x: paddle.Tensor) -> paddle.Tensor:
        layer = self.layer
        if not layer.training or not paddle.in_dynamic_mode() or not self._takes(x):
            return self.plain(x)
        batch, _, height, width = x.shape
        if min(batch, *self.geometry.output_size(height, width)) < 1:
            return self.plain(x)
        y = _Depthwise.apply(x, layer.weight, _plan(self.geometry, batch, height, width), self.dry)
        return y if layer.bias is None else y + layer.bias.reshape([1, -1, 1, 1])

    def _takes(self, x: paddle.Tensor) -> bool:
        tensors = (x, self.layer.weight)
        if any(t.dtype != paddle.float32 or not t.place.is_cpu_place() for t in tensors):
            return False
        # New tensors are made on the current device.
        return bool(x.ndim == 4 and x.shape[1] == self.layer._in_channels and paddle.get_device() == "cpu")


def _share_out(job: Callable[[int, int], None], channels: int, work: int) -> None:
    """Calls ``job(first, last)`` for all channels, in several threads where there is enough work for them."""
    threads = min(_threads(), channels, work // _WORTH_A_THREAD)
    if threads < 2:
        job(0, channels)
        return
    shares = min(channels, threads * _SHARES)
    turns = itertools.count()

    def take_turns() -> None:
        while (turn := next(turns)) < shares:
            job(turn * channels // shares, (turn + 1) * channels // shares)

    helpers = [_pool(_threads()).submit(take_turns) for _ in range(threads - 1)]
    take_turns()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()


def _threads() -> int:
    """Returns the threads Paddle computes with: one unless the environment says otherwise."""
    first = os.environ.get(OMP, "").split(",")[0].strip()
    return int(first) if first.isdigit() else 1


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="depthwise")


# Threads do not survive a fork: a child that trains starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
