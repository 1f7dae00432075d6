"""Names of nodes and tensors, and which tensors a graph returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx

from paddle_tk.errors import BadInput
from paddle_tk.export.graph.edit import copied, names_inside, subgraphs
from paddle_tk.export.graph.shapes import tensor_shapes
from paddle_tk.registry import closest

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def expose(model: onnx.ModelProto, tensor_names: Iterable[str]) -> onnx.ModelProto:
    """Returns a copy that returns further tensors, after its own outputs and in the given order.

    Args:
        model: The model.
        tensor_names: Tensors that its nodes make; what is an output already is not repeated.

    Raises:
        BadInput: A tensor that no node makes; the message names the closest.
    """
    result, inferred = copied(model), tensor_shapes(model)
    graph = result.graph
    made = {name for node in graph.node for name in node.output}
    present = {value.name for value in graph.output}
    for name in tensor_names:
        if name in present:
            continue
        if name not in made:
            near = closest(name, sorted(made))
            raise BadInput(f"no node of the graph makes a tensor '{name}'", f"did you mean '{near}'?" if near else
                           "give the name of a node's output")  # fmt: skip
        shape = inferred.shapes.get(name)
        kind = inferred.types.get(name, onnx.TensorProto.FLOAT)
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None if shape is None else list(shape)))
        present.add(name)
    return result


def name_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which every node has a name of its own; names that are unique already stay."""
    result = copied(model)
    name_nodes_inplace(result)
    return result


def name_nodes_inplace(model: onnx.ModelProto) -> None:
    """As ``name_nodes``, on the model itself."""
    seen: set[str] = set()
    for node in model.graph.node:
        wished = name = node.name if node.name and node.name not in seen else f"{node.op_type}:{node.output[0]}"
        number = 1
        while name in seen:
            number += 1
            name = f"{wished}.{number}"
        node.name = name
        seen.add(name)


def short_name_map(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the short name that ``short_names`` gives to each tensor which is no input or output of the graph."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}.union(*(names_inside(n) for n in graph.node))
    tensors = [t.name for t in graph.initializer] + [name for node in graph.node for name in node.output if name]
    fresh = (name for name in _short() if name not in kept)
    return {name: next(fresh) for name in dict.fromkeys(tensors) if name not in kept}


def short_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose nodes and tensors have the shortest names there are, without value_info and comments.

    Small networks gain: a name stands in the file once for each reader. Inputs and outputs of the graph keep their
    names, as do tensors that an If's or Loop's body mentions. Nodes are numbered in their order, which stays.
    """
    short, result = short_name_map(model), copied(model)
    graph = result.graph
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
        tensor.doc_string = ""
    for number, node in enumerate(graph.node):
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = short.get(name, name)
        node.name, node.doc_string = _base36(number), ""
        for body in subgraphs(node):
            _strip(body)
    del graph.value_info[:]
    graph.doc_string = result.doc_string = ""
    return result


def _strip(body: Any) -> None:
    del body.value_info[:]
    body.doc_string = ""


def _short() -> Iterator[str]:
    number = 0
    while True:
        yield _base36(number)
        number += 1


def _base36(number: int) -> str:
    digits = _DIGITS[number % 36]
    while number >= 36:
        number //= 36
        digits = _DIGITS[number % 36] + digits
    return digits
