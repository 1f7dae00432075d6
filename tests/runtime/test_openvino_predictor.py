from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.asynchronous import run_stream
from paddle_tk.runtime.base import noise_batch
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.runtime.openvino_predictor import OpenVinoPredictor
from tests.runtime.tiny_onnx import classifier_artifact, write_classifier

pytest.importorskip("openvino")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["onnx", "onnx-dynamic"])
@pytest.mark.parametrize("options", [{}, {"preallocate": True}, {"streams": 2, "threads": 2}], ids=str)
def test_predict_agrees_with_onnx_runtime_when_computed_in_fp32(
    name: str, options: dict[str, Any], models: Path
) -> None:
    source = open_model(models / name)
    batch = noise_batch(source.artifact, 5)
    (expected,) = load_predictor(source).predict(batch)
    predictor = OpenVinoPredictor(source.artifact, source.file, precision="fp32", **options)
    assert predictor.arithmetic == "fp32"
    for n in (5, 2, 5):
        (found,) = predictor.predict(batch[:n])
        np.testing.assert_allclose(found, expected[:n], rtol=0, atol=1e-4)
    assert found.dtype == np.float32


def test_predict_follows_onnx_runtime_within_bf16_when_the_precision_is_the_default(models: Path) -> None:
    source = open_model(models / "onnx-dynamic")
    batch = noise_batch(source.artifact, 4)
    (expected,) = load_predictor(source).predict(batch)
    predictor = load_predictor(source, engine="openvino")
    assert (predictor.engine, predictor.device) == ("openvino", "cpu")
    assert predictor.arithmetic in ("fp32", "bf16")
    np.testing.assert_allclose(predictor.predict(batch)[0], expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_predict_keeps_earlier_results_when_it_runs_again(models: Path) -> None:
    source = open_model(models / "onnx-dynamic")
    predictor = OpenVinoPredictor(source.artifact, source.file)
    (first,) = predictor.predict(noise_batch(source.artifact, 2))
    kept = first.copy()
    predictor.predict(noise_batch(source.artifact, 2, seed=1))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["onnx", "onnx-dynamic"])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_stream_returns_every_batch_in_order_when_several_are_in_flight(
    name: str, in_flight: int, models: Path
) -> None:
    source = open_model(models / name)
    predictor = OpenVinoPredictor(source.artifact, source.file, precision="fp32", streams=2, threads=2)
    batches = [noise_batch(source.artifact, 1 + i % 3, seed=i) for i in range(9)]
    found = list(run_stream(predictor, iter(batches), in_flight=in_flight))
    assert len(found) == 9
    for batch, outputs in zip(batches, found, strict=True):
        np.testing.assert_allclose(outputs[0], predictor.predict(batch)[0], rtol=0, atol=1e-5)


def test_loading_refuses_when_the_file_is_damaged_or_the_precision_unknown(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx")
    artifact = classifier_artifact(file)
    with pytest.raises(ValueError, match="'default' or 'fp32'"):
        OpenVinoPredictor(artifact, file, precision="int4")  # type: ignore[arg-type]
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=r"OpenVINO cannot load .*m\.onnx: [^\n]*$"):
        OpenVinoPredictor(artifact, file)


def test_loading_refuses_when_classes_do_not_fit(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx", classes=3)
    with pytest.raises(ArtifactError, match="returns 3 classes, its manifest names 4"):
        OpenVinoPredictor(classifier_artifact(file, classes=4), file)


def test_loading_tells_how_to_get_it_when_openvino_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    file = write_classifier(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="pip install openvino"):
        OpenVinoPredictor(classifier_artifact(file), file)


def test_nothing_is_reported_home_when_openvino_is_imported() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from paddle_tk.runtime.openvino_predictor import _openvino\n"
        "_openvino()\n"
        "import openvino.tools.ovc as ovc\n"
        "print(type(ovc.telemetry).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
