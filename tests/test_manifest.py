from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.files import sha256_bytes
from paddle_tk.manifest import load_manifest, write_manifest
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task


def _artifact(**changes: Any) -> ModelArtifact:
    fields: dict[str, Any] = {
        "path": "m.bin",
        "format": "onnx",
        "precision": "fp32",
        "task": Task("classification", ("a", "b")),
        "inputs": (InputSpec("image", (None, 3, 8, 8)),),
        "outputs": (InputSpec("logits", (None, 2)),),
        "preprocessing": Preprocessing((8, 8), "center_crop"),
        "sha256": {"m.bin": sha256_bytes(b"weights")},
        "architecture": {"name": "x"},
        "metrics": {"test": {"top1": 0.5, "n": 2}},
    }
    return ModelArtifact(**{**fields, **changes})


def _write(folder: Path, **changes: Any) -> ModelArtifact:
    (folder / "m.bin").write_bytes(b"weights")
    artifact = _artifact(**changes)
    write_manifest(folder, artifact)
    return artifact


def test_manifest_reads_back_what_was_written(tmp_path: Path) -> None:
    artifact = _write(tmp_path)
    assert load_manifest(tmp_path) == artifact


def test_load_manifest_refuses_a_changed_file(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "m.bin").write_bytes(b"Weights")
    with pytest.raises(ArtifactError, match="damaged or was changed"):
        load_manifest(tmp_path)


def test_load_manifest_refuses_a_missing_file(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        load_manifest(tmp_path)


def test_load_manifest_refuses_a_file_outside_its_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    _write(inner, sha256={"../secret": sha256_bytes(b"x")})
    with pytest.raises(ArtifactError, match="outside"):
        load_manifest(inner)


@pytest.mark.parametrize("key", ["sha256", "preprocessing", "task", "inputs", "schema_version"])
@pytest.mark.parametrize("value", [None, 7, "x", "absent"])
def test_load_manifest_says_so_when_an_entry_is_wrong(key: str, value: object, tmp_path: Path) -> None:
    _write(tmp_path)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    raw.pop(key)
    if value != "absent":
        raw[key] = value
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_manifest(tmp_path)


def test_load_manifest_says_so_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no manifest"):
        load_manifest(tmp_path)
