from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.quantize.calibrate import LayerInput
from paddle_tk.quantize.ranges import read_ranges, read_settings, write_ranges
from paddle_tk.types import TensorRange

_WEIGHT = np.ones((2, 3), np.float32)
_INPUTS = [LayerInput("a.b", call, _WEIGHT, TensorRange(-0.1, 0.7 + call, 1 / 3, "hist", 4)) for call in range(2)]


def test_ranges_come_back_as_they_were_with_the_weights_of_the_network(tmp_path: Path) -> None:
    write_ranges(tmp_path / "r.json", _INPUTS, {"samples": 3})
    found = read_ranges(tmp_path / "r.json", {"a.b.weight": 2 * _WEIGHT})
    assert [(i.name, i.call, i.range) for i in found] == [(i.name, i.call, i.range) for i in _INPUTS]
    np.testing.assert_array_equal(found[1].weight, 2 * _WEIGHT)
    assert read_settings(tmp_path / "r.json") == {"samples": 3}


def test_ranges_are_refused_when_they_belong_to_another_network(tmp_path: Path) -> None:
    write_ranges(tmp_path / "r.json", _INPUTS, {})
    with pytest.raises(ArtifactError, match=r"a\.b\.weight"):
        read_ranges(tmp_path / "r.json", {"other.weight": _WEIGHT})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema_version": 9}', '{"schema_version": 1}', '{"schema_version": 1, "layers": [{"a": 1}]}']
)
def test_ranges_are_refused_in_one_line_when_the_file_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ArtifactError) as caught:
        read_ranges(tmp_path / "r.json", {})
    assert "\n" not in str(caught.value)


def test_ranges_are_refused_when_the_threshold_is_no_number(tmp_path: Path) -> None:
    write_ranges(tmp_path / "r.json", _INPUTS[:1], {})
    raw = json.loads((tmp_path / "r.json").read_text())
    raw["layers"][0]["threshold"] = "wide"
    (tmp_path / "r.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="TypeError"):
        read_ranges(tmp_path / "r.json", {"a.b.weight": _WEIGHT})
