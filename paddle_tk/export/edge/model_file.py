"""Reads an ONNX file for examination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from paddle_tk.errors import ArtifactError
from paddle_tk.export.graph.edit import DEFAULT_DOMAINS


def read_model(file: Path) -> Any:
    """Returns the ``onnx.ModelProto`` in a file.

    Raises:
        ArtifactError: It is no ONNX model, or keeps its weights in another file.
    """
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's decoder and the file system raise different classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArtifactError(f"{file} is no ONNX model: {reason}", "give a file made by tools/export.py") from error
    if not model.graph.node or not any(entry.domain in DEFAULT_DOMAINS for entry in model.opset_import):
        raise ArtifactError(f"{file} is no ONNX model: it holds no graph", "give a file made by tools/export.py")
    outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ArtifactError(
            f"{file} keeps {len(outside)} tensors in another file ({outside[0]})",
            "save the model as one file, with onnx.save(model, path)",
        )
    return model
