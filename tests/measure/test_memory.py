from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from paddle_tk.errors import ArtifactError, BadInput, CheckFailed
from paddle_tk.measure import memory
from paddle_tk.measure.memory import measure_process
from paddle_tk.runtime.load import ModelSource, open_model
from tests.runtime.tiny_onnx import classifier_artifact, write_classifier


def test_figures_are_those_of_a_process_without_paddle_when_the_model_is_onnx(models: Path) -> None:
    onnx = measure_process(open_model(models / "onnx"), repeats=20)
    paddle = measure_process(open_model(models / "run"), repeats=5, batch_size=2)
    assert (onnx.engine, onnx.batch_size, paddle.engine, paddle.batch_size) == ("onnxruntime", 1, "paddle", 2)
    assert 20 < onnx.peak_mib < paddle.peak_mib < 4096
    assert 0 < onnx.cold_start_seconds < paddle.cold_start_seconds < 120
    assert onnx.first_inference_ms > 0
    assert 0 <= onnx.cpu_share <= onnx.cpu_cores
    names = {found.name: found for found in onnx.measurements()}
    assert {name: found.unit for name, found in names.items()} == {
        "cold_start": "s", "first_inference": "ms", "peak_memory": "MiB", "cpu_share": "share",
    }  # fmt: skip
    assert (names["peak_memory"].n, names["cpu_share"].n) == (1, 20)
    assert json.loads(json.dumps(onnx.to_dict()))["origin"] == "measured"


def _widen(file: Path, columns: int) -> None:
    """Adds a matrix product with 3 x ``columns`` weights to a tiny classifier."""
    model = onnx.load(str(file))
    weights = np.ones((3, columns), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "wide_weights"))
    model.graph.node[-1].output[0] = "narrow"
    model.graph.node.extend(
        [
            onnx.helper.make_node("MatMul", ["flat", "wide_weights"], ["wide"]),
            onnx.helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[1]),
            onnx.helper.make_node("Add", ["narrow", "mean"], ["scores"]),
        ]
    )
    onnx.save(model, str(file))


def test_large_weights_show_in_the_peak(tmp_path: Path) -> None:
    peaks = []
    for columns in (1, 2**22):  # 12 bytes and 48 MiB
        file = write_classifier(tmp_path / "m.onnx")
        _widen(file, columns)
        peaks.append(measure_process(ModelSource(classifier_artifact(file), file, None), repeats=1).peak_mib)
    assert peaks[1] - peaks[0] > 45


@pytest.mark.parametrize("engine", ["openvin", "paddle"])
def test_a_wrong_engine_is_told_as_in_this_process(engine: str, models: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown engine 'openvin'|paddle does not run onnx models"):
        measure_process(open_model(models / "onnx"), engine=engine)


def test_auto_is_refused_since_its_measurement_would_count_as_loading(models: Path) -> None:
    with pytest.raises(ValueError, match="choose_engine"):
        measure_process(open_model(models / "onnx"), engine="auto")


def test_a_model_that_cannot_be_loaded_is_told_as_in_this_process(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "onnx", tmp_path / "onnx")
    source = open_model(tmp_path / "onnx")
    source.file.write_bytes(b"changed since")
    with pytest.raises(ArtifactError, match="it is no ONNX file"):
        measure_process(source)


def test_a_process_that_dies_or_hangs_is_told(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_model(models / "onnx")
    with pytest.raises(CheckFailed, match="gave no answer within 0 s"):
        measure_process(source, timeout_seconds=0.01)
    monkeypatch.setattr(memory, "_CHILD", "paddle_tk.no_such_module")
    with pytest.raises(CheckFailed, match=r"exit code 1, .*No module named"):
        measure_process(source)
