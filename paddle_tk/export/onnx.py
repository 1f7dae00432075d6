"""A trained model -> a checked ONNX file that carries its classes and preprocessing inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk import __version__
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.box_parity import BoxParity
from paddle_tk.export.convert import DEFAULT_OPSET, layer_to_onnx
from paddle_tk.export.parity import Parity
from paddle_tk.export.target import OnnxTarget
from paddle_tk.files import sha256_file, write_bytes_atomic, write_json
from paddle_tk.manifest import write_manifest
from paddle_tk.types import InputSpec, ModelArtifact

if TYPE_CHECKING:
    from paddle_tk.runtime.paddle_predictor import PaddlePredictor

MODEL, PARITY = "model.onnx", "parity.json"
MADE_BY = f"paddle_tk {__version__} export"
_INPUT, _BATCH = "image", "batch"


@dataclass(frozen=True)
class OnnxModel:
    """A converted model that lies in a folder.

    Attributes:
        artifact: Its manifest, without the parity figures.
        file: The ONNX file.
        opset: The operator set it was written with.
        form: What the manifest says of the file besides: "opset", "ir_version", "nodes", "nodes_converted" (as many
            had the graph before it was simplified), "device" it is for and "versions" of what made it.
    """

    artifact: ModelArtifact
    file: Path
    opset: int
    form: Mapping[str, Any] = field(default_factory=dict)


def resized(artifact: ModelArtifact, size: tuple[int, int] | None) -> ModelArtifact:
    """Returns the artifact for another input size; its weights stay what they are.

    Args:
        artifact: A Paddle model's manifest.
        size: (height, width) in pixels; None: as it is.
    """
    if size is None:
        return artifact
    first = artifact.inputs[0]
    return replace(
        artifact,
        inputs=(replace(first, shape=(*first.shape[:2], *size)),),
        preprocessing=replace(artifact.preprocessing, size=size),
        # The stem is settled there by name, so only networks of fixed size are built differently.
        architecture={**artifact.architecture, "image_size": list(size)},
    )


def write_onnx(
    predictor: PaddlePredictor,
    folder: Path,
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool,
    target: OnnxTarget | None = None,
    debug: bool = False,
) -> OnnxModel:
    """Converts a model, folds its batch norms and constants, checks it and writes ``folder/model.onnx``.

    Args:
        predictor: The model; its manifest's preprocessing gives the input size.
        folder: An existing folder.
        opset: ONNX operator set.
        dynamic_batch: Leave the batch dimension free; else it is 1.
        target: What the file is for; its operator set counts in place of ``opset``.
        debug: Let the converter write to the terminal.

    Raises:
        BadInput: A package is not installed; the opset, the IR version or the input size cannot be.
        CheckFailed: The network cannot be converted, the target cannot take it, or the result is no valid ONNX model.
    """
    _require_onnx()
    from paddle_tk.export.graph import opset_of
    from paddle_tk.export.metadata import tool_versions, write_metadata

    parent, wanted = predictor.artifact, target or OnnxTarget(opset)
    batch = None if dynamic_batch else 1
    shape = (batch, 3, *parent.preprocessing.size)
    payload = layer_to_onnx(predictor.network, input_shape=shape, opset=wanted.opset, debug=debug)
    model, converted = _finished(payload, [spec.name for spec in parent.outputs], wanted, dynamic_batch)
    artifact = ModelArtifact(
        path=MODEL,
        format="onnx",
        precision=parent.precision,
        task=parent.task,
        inputs=(InputSpec(_INPUT, shape),),
        outputs=tuple(InputSpec(value.name, (batch, *_sides(value)[1:])) for value in model.graph.output),
        preprocessing=parent.preprocessing,
        postprocessing=parent.postprocessing,
        sha256={},
        parent_sha256=parent.sha256[parent.path],
        made_by=MADE_BY,
    )
    write_metadata(model, artifact)
    _check(model)
    file = folder / MODEL
    write_bytes_atomic(file, model.SerializeToString(deterministic=True))
    form = {
        "opset": opset_of(model),
        "ir_version": int(model.ir_version),
        "nodes": len(model.graph.node),
        "nodes_converted": converted,
        "device": wanted.name,
        "versions": tool_versions(),
    }
    return OnnxModel(replace(artifact, sha256={MODEL: sha256_file(file)}), file, opset_of(model), form)


def write_export(folder: Path, model: OnnxModel, parity: Parity | BoxParity, conditions: Mapping[str, Any]) -> None:
    """Writes parity.json and manifest.json beside the ONNX file.

    Args:
        folder: Where the ONNX file lies.
        model: What ``write_onnx`` returned.
        parity: The comparison with its parent.
        conditions: What else both files say of the export.
    """
    said = {**model.form, **conditions}
    hashes = {"model_sha256": model.artifact.sha256[MODEL], "parent_sha256": model.artifact.parent_sha256}
    write_json(folder / PARITY, {**parity.to_dict(), **hashes, **said})
    write_manifest(folder, replace(model.artifact, metrics={"parity": parity.to_dict(), "export": said}))


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise BadInput("the package onnx is not installed", "pip install onnx") from error


def _finished(payload: bytes, outputs: list[str], target: OnnxTarget, dynamic_batch: bool) -> tuple[Any, int]:
    """Returns the model with our names, folded and in the target's form, and how many nodes it had before."""
    import onnx

    from paddle_tk.export import graph

    model = onnx.load_model_from_string(payload)
    converted = len(model.graph.node)
    _rename(model, outputs, dynamic_batch)
    model = graph.simplify(model)
    if target.splits_hardswish:
        model = graph.decompose_hardswish(model)
    if target.avoids_int64:
        model = graph.int64_to_int32(model)
    model = graph.stamp(graph.infer_shapes(model), target.ir_version)
    target.require(graph.opset_of(model), int(model.ir_version))
    return model, converted


def _check(model: Any) -> None:
    import onnx.checker

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference raise different classes
        reason = " ".join(str(error).split())
        raise CheckFailed(f"the converted model is not valid ONNX: {reason}", "try another --opset") from error


def _rename(model: Any, outputs: list[str], dynamic_batch: bool) -> None:
    """Gives input, outputs and batch dimension names that a user of the file can guess."""
    graph = model.graph
    given = [_INPUT, *outputs]
    names = {value.name: name for value, name in zip((*graph.input, *graph.output), given, strict=True)}
    for node in graph.node:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = names.get(name, name)
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        if dynamic_batch:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH


def _sides(value: Any) -> tuple[int | None, ...]:
    return tuple(int(dim.dim_value) or None for dim in value.type.tensor_type.shape.dim)
