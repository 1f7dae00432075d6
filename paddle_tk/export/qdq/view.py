"""Who makes and who reads each tensor of an ONNX graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from paddle_tk.export.graph.edit import attribute
from paddle_tk.runtime.base import Array

# They only move values, so input and output share one scale.
TRANSPARENT = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Slice", "Split", "Flatten", "Squeeze", "Unsqueeze", "Resize", "Identity"}
)
WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
ACTIVATIONS = frozenset({"Relu", "Clip"})


class GraphView:
    """Lookup tables of a graph whose nodes all have names; the graph must not change while it is used.

    Args:
        model: Weights are initializers; constants are folded.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes: list[Any] = list(graph.node)
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs: tuple[str, ...] = tuple(value.name for value in graph.output)
        self.inputs: tuple[str, ...] = tuple(v.name for v in graph.input if v.name not in self.constants)
        self.by_name: dict[str, Any] = {node.name: node for node in self.nodes}
        if len(self.by_name) != len(self.nodes):
            raise ValueError("every node needs a name of its own")
        self._producer = {tensor: node for node in self.nodes for tensor in node.output}
        consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for tensor in dict.fromkeys(node.input):
                consumers[tensor].append(node)
        self._consumers = consumers

    def producer(self, tensor: str) -> Any | None:
        """Returns the node that makes a tensor, None for inputs and constants."""
        return self._producer.get(tensor)

    def consumers(self, tensor: str) -> list[Any]:
        """Returns the nodes that read a tensor, each once."""
        return self._consumers.get(tensor, [])

    def dynamic_inputs(self, node: Any) -> list[str]:
        """Returns the inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def array(self, name: str) -> Array:
        """Returns a constant's values."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def sole_consumer(self, tensor: str) -> Any | None:
        """Returns the one node that reads a tensor which is no output of the graph; None where there are others."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def is_weighted(self, node: Any) -> bool:
        """Whether a node multiplies by a float weight that the file holds."""
        if node.op_type not in WEIGHTED or len(node.input) < 2:
            return False
        held = self.constants.get(node.input[1])
        return held is not None and held.data_type == onnx.TensorProto.FLOAT and node.input[0] not in self.constants

    def is_transparent(self, node: Any) -> bool:
        """Whether a node only moves values of its first input."""
        if node.op_type == "Resize":
            return bool(attribute(node, "mode", b"nearest") == b"nearest")
        return node.op_type in TRANSPARENT

    def absorbed(self, node: Any) -> Any | None:
        """Returns the Relu or Clip that limits a node's output and that an integer kernel does by saturation."""
        after = self.sole_consumer(node.output[0])
        if after is None or after.op_type not in ACTIVATIONS or after.input[0] != node.output[0]:
            return None
        return after if self.limits(after)[0] == 0 else None

    def rescaled(self, tensor: str) -> tuple[Any, float] | None:
        """Returns the node that multiplies a tensor by a positive number, and the number, where nobody else reads it.

        It costs an integer graph nothing: the same integers are read with another scale.
        """
        after = self.sole_consumer(tensor)
        factor = self.scalar_operand(after) if after is not None and after.op_type == "Mul" else None
        return (after, factor) if factor is not None and factor > 0 else None

    def scalar_operand(self, node: Any) -> float | None:
        """Returns the one number among a node's two operands; None where both are tensors."""
        held = [name for name in node.input if name in self.constants]
        if len(node.input) != 2 or len(held) != 1 or self.array(held[0]).size != 1:
            return None
        return float(self.array(held[0]).reshape(-1)[0])

    def limits(self, node: Any) -> tuple[float, float]:
        """Returns the lowest and the highest value that a Relu or Clip lets through."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        found = [-np.inf, np.inf]
        for place, key in ((1, "min"), (2, "max")):
            if len(node.input) > place and node.input[place]:
                if node.input[place] not in self.constants:
                    return -np.inf, np.inf
                found[place - 1] = float(self.array(node.input[place]))
            else:
                found[place - 1] = float(attribute(node, key, found[place - 1]))
        return found[0], found[1]

    def downstream(self, tensor: str) -> Iterator[Any]:
        """Yields the nodes that read a tensor, looking through those that only move values."""
        for node in self.consumers(tensor):
            if self.is_transparent(node) and node.input[0] == tensor:
                for output in node.output:
                    yield from self.downstream(output)
            else:
                yield node

    def origin(self, tensor: str) -> str:
        """Returns the tensor whose values a tensor holds, looking back through what only moves them."""
        node = self.producer(tensor)
        while node is not None and self.is_transparent(node):
            tensor = node.input[0]
            node = self.producer(tensor)
        return tensor
