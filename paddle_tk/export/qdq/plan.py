"""Which nodes of a float graph compute in integers, and which tensors are rounded for that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paddle_tk.export.qdq.view import GraphView

Target = Literal["x86", "arm", "tensorrt"]
TARGETS: tuple[Target, ...] = ("x86", "arm", "tensorrt")
# Integer kernels of ONNX Runtime besides those with weights.
_ARITHMETIC = frozenset({"Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid"})
_POOLED = frozenset({"GlobalAveragePool", "AveragePool"})


@dataclass(frozen=True)
class Plan:
    """What becomes integer.

    Attributes:
        target: Whose rules were followed.
        weighted: Names of the nodes whose weights become int8.
        arithmetic: Names of the other nodes that compute in integers.
        tensors: Activation tensors that are rounded, in the graph's order.
        scaled_as: For each of them the tensor whose scale it has: itself, or what it only moves.
        made: Those of the tensors that an integer node makes.
        factors: Names of multiplications by a number that become a change of scale, and the number.
        skipped: Names of nodes that keep computing in float although their kind could be integer, and why.
    """

    target: Target
    weighted: tuple[str, ...]
    arithmetic: tuple[str, ...]
    tensors: tuple[str, ...]
    scaled_as: Mapping[str, str]
    made: frozenset[str]
    factors: Mapping[str, float]
    skipped: Mapping[str, str]

    @property
    def ranges(self) -> tuple[str, ...]:
        """Names of the tensors whose range must be known, in the graph's order."""
        return tuple(dict.fromkeys(self.scaled_as[name] for name in self.tensors))


def make_plan(view: GraphView, target: Target, skip: Mapping[str, str] | None = None) -> Plan:
    """Chooses the integer nodes.

    Args:
        view: The float graph, batch norms folded.
        target: "x86" and "arm": every node between two integer nodes for which ONNX Runtime has an integer kernel;
            "tensorrt": convolutions and products, whose inputs, and the skip input of residual additions, are rounded.
        skip: Names of nodes that stay in float, and why.

    Returns:
        The plan; ``skipped`` holds those of ``skip`` and what cannot be integer.
    """
    skipped = {name: why for name, why in (skip or {}).items() if name in view.by_name}
    weighted = []
    for node in view.nodes:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and node.name not in skipped:
            reason = _unfit(view, node, target)
            if reason is None:
                weighted.append(node.name)
            else:
                skipped[node.name] = reason
    chooser = _TensorRTChooser if target == "tensorrt" else _CpuChooser
    return chooser(view, weighted, skipped).plan(target)


def _unfit(view: GraphView, node: Any, target: Target) -> str | None:
    if node.op_type == "ConvTranspose":
        return "ONNX Runtime has no integer kernel for transposed convolutions"
    if not view.is_weighted(node):
        return "a product of two activations, whose rounding costs more accuracy than it saves time"
    maker = view.producer(view.origin(node.input[0]))
    if maker is not None and maker.op_type == "Softmax":
        return "an expectation over a Softmax, whose small probabilities 8 bits do not tell apart"
    if node.op_type == "MatMul" and target == "tensorrt":
        return "its weight's output channels are not on axis 0"
    return None


class _Chooser:
    """What both targets' choices share."""

    def __init__(self, view: GraphView, weighted: Collection[str], skipped: dict[str, str]) -> None:
        self.view, self.skipped = view, skipped
        self.weighted = dict.fromkeys(weighted)
        self.integer = set(weighted)
        self.rounded: dict[str, str] = {}

    def finish(self, target: Target) -> Plan:
        order = {name: i for i, name in enumerate([*self.view.inputs, *(t for n in self.view.nodes for t in n.output)])}
        return Plan(
            target=target,
            weighted=tuple(self.weighted),
            arithmetic=tuple(n.name for n in self.view.nodes if n.name in self.integer and n.name not in self.weighted),
            tensors=tuple(sorted(self.rounded, key=order.__getitem__)),
            scaled_as=self.rounded,
            made=frozenset(self.result(self.view.by_name[name]) for name in self.integer),
            factors=self.factors(),
            skipped=self.skipped,
        )

    def result(self, node: Any) -> str:
        """Returns the tensor that a node makes, its Relu or Clip included."""
        after = self.view.absorbed(node)
        return str((after or node).output[0])

    def factors(self) -> dict[str, float]:
        return {}


