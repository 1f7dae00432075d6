"""All clean-ups of a converted graph, in an order in which each finds what the others left."""

from __future__ import annotations

from collections import Counter

import onnx

from paddle_tk.export.graph.affine import fold_batch_norm_inplace
from paddle_tk.export.graph.constants import fold_constants_inplace
from paddle_tk.export.graph.edit import copied
from paddle_tk.export.graph.names import name_nodes_inplace
from paddle_tk.export.graph.shapes import infer_shapes_inplace
from paddle_tk.export.graph.tidy import drop_no_ops_inplace, share_equal_inplace

_ROUNDS = 10  # each round but the last removes a node


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that computes the same with fewer nodes; inputs, outputs and names of what stays are kept.

    Constants and batch norms are folded, what changes nothing is dropped, every node has a name of its own, and
    value_info holds the shapes. Opset, IR version and metadata stay as they are.
    """
    result = copied(model)
    fold_constants_inplace(result)
    for _ in range(_ROUNDS):
        before = _size(result)
        for clean_up in (fold_batch_norm_inplace, drop_no_ops_inplace, share_equal_inplace, fold_constants_inplace):
            clean_up(result)
        if _size(result) == before:
            break
    name_nodes_inplace(result)
    infer_shapes_inplace(result)
    return result


def node_counts(model: onnx.ModelProto) -> dict[str, int]:
    """Returns how many nodes of each kind a graph has, the most frequent first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def _size(model: onnx.ModelProto) -> tuple[int, int]:
    return len(model.graph.node), len(model.graph.initializer)
