"""The forward of a layer in two passes: the second one, for the gradients, computes the activations again.

Paddle's own ``recompute`` does the two passes and restores random numbers and autocast for the second one. What it
lacks in 3.3 is added around it: the second pass would move batch-norm statistics again, layers that get images alone
(no input needs a gradient) would get no gradients at all, and lists, dicts and None do not pass through it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import paddle
from paddle.distributed.fleet.utils import recompute

T = TypeVar("T")
Template = Any  # a structure in which _Slot stands for a tensor


def once(make: Callable[[], T]) -> T:
    """Calls ``make`` in the first pass of a recomputed layer and returns the same again in the second one.

    For what must not happen twice, such as an exchange between processes. Elsewhere it is ``make()``.
    """
    return _RUNNING.passes[-1].recall(make) if _RUNNING.passes else make()


class TwoPasses:
    """The forward of a layer: in two passes where it trains, the plain one elsewhere.

    Args:
        plain: What it computes; takes and returns tensors, also in lists, tuples and dicts, and anything else.
        layers: Those it computes with; the first one tells whether they train.
    """

    def __init__(self, plain: Callable[..., Any], layers: list[Any]) -> None:
        self.plain, self.layers = plain, layers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what ``plain`` returns."""
        tensors: list[paddle.Tensor] = []
        given = _flatten((args, kwargs), tensors)
        need = [tensor for tensor in tensors if not tensor.stop_gradient]
        if not self._trains() or not (need or self._learns()):
            return self.plain(*args, **kwargs)
        if not need:
            # Paddle gives gradients to the parameters only where an input wants one.
            wanting = paddle.zeros([1])
            wanting.stop_gradient = False
            tensors.append(wanting)
        passes = _Passes(self.plain, self.layers, given)
        outputs = recompute(passes, *tensors)
        return _fill(passes.outputs, outputs)

    def _trains(self) -> bool:
        within_another = bool(_RUNNING.passes)  # which computes this one a second time already
        return bool(
            self.layers[0].training and paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not within_another
        )

    def _learns(self) -> bool:
        return any(not parameter.stop_gradient for layer in self.layers for parameter in layer.parameters())


class _Passes:
    """The two passes of one call, as a function of tensors alone that returns tensors alone.

    Running statistics move in the first pass. The second one starts from copies of what they were before it, which are
    dropped afterwards: fake quantizers compute with theirs.
    """

    def __init__(self, plain: Callable[..., Any], layers: list[Any], given: Template) -> None:
        self.plain, self.layers, self.given = plain, layers, given
        self.outputs: Template = None
        self.before: list[tuple[Any, str, paddle.Tensor]] | None = None
        self.kept: list[Any] = []
        self.turn: int | None = None  # of what was kept, in a second pass

    def __call__(self, *tensors: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        if self.before is None:
            with paddle.no_grad():
                self.before = [(at, name, value.clone()) for at, name, value in _statistics(self.layers)]
            return self._run(tensors)
        self.turn = 0
        with _swapped(self.before):
            return self._run(tensors)

    def _run(self, tensors: Sequence[paddle.Tensor]) -> tuple[paddle.Tensor, ...]:
        args, kwargs = _fill(self.given, tensors)
        _RUNNING.passes.append(self)
        try:
            result = self.plain(*args, **kwargs)
        finally:
            _RUNNING.passes.pop()
        outputs: list[paddle.Tensor] = []
        self.outputs = _flatten(result, outputs)
        inputs = {id(tensor) for tensor in tensors}
        # An output that is an input would be taken for one that is changed in place.
        return tuple(output.clone() if id(output) in inputs else output for output in outputs)

    def recall(self, make: Callable[[], T]) -> T:
        """Returns what ``make`` returned at this place of the first pass."""
        if self.turn is None:
            self.kept.append(make())
            return self.kept[-1]  # type: ignore[no-any-return]
        self.turn += 1
        return self.kept[self.turn - 1]  # type: ignore[no-any-return]


class _Running(threading.local):
    """The passes under way in this thread, innermost last."""

    def __init__(self) -> None:
        self.passes: list[_Passes] = []


_RUNNING = _Running()


def _statistics(layers: list[Any]) -> Iterator[tuple[Any, str, paddle.Tensor]]:
    """Yields what a forward pass may change: the dictionary it lies in, its key, and the tensor.

    Paddle keeps running statistics and scales of fake quantizers as parameters that do not learn. Larger ones are
    frozen weights.
    """
    for part in (sublayer for layer in layers for sublayer in layer.sublayers(include_self=True)):
        yield from ((part._buffers, name, value) for name, value in part._buffers.items() if value is not None)
        for name, value in part._parameters.items():
            if value is not None and value.stop_gradient and value.ndim <= 1:
                yield part._parameters, name, value


@contextmanager
def _swapped(tensors: list[tuple[Any, str, paddle.Tensor]]) -> Iterator[None]:
    """Puts tensors into the dictionaries for the block, and what was there back; nothing is written into either.

    Writing back would change what the graph of the second pass may need for its backward.
    """
    held = [(at, name, at[name]) for at, name, _ in tensors]
    for at, name, value in tensors:
        at[name] = value
    try:
        yield
    finally:
        for at, name, value in held:
            at[name] = value


@dataclass(frozen=True)
class _Slot:
    """The place of a tensor in a structure."""

    at: int


def _flatten(value: Any, tensors: list[paddle.Tensor]) -> Template:
    """Appends a structure's tensors to ``tensors`` and returns the structure with slots in their places."""
    if isinstance(value, paddle.Tensor):
        tensors.append(value)
        return _Slot(len(tensors) - 1)
    return _mapped(value, lambda item: _flatten(item, tensors))


def _fill(template: Template, tensors: Sequence[paddle.Tensor]) -> Any:
    if isinstance(template, _Slot):
        return tensors[template.at]
    return _mapped(template, lambda item: _fill(item, tensors))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(change(item) for item in value)
    return value
