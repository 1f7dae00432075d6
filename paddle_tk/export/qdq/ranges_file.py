"""A calibration on disk, so that a second variant is made from the same ranges without the images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.files import write_json
from paddle_tk.types import TensorRange

NAME = "calibration.json"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """The ranges of a model's activations and where they come from.

    Attributes:
        ranges: By tensor name of the float graph.
        algorithm: The observer.
        images: How many images were looked at.
        origin: What they are.
        model_sha256: Of the float weights' file that was calibrated.
        size: Height and width of the input in pixels.
    """

    ranges: Mapping[str, TensorRange]
    algorithm: str
    images: int
    origin: str
    model_sha256: str
    size: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns what is told of it, without the ranges."""
        return {"algorithm": self.algorithm, "images": self.images, "origin": self.origin, "size": list(self.size)}


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Writes ``folder/calibration.json``."""
    write_json(folder / NAME, {"schema_version": _SCHEMA_VERSION, **asdict(calibration)})


def read_calibration(path: Path, *, model_sha256: str, size: tuple[int, int]) -> Calibration:
    """Reads a calibration of the same weights at the same input size.

    Args:
        path: The file.
        model_sha256: Of the float weights' file.
        size: Height and width of the input in pixels.

    Raises:
        ArtifactError: The file cannot be read.
        BadInput: It belongs to another model or size.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.pop("schema_version") != _SCHEMA_VERSION:
            raise ValueError("another schema version")
        ranges = {str(name): TensorRange(**entry) for name, entry in raw.pop("ranges").items()}
        found = Calibration(ranges=ranges, **{**raw, "size": tuple(raw["size"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} cannot be read as a calibration: {error}", "calibrate again, with images"
        ) from error
    if found.model_sha256 != model_sha256 or found.size != size:
        raise BadInput(
            f"{path} is the calibration of other weights or of another input size ({found.size[0]}x{found.size[1]} px)",
            "calibrate again, with images",
        )
    return found
