"""What an ONNX file of ours says of itself, so that it can be used without its manifest."""

from __future__ import annotations

import json

import onnx

from paddle_tk import __version__
from paddle_tk.environment.versions import installed_versions
from paddle_tk.types import ModelArtifact

_VERSIONS = ("paddlepaddle", "paddle2onnx", "onnx")


def write_metadata(model: onnx.ModelProto, artifact: ModelArtifact) -> None:
    """Writes classes, pre- and post-processing and origin into a model, in place of what it held."""
    model.producer_name, model.producer_version = "paddle_tk", __version__
    entries = {
        "task": artifact.task.kind,
        "classes": json.dumps(list(artifact.task.classes), ensure_ascii=False),
        "preprocessing": json.dumps(artifact.preprocessing.to_dict()),
        "postprocessing": json.dumps(dict(artifact.postprocessing)),
        "precision": artifact.precision,
        "variant": artifact.variant,
        "parent_sha256": artifact.parent_sha256 or "",
        "made_by": artifact.made_by,
        "versions": json.dumps(tool_versions()),
    }
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def tool_versions() -> dict[str, str]:
    """Returns the versions of the packages that a conversion depends on."""
    found = installed_versions()
    return {name: found[name] for name in _VERSIONS if name in found}
