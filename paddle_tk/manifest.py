"""``ModelArtifact`` <-> ``manifest.json``; every hash is checked on load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError
from paddle_tk.files import sha256_file, write_json
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

NAME = "manifest.json"
SCHEMA_VERSION = 1


def write_manifest(folder: Path, artifact: ModelArtifact) -> Path:
    """Writes ``folder/manifest.json`` and returns its path."""
    path = folder / NAME
    write_json(path, artifact_to_dict(artifact))
    return path


def artifact_to_dict(artifact: ModelArtifact) -> dict[str, Any]:
    """Returns what a manifest holds, in plain JSON types."""
    raw = {"schema_version": SCHEMA_VERSION, **asdict(artifact)}
    return {**raw, "preprocessing": artifact.preprocessing.to_dict()}


def load_manifest(folder: Path) -> ModelArtifact:
    """Reads ``folder/manifest.json`` and checks the hash of every file it names.

    Raises:
        ArtifactError: No manifest, a manifest that cannot be read, a missing file or a wrong hash.
    """
    path = folder / NAME
    if not path.is_file():
        raise ArtifactError(f"{folder} holds no {NAME}", "give a run folder, a model folder or an ONNX file")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        artifact = artifact_from_dict(raw)
        for name, expected in artifact.sha256.items():
            _check_hash(folder, name, expected)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "export the model again") from error
    return artifact


def _check_hash(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"the manifest in {folder} names a file outside it: {name}", "export the model again")
    if not file.is_file():
        raise ArtifactError(f"{file} is named by the manifest but missing", "export the model again")
    found = sha256_file(file)
    if found != expected:
        raise ArtifactError(
            f"{file} is damaged or was changed: sha256 {found[:12]}..., the manifest says {expected[:12]}...",
            "export the model again or restore the file",
        )


def artifact_from_dict(raw: Mapping[str, Any]) -> ModelArtifact:
    """Rebuilds an artifact from ``artifact_to_dict``'s result, without looking at its files.

    Raises:
        ValueError, KeyError, TypeError: It is not what a manifest of this release holds.
    """
    fields = dict(raw)
    version = fields.pop("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version}, this release reads {SCHEMA_VERSION}")
    task = dict(fields.pop("task"))
    task["classes"] = tuple(task["classes"])
    return ModelArtifact(
        task=Task(**task),
        inputs=tuple(_spec(s) for s in fields.pop("inputs")),
        outputs=tuple(_spec(s) for s in fields.pop("outputs")),
        preprocessing=Preprocessing.from_dict(fields.pop("preprocessing")),
        **fields,
    )


def _spec(raw: Mapping[str, Any]) -> InputSpec:
    return InputSpec(raw["name"], tuple(raw["shape"]), raw["dtype"])