class _CpuChooser(_Chooser):
    """Integer kernels wherever ONNX Runtime has them between other integer kernels."""

    def result(self, node: Any) -> str:
        """Returns the tensor that a node makes, its Relu or Clip and a multiplication by a number included."""
        made = super().result(node)
        scaled = self.view.rescaled(made)
        return str(scaled[0].output[0]) if scaled is not None else made

    def factors(self) -> dict[str, float]:
        found = (self.view.rescaled(super(_CpuChooser, self).result(self.view.by_name[name])) for name in self.integer)
        return {entry[0].name: entry[1] for entry in found if entry is not None and entry[0].output[0] in self.rounded}

    def plan(self, target: Target) -> Plan:
        self._choose_arithmetic()
        self._before_weights = self._ancestors_of_weights()
        for name in self.integer:
            node = self.view.by_name[name]
            for tensor in self.view.dynamic_inputs(node):
                self._round(tensor)
            if not self._is_last(node):
                self._round(self.result(node))
        return self.finish(target)

    def _choose_arithmetic(self) -> None:
        candidates = {
            n.name
            for n in self.view.nodes
            if n.op_type in _ARITHMETIC and n.name not in self.skipped and self._is_integer_kind(n)
        }
        self.integer |= candidates
        while True:
            made = {self.result(self.view.by_name[name]) for name in self.integer}
            alone = {n for n in candidates if not self._is_fed(self.view.by_name[n], made)}
            alone |= {n for n in candidates if not self._is_read(self.view.by_name[n])}
            if not alone:
                return
            candidates -= alone
            self.integer -= alone

    def _ancestors_of_weights(self) -> set[str]:
        """Returns the names of all nodes that some weighted node comes behind."""
        found: set[str] = set()
        for node in reversed(self.view.nodes):
            readers = [reader for tensor in node.output for reader in self.view.consumers(tensor)]
            if any(self.view.is_weighted(reader) or reader.name in found for reader in readers):
                found.add(node.name)
        return found

    def _is_integer_kind(self, node: Any) -> bool:
        if len(self.view.dynamic_inputs(node)) == len(node.input):
            return True
        # A number is added where a Clip follows: a hard sigmoid.
        number = self.view.scalar_operand(node)
        return node.op_type == "Add" and number is not None and number > 0 and self.view.absorbed(node) is not None

    def _is_fed(self, node: Any, made: set[str]) -> bool:
        """Whether at least one input comes from an integer node."""
        return any(self.view.origin(tensor) in made for tensor in self.view.dynamic_inputs(node))

    def _is_read(self, node: Any) -> bool:
        return any(reader.name in self.integer for reader in self.view.downstream(self.result(node)))

    def _is_last(self, node: Any) -> bool:
        """Whether no other weighted node comes behind a node: what it makes is an answer, which rounding would spoil.

        Its weights are rounded like the others; a convolution is then computed in float, which is cheap where the few
        channels of an answer are made.
        """
        return node.name not in self._before_weights

    def _round(self, tensor: str) -> None:
        origin = self.view.origin(tensor)
        while tensor != origin:
            self.rounded[tensor] = origin
            node = self.view.producer(tensor)
            assert node is not None
            tensor = node.input[0]
        self.rounded[origin] = origin


class _TensorRTChooser(_Chooser):
    """The inputs of convolutions, products and poolings, and one side of a residual addition."""

    def plan(self, target: Target) -> Plan:
        for node in self.view.nodes:
            if node.name in self.weighted or (node.op_type in _POOLED and node.name not in self.skipped):
                self.rounded[node.input[0]] = node.input[0]
                self.integer.add(node.name)
        for node in self.view.nodes:
            side = self._skip_input(node)
            if side is not None and node.name not in self.skipped:
                self.rounded[side] = side
                self.integer.add(node.name)
        return self.finish(target)

    def _skip_input(self, node: Any) -> str | None:
        """Returns the input of a residual addition that did not come straight from the main branch's convolution."""
        if node.op_type != "Add" or len(self.view.dynamic_inputs(node)) != 2:
            return None
        makers = [self.view.producer(tensor) for tensor in node.input]
        fresh = [maker is not None and maker.name in self.weighted for maker in makers]
        if not any(fresh):
            return None
        if not all(fresh):
            return str(node.input[fresh.index(False)])
        # Both sides are convolutions: the one with the smaller kernel is the shortcut.
        sizes = [self.view.array(maker.input[1]).size if maker is not None else 0 for maker in makers]
        return str(node.input[sizes.index(min(sizes))])
