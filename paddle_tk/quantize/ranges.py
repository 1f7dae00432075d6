"""Ranges of layer inputs as JSON; the weights they belong to are in the weights file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError
from paddle_tk.files import write_json
from paddle_tk.quantize.calibrate import LayerInput
from paddle_tk.quantize.histogram import Array
from paddle_tk.types import TensorRange

_VERSION = 1


def write_ranges(path: Path, inputs: Sequence[LayerInput], settings: Mapping[str, Any]) -> None:
    """Writes ranges and how they were found, atomically.

    Args:
        path: The JSON file.
        inputs: The ranges.
        settings: Plain JSON types; read back by ``read_settings``.
    """
    layers = [{"layer": item.name, "call": item.call, **asdict(item.range)} for item in inputs]
    write_json(path, {"schema_version": _VERSION, "settings": dict(settings), "layers": layers})


def read_ranges(path: Path, weights: Mapping[str, Array]) -> list[LayerInput]:
    """Reads what ``write_ranges`` wrote.

    Args:
        path: The JSON file.
        weights: The network's tensors by name.

    Raises:
        ArtifactError: The file is missing or damaged, or belongs to another network.
    """
    try:
        return [
            LayerInput(str(entry.pop("layer")), int(entry.pop("call")), weights[name], TensorRange(**entry))
            for entry in _read(path)["layers"]
            for name in [f"{entry['layer']}.weight".lstrip(".")]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} does not hold the ranges of this network ({type(error).__name__}: {error})", "calibrate it again"
        ) from error


def read_settings(path: Path) -> dict[str, Any]:
    """Returns the settings that the ranges were found with.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    return dict(_read(path).get("settings", {}))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "calibrate the model again") from error
    if not isinstance(raw, dict) or raw.get("schema_version") != _VERSION:
        raise ArtifactError(f"{path} holds no ranges that this release reads", "calibrate the model again")
    return raw
