"""Types and shapes of all tensors of a graph, by ONNX's own inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import shape_inference

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.export.graph.edit import copied

Dim = int | str | None  # a length, the name of a free length, or unknown
Shape = tuple[Dim, ...]
_SMALL = 1024  # elements: shapes, axes and the like, whose values the inference needs; weights are far larger


@dataclass(frozen=True)
class Shapes:
    """What is known of the tensors of a graph, by name.

    Attributes:
        shapes: Their dimensions; a tensor of unknown rank is missing.
        types: Their element types, as ``onnx.TensorProto.DataType``.
    """

    shapes: dict[str, Shape]
    types: dict[str, int]

    def fixed(self, tensor: str) -> tuple[int, ...] | None:
        """Returns a tensor's shape where every dimension is known, None else."""
        shape = self.shapes.get(tensor)
        known = () if shape is None else tuple(dim for dim in shape if isinstance(dim, int))
        return known if shape is not None and len(known) == len(shape) else None


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose value_info holds the type and shape of every tensor that could be inferred.

    Fixed shapes stay fixed, a free dimension keeps its name. What value_info said before is dropped.

    Raises:
        ArtifactError: A node that ONNX does not allow.
    """
    result = copied(model)
    infer_shapes_inplace(result)
    return result


def infer_shapes_inplace(model: onnx.ModelProto) -> None:
    """As ``infer_shapes``, on the model itself."""
    inferred = _inferred(model)
    made = {name for node in model.graph.node for name in node.output}
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    model.graph.value_info.extend(v for v in inferred.graph.value_info if v.name in made - given)
    for value in model.graph.output:
        found = next((v for v in inferred.graph.output if v.name == value.name), None)
        if found is not None and not value.type.tensor_type.HasField("shape"):
            value.type.CopyFrom(found.type)


def tensor_shapes(model: onnx.ModelProto) -> Shapes:
    """Returns type and shape of every tensor of a model, initializers included, as far as they can be inferred.

    Raises:
        ArtifactError: A node that ONNX does not allow.
    """
    graph = _inferred(model).graph
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = int(tensor.elem_type)
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(_dim(dim) for dim in tensor.shape.dim)
    for held in model.graph.initializer:
        shapes[held.name], types[held.name] = tuple(int(side) for side in held.dims), int(held.data_type)
    return Shapes(shapes, types)


def fix_batch(model: onnx.ModelProto, batch: int = 1) -> onnx.ModelProto:
    """Returns a copy whose inputs and outputs have a fixed batch size in place of a free one.

    Args:
        model: Its first dimension of inputs and outputs is the batch.
        batch: At least 1.

    Raises:
        BadInput: The model's batch size is fixed and another one.
    """
    if batch < 1:
        raise ValueError(f"a batch of at least 1 expected, got {batch}")
    result = copied(model)
    for value in (*result.graph.input, *result.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_value not in (0, batch):
            raise BadInput(
                f"the model takes batches of {first.dim_value} ('{value.name}'), not of {batch}",
                "export it with --dynamic-batch",
            )
        first.dim_value = batch
    del result.graph.value_info[:]
    return result


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Runs the inference without the weights' values, which it does not need and would copy twice."""
    bones = onnx.ModelProto(ir_version=model.ir_version)
    for field in ("opset_import", "functions"):
        getattr(bones, field).extend(getattr(model, field))
    graph = model.graph
    bones.graph.name = graph.name or "graph"
    bones.graph.node.extend(graph.node)
    bones.graph.input.extend(graph.input)
    given = {value.name for value in graph.input}
    for tensor in graph.initializer:
        elements = 1
        for side in tensor.dims:
            elements *= side
        if elements <= _SMALL:
            bones.graph.initializer.append(tensor)
        elif tensor.name not in given:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bones.graph.input.append(info)
    for value in graph.output:
        # What a converter wrote there may be a placeholder ("DynamicDimension.1") that hides the inferred name.
        bones.graph.output.append(
            onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
        )
    try:
        return shape_inference.infer_shapes(bones, check_type=False, strict_mode=False, data_prop=True)
    except shape_inference.InferenceError as error:  # a node with too few inputs or the like
        reason = " ".join(str(error).split())
        raise ArtifactError(f"the graph is no valid ONNX: {reason}", "get or export the file again") from error
