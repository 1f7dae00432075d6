"""An INT8 graph -> a file with its classes, preprocessing and origin inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx.checker

from paddle_tk import __version__
from paddle_tk.errors import CheckFailed, some
from paddle_tk.export.graph import share_equal, short_names, stamp
from paddle_tk.export.metadata import write_metadata
from paddle_tk.export.onnx import OnnxModel
from paddle_tk.export.tensorrt_check import check
from paddle_tk.files import sha256_file, write_bytes_atomic

MODEL = "model.int8.onnx"
_OLDEST_INT8 = "8.5"  # the first release here whose devices have INT8
MADE_BY = f"paddle_tk {__version__} quantize"


def write_int8(
    model: onnx.ModelProto, parent: OnnxModel, folder: Path, *, variant: str, parent_sha256: str
) -> OnnxModel:
    """Checks an INT8 graph and writes ``folder/model.int8.onnx``; the manifest is written with the figures.

    Args:
        model: What ``build`` made.
        parent: The float file it was made from; its manifest gives task, inputs and preprocessing.
        folder: An existing folder.
        variant: "x86", "arm" or "tensorrt".
        parent_sha256: Of the float weights.

    Raises:
        CheckFailed: The graph is no valid ONNX model, or breaks a rule of TensorRT.
    """
    small = stamp(short_names(share_equal(model)))
    artifact = replace(
        parent.artifact, path=MODEL, precision="int8", variant=variant, parent_sha256=parent_sha256, made_by=MADE_BY,
        metrics={}, sha256={},
    )  # fmt: skip
    write_metadata(small, artifact)
    try:
        onnx.checker.check_model(small, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise CheckFailed(f"the INT8 graph is no valid ONNX model: {reason}", "leave a node in float with --keep-float"
                          ) from error  # fmt: skip
    if variant == "tensorrt":
        _require_rules(small)
    file = folder / MODEL
    write_bytes_atomic(file, small.SerializeToString())
    return OnnxModel(replace(artifact, sha256={MODEL: sha256_file(file)}), file, parent.opset)


def _require_rules(model: onnx.ModelProto) -> None:
    violations = check(model, _OLDEST_INT8)
    # An operator set is chosen for a device; here it is the form that counts.
    broken = [str(v) for v in violations if v.rule != "version" and v.severity == "error"]
    if broken:
        raise CheckFailed(
            f"the INT8 graph breaks {len(broken)} of TensorRT's rules: {some(broken, 3)}",
            "leave the nodes in float with --keep-float",
        )
