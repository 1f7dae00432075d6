from __future__ import annotations

from pathlib import Path

import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.export.qdq.ranges_file import NAME, Calibration, read_calibration, write_calibration
from paddle_tk.types import TensorRange

_RANGES = {"x": TensorRange(-1.0, 2.0, 1.5, "hist", 4)}
_FOUND = Calibration(_RANGES, "hist", 128, "training images", "abc", (64, 96))


def test_calibration_reads_back_what_was_written(tmp_path: Path) -> None:
    write_calibration(tmp_path, _FOUND)

    assert read_calibration(tmp_path / NAME, model_sha256="abc", size=(64, 96)) == _FOUND


@pytest.mark.parametrize(("sha", "size"), [("abd", (64, 96)), ("abc", (64, 64))])
def test_calibration_of_another_model_or_size_is_refused(tmp_path: Path, sha: str, size: tuple[int, int]) -> None:
    write_calibration(tmp_path, _FOUND)

    with pytest.raises(BadInput, match="other weights or of another input size"):
        read_calibration(tmp_path / NAME, model_sha256=sha, size=size)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1, "ranges": {"x": {"low": 1}}}', "\x00"])
def test_damaged_calibration_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)

    with pytest.raises(ArtifactError, match="cannot be read as a calibration"):
        read_calibration(tmp_path / NAME, model_sha256="abc", size=(64, 96))
