from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.models.weights import read_weights, write_safetensors
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.runtime.paddle_predictor import PaddlePredictor
from tests.tiny_run import rewrite_manifest


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    return tmp_path / "model"


def _architecture(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text())["architecture"])


def test_predict_gives_each_image_its_logits_when_batches_differ(models: Path) -> None:
    predictor = load_predictor(open_model(models / "run"))
    assert isinstance(predictor, PaddlePredictor)
    batch = np.random.default_rng(0).standard_normal((5, 3, 28, 28), dtype=np.float32)
    (together,) = predictor.predict(batch)
    apart = np.concatenate([predictor.predict(image[np.newaxis])[0] for image in batch])
    assert together.shape == (5, 10)
    assert together.dtype == np.float32
    assert len(np.unique(together[:, 0])) == 5
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(together, predictor.predict(batch)[0])


@pytest.mark.parametrize(
    "batch",
    [np.zeros((1, 3, 27, 28), np.float32), np.zeros((3, 28, 28), np.float32), np.zeros((1, 3, 28, 28)),
     np.zeros((0, 3, 28, 28), np.float32)],
)  # fmt: skip
def test_predict_refuses_when_the_batch_does_not_fit(batch: np.ndarray, models: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a float32 batch of shape \('B', 3, 28, 28\)"):
        load_predictor(open_model(models / "run")).predict(batch)


def test_loading_refuses_when_a_tensor_is_missing(copy: Path) -> None:
    arrays = read_weights(copy / "model.safetensors")
    write_safetensors({k: v for k, v in arrays.items() if k != "fc.2.bias"}, copy / "model.safetensors")
    rewrite_manifest(copy)
    with pytest.raises(ArtifactError, match=r"does not fit.*fc\.2\.bias"):
        load_predictor(open_model(copy))


def test_loading_refuses_when_the_architecture_is_another(copy: Path) -> None:
    rewrite_manifest(copy, architecture={**_architecture(copy), "name": "resnet18"})
    with pytest.raises(ArtifactError, match="another architecture"):
        load_predictor(open_model(copy))


@pytest.mark.parametrize(("key", "value"), [("num_classes", 7), ("image_size", None), ("num_classes", "many")])
def test_loading_refuses_when_the_architecture_is_nonsense(key: str, value: object, copy: Path) -> None:
    rewrite_manifest(copy, architecture={**_architecture(copy), key: value})
    with pytest.raises(ArtifactError, match="manifest"):
        load_predictor(open_model(copy))


def test_loading_lists_networks_when_the_name_is_unknown(copy: Path) -> None:
    rewrite_manifest(copy, architecture={**_architecture(copy), "name": "lenett"})
    with pytest.raises(BadInput, match="did you mean 'lenet'"):
        load_predictor(open_model(copy))
