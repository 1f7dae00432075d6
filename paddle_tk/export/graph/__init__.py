"""Pure functions on ``onnx.ModelProto``: every one returns a new model and leaves the given one as it is."""

from paddle_tk.export.graph.affine import fold_batch_norm
from paddle_tk.export.graph.constants import fold_constants
from paddle_tk.export.graph.edit import Model, opset_of
from paddle_tk.export.graph.names import expose, name_nodes, short_name_map, short_names
from paddle_tk.export.graph.shapes import Shapes, fix_batch, infer_shapes, tensor_shapes
from paddle_tk.export.graph.simplify import node_counts, simplify
from paddle_tk.export.graph.targets import decompose_hardswish, int64_to_int32
from paddle_tk.export.graph.tidy import drop_no_ops, share_equal
from paddle_tk.export.graph.versions import at_least, check_versions, ir_version_for, stamp

__all__ = [
    "Model",
    "Shapes",
    "at_least",
    "check_versions",
    "decompose_hardswish",
    "drop_no_ops",
    "expose",
    "fix_batch",
    "fold_batch_norm",
    "fold_constants",
    "infer_shapes",
    "int64_to_int32",
    "ir_version_for",
    "name_nodes",
    "node_counts",
    "opset_of",
    "share_equal",
    "short_name_map",
    "short_names",
    "simplify",
    "stamp",
    "tensor_shapes",
]
