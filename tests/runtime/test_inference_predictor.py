from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.runtime import inference_predictor
from paddle_tk.runtime.base import noise_batch
from paddle_tk.runtime.inference_predictor import InferencePredictor
from paddle_tk.runtime.load import load_predictor, open_model
from tests.tiny_detection import NETWORKS, detectors  # noqa: F401


def test_predict_agrees_with_the_network_when_batches_differ(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = open_model(models / "run")
    predictor = load_predictor(source, engine="paddle-inference")
    assert isinstance(predictor, InferencePredictor)
    assert predictor.without_onednn is None
    assert (predictor.engine, predictor.device, predictor.arithmetic) == ("paddle-inference", "cpu", "fp32")
    for n in (3, 1, 5):
        batch = noise_batch(source.artifact, n, seed=n)
        (expected,) = load_predictor(source).predict(batch)
        np.testing.assert_allclose(predictor.predict(batch)[0], expected, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="expected a float32 batch"):
        predictor.predict(np.zeros((1, 3, 9, 9), np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NETWORKS)
def test_predict_agrees_with_a_detector_and_uses_onednn(name: str, detectors: Path) -> None:  # noqa: F811
    source = open_model(detectors / name)
    batch = noise_batch(source.artifact, 2, seed=1)
    predictor = InferencePredictor(source.artifact, source.file)
    assert predictor.without_onednn is None
    for found, expected in zip(predictor.predict(batch), load_predictor(source).predict(batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * max(1.0, float(np.abs(expected).max())))


def test_onednn_is_left_out_with_the_reason_when_it_cannot_run_an_operator(
    detectors: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference_predictor, "_tiled_upsampling", nullcontext)
    source = open_model(detectors / "yolov10n")
    predictor = InferencePredictor(source.artifact, source.file)
    assert "not support" in (predictor.without_onednn or "")
    batch = noise_batch(source.artifact, 1, seed=1)
    for found, expected in zip(predictor.predict(batch), load_predictor(source).predict(batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_loading_refuses_when_the_result_differs_from_the_network(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_predictor, "_TOLERANCE", -1.0)
    source = open_model(models / "run")
    with pytest.raises(ArtifactError, match=r"differs by more than .* from the network's.*--engine paddle"):
        InferencePredictor(source.artifact, source.file)


@pytest.mark.parametrize("size", [[8, 12], [4, 4], [5, 7], (4, 6)])
def test_upsampling_gives_the_same_bits_when_it_is_traced_as_repetition(size: list[int]) -> None:
    image = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 4, 6), dtype=np.float32))
    functional = paddle.nn.functional
    original = functional.interpolate
    expected = functional.interpolate(image, size=size, mode="nearest").numpy()
    with inference_predictor._tiled_upsampling():
        assert functional.interpolate is not original
        np.testing.assert_array_equal(functional.interpolate(image, size=size, mode="nearest").numpy(), expected)
        other = functional.interpolate(image, size=size, mode="bilinear").numpy()
    assert functional.interpolate is original
    np.testing.assert_array_equal(functional.interpolate(image, size=size, mode="bilinear").numpy(), other)
