"""An ONNX graph that can be edited: who makes, reads and holds each tensor, kept true while nodes go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from paddle_tk.runtime.base import Array

DEFAULT_DOMAINS = ("", "ai.onnx")
# What pipelines hand from one function to the next without knowing the package onnx.
Model = onnx.ModelProto


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that shares nothing with the model."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operator set that a model is written in.

    Raises:
        ValueError: It names none.
    """
    for entry in model.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            return int(entry.version)
    raise ValueError("the model names no version of the ONNX operators")


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Returns a node's attribute as a Python value, or the default where it has none."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def set_attribute(node: Any, name: str, value: Any) -> None:
    """Sets one attribute of a node."""
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def subgraphs(node: Any) -> Iterator[Any]:
    """Yields the bodies of a node's branches and loops."""
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g
        elif entry.type == onnx.AttributeProto.GRAPHS:
            yield from entry.graphs


def names_inside(node: Any) -> set[str]:
    """Returns every tensor name that the bodies of a node's branches and loops mention."""
    found: set[str] = set()
    for graph in subgraphs(node):
        found |= {value.name for value in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
        for inner in graph.node:
            found |= {*inner.input, *inner.output} | names_inside(inner)
    return found


class GraphEditor:
    """Edits the graph of a model in place; ``finish`` writes the nodes and initializers back.

    Tensors that an If's or Loop's body mentions are left alone, like the graph's inputs and outputs.

    Args:
        model: Changed by ``finish``.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.opset = opset_of(model)
        self.nodes: list[Any] = list(graph.node)
        self.held: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.fixed = {*self.outputs}.union(*(names_inside(node) for node in self.nodes))
        self._maker: dict[str, Any] = {}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            self._enter(node)
        self._gone: set[int] = set()
        self._new: set[str] = set()

    def _enter(self, node: Any) -> None:
        for name in node.output:
            if name:
                self._maker[name] = node
        for name in dict.fromkeys(node.input):
            if name:
                self._readers[name].append(node)

    def maker(self, tensor: str) -> Any | None:
        """Returns the node that makes a tensor; None for inputs and constants."""
        return self._maker.get(tensor)

    def readers(self, tensor: str) -> list[Any]:
        """Returns the nodes that read a tensor, each once."""
        return list(self._readers.get(tensor, ()))

    def sole_reader(self, tensor: str) -> Any | None:
        """Returns the one node that reads a tensor nobody else needs; None where there is none or are others."""
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.fixed else None

    def constant(self, tensor: str) -> Array | None:
        """Returns the values of an initializer; None for anything that a caller of the model may set."""
        found = self.held.get(tensor)
        return None if found is None or tensor in self.inputs else np.asarray(numpy_helper.to_array(found))

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer that no caller can set."""
        return tensor in self.held and tensor not in self.inputs

    def hold(self, tensor: str, values: Array) -> str:
        """Makes a tensor an initializer, in place of one of its name; returns the name."""
        self.held[tensor] = numpy_helper.from_array(np.asarray(values, order="C"), tensor)
        self._new.add(tensor)
        return tensor

    def is_exclusive(self, tensor: str) -> bool:
        """Whether exactly one node reads a constant, once."""
        reader = self.sole_reader(tensor)
        return reader is not None and list(reader.input).count(tensor) == 1

    def free_name(self, wished: str) -> str:
        """Returns a tensor name nobody uses: the wished one, or that with a number."""
        taken = {*self.held, *self.inputs, *self._maker, *self.fixed}
        number, name = 1, wished
        while name in taken:
            number += 1
            name = f"{wished}.{number}"
        return name

    def set_input(self, node: Any, place: int, tensor: str) -> None:
        """Lets a node read another tensor at one place; "" for none."""
        while len(node.input) <= place:
            node.input.append("")
        before = node.input[place]
        node.input[place] = tensor
        if before and before not in node.input:
            self._readers[before] = [reader for reader in self._readers[before] if reader is not node]
        if tensor and all(reader is not node for reader in self._readers[tensor]):
            self._readers[tensor].append(node)

    def cut_inputs(self, node: Any, count: int) -> None:
        """Leaves a node its first ``count`` inputs."""
        for place in range(count, len(node.input)):
            self.set_input(node, place, "")
        del node.input[count:]

    def redirect(self, tensor: str, to: str) -> None:
        """Lets every node that reads a tensor read another one."""
        for node in self.readers(tensor):
            for place, name in enumerate(node.input):
                if name == tensor:
                    self.set_input(node, place, to)

    def rename_output(self, node: Any, tensor: str, name: str) -> None:
        """Gives a tensor that a node makes another name, also where it is read."""
        self.redirect(tensor, name)
        node.output[list(node.output).index(tensor)] = name
        self._maker.pop(tensor, None)
        self._maker[name] = node

    def drop(self, node: Any) -> None:
        """Removes a node; what it made is nobody's then."""
        self._gone.add(id(node))
        for name in node.output:
            if self._maker.get(name) is node:
                del self._maker[name]
        for name in dict.fromkeys(node.input):
            if name:
                self._readers[name] = [reader for reader in self._readers[name] if reader is not node]

    def bypass(self, node: Any) -> bool:
        """Removes a node whose first output equals its first input.

        Returns:
            False, and nothing done, where both names must stay.
        """
        source, result = node.input[0], node.output[0]
        if result not in self.fixed:
            self.drop(node)
            self.redirect(result, source)
            return True
        maker = self.maker(source)
        if maker is None or source in self.fixed:
            return False
        self.drop(node)
        self.rename_output(maker, source, result)
        return True

    def replace(self, node: Any, by: Iterable[Any]) -> None:
        """Puts new nodes in a node's place."""
        new = list(by)
        self.drop(node)
        self._gone.discard(id(node))
        place = next(i for i, other in enumerate(self.nodes) if other is node)
        self.nodes[place : place + 1] = new
        for entered in new:
            self._enter(entered)

    def alive(self) -> Iterator[Any]:
        """Yields the nodes that are left, in their order; nodes may be dropped meanwhile."""
        for node in list(self.nodes):
            if id(node) not in self._gone:
                yield node

    def drop_dead(self) -> None:
        """Removes nodes whose outputs nobody reads."""
        for node in reversed(self.nodes):
            needed = any(name in self.fixed or self._readers.get(name) for name in node.output if name)
            if id(node) not in self._gone and not needed:
                self.drop(node)

    def finish(self) -> None:
        """Writes what is left into the model; initializers that nobody reads are dropped."""
        self.drop_dead()
        nodes = list(self.alive())
        # A default of an input stays, read or not: without it a caller must set the input.
        read = {name for node in nodes for name in node.input}.union(self.fixed, self.inputs)
        graph = self.model.graph
        made = {name for node in nodes for name in node.output}
        known = [value for value in graph.value_info if value.name in made]
        for field, values in ((graph.node, nodes), (graph.value_info, known)):
            del field[:]
            field.extend(values)
        # One by one: weights that stay are not copied.
        for place in reversed(range(len(graph.initializer))):
            name = graph.initializer[place].name
            if name in self._new or name not in read:
                del graph.initializer[place]
        graph.initializer.extend(self.held[name] for name in self.held if name in self._new and name in read)
