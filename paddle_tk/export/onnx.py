"""A trained model -> a checked ONNX file that carries its classes and preprocessing inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk import __version__
from paddle_tk.environment.versions import installed_versions
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.box_parity import BoxParity
from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.export.parity import Parity
from paddle_tk.files import sha256_file, write_bytes_atomic, write_json
from paddle_tk.manifest import write_manifest
from paddle_tk.types import InputSpec, ModelArtifact

if TYPE_CHECKING:
    from paddle_tk.runtime.paddle_predictor import PaddlePredictor

MODEL, PARITY = "model.onnx", "parity.json"
MADE_BY = f"paddle_tk {__version__} export"
_INPUT, _BATCH = "image", "batch"
_VERSIONS = ("paddlepaddle", "paddle2onnx", "onnx")


@dataclass(frozen=True)
class OnnxModel:
    """A converted model that lies in a folder.

    Attributes:
        artifact: Its manifest, without the parity figures.
        file: The ONNX file.
        opset: The operator set it was written with.
    """

    artifact: ModelArtifact
    file: Path
    opset: int


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
    predictor: PaddlePredictor, folder: Path, *, opset: int, dynamic_batch: bool, debug: bool = False
) -> OnnxModel:
    """Converts a model, checks it and writes ``folder/model.onnx``.

    Args:
        predictor: The model; its manifest's preprocessing gives the input size.
        folder: An existing folder.
        opset: ONNX operator set.
        dynamic_batch: Leave the batch dimension free; else it is 1.
        debug: Let the converter write to the terminal.

    Raises:
        BadInput: A package is not installed, the opset or the input size cannot be.
        CheckFailed: The network cannot be converted, or the result is no valid ONNX model.
    """
    parent = predictor.artifact
    batch = None if dynamic_batch else 1
    shape = (batch, 3, *parent.preprocessing.size)
    onnx = _onnx()
    payload = layer_to_onnx(predictor.network, input_shape=shape, opset=opset, debug=debug)
    model = onnx.load_model_from_string(payload)
    _rename(model, [spec.name for spec in parent.outputs], dynamic_batch)
    parent_sha256 = parent.sha256[parent.path]
    _describe(model, parent, parent_sha256)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference raise different classes
        reason = " ".join(str(error).split())
        raise CheckFailed(f"the converted model is not valid ONNX: {reason}", "try another --opset") from error
    write_bytes_atomic(folder / MODEL, model.SerializeToString(deterministic=True))
    artifact = ModelArtifact(
        path=MODEL,
        format="onnx",
        precision=parent.precision,
        task=parent.task,
        inputs=(InputSpec(_INPUT, shape),),
        outputs=tuple(InputSpec(value.name, (batch, *_sides(value)[1:])) for value in model.graph.output),
        preprocessing=parent.preprocessing,
        postprocessing=parent.postprocessing,
        sha256={MODEL: sha256_file(folder / MODEL)},
        parent_sha256=parent_sha256,
        made_by=MADE_BY,
    )
    return OnnxModel(artifact, folder / MODEL, _opset(model))


def write_export(folder: Path, model: OnnxModel, parity: Parity | BoxParity, conditions: Mapping[str, Any]) -> None:
    """Writes parity.json and manifest.json beside the ONNX file.

    Args:
        folder: Where the ONNX file lies.
        model: What ``write_onnx`` returned.
        parity: The comparison with its parent.
        conditions: Further entries of parity.json.
    """
    report = {
        **parity.to_dict(),
        "model_sha256": model.artifact.sha256[MODEL],
        "parent_sha256": model.artifact.parent_sha256,
        "opset": model.opset,
        "versions": _versions(),
        **conditions,
    }
    write_json(folder / PARITY, report)
    write_manifest(folder, replace(model.artifact, metrics={"parity": parity.to_dict()}))


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
    except ImportError as error:
        raise BadInput("the package onnx is not installed", "pip install onnx") from error
    return onnx


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


def _describe(model: Any, parent: ModelArtifact, parent_sha256: str) -> None:
    model.producer_name, model.producer_version = "paddle_tk", __version__
    entries = {
        "task": parent.task.kind,
        "classes": json.dumps(list(parent.task.classes), ensure_ascii=False),
        "preprocessing": json.dumps(parent.preprocessing.to_dict()),
        "postprocessing": json.dumps(dict(parent.postprocessing)),
        "precision": parent.precision,
        "parent_sha256": parent_sha256,
        "made_by": MADE_BY,
        "versions": json.dumps(_versions()),
    }
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def _versions() -> dict[str, str]:
    found = installed_versions()
    return {name: found[name] for name in _VERSIONS if name in found}


def _opset(model: Any) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
