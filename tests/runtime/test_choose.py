from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime import choose, engines
from paddle_tk.runtime.choose import choose_engine, cosine
from paddle_tk.runtime.engines import ENGINES, Engine
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.types import ModelArtifact
from tests.runtime.tiny_onnx import classifier_artifact, write_classifier

ODD: list[Any] = []


class OddPredictor:
    """An engine whose outputs are what the test puts into ``ODD``."""

    device, engine, arithmetic = "cpu", "odd", "fp32"

    def __init__(self, artifact: ModelArtifact, file: Path) -> None:
        self.artifact = artifact

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        (answer,) = ODD
        if isinstance(answer, Exception):
            raise answer
        return (answer,)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Adds the engine "odd" for ONNX files and leaves only ONNX Runtime beside it."""
    added = Engine("odd", ("onnx",), f"{__name__}:OddPredictor", (), "numpy", ("numpy",), "")
    monkeypatch.setattr(engines, "ENGINES", {"onnxruntime": ENGINES["onnxruntime"], "odd": added})
    monkeypatch.setattr(choose, "ENGINES", engines.ENGINES)
    ODD.clear()
    return ODD


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_classifier(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["run", "onnx"])
def test_choice_is_the_lowest_median_and_is_remembered_when_asked_again(
    name: str, models: Path, tmp_path: Path
) -> None:
    source, cache = open_model(models / name), tmp_path / "home" / "engines.json"
    first = choose_engine(source.artifact, source.file, cache=cache)
    expected = {"paddle", "paddle-inference"} if name == "run" else {"onnxruntime"}
    assert expected <= set(first.median_ms)
    assert first.name == min(first.median_ms, key=lambda key: first.median_ms[key])
    assert all(n >= 10 for n in first.samples.values())
    assert not first.remembered
    again = choose_engine(source.artifact, source.file, cache=cache)
    assert again == replace(first, remembered=True)
    assert f"engine {first.name}, measured earlier on a batch of 1 with 1 thread(s): " in again.line()
    assert load_predictor(source, engine=first.name).engine == first.name


def test_choice_is_measured_anew_when_threads_batch_or_model_differ(file: Path, tmp_path: Path) -> None:
    artifact, cache = classifier_artifact(file), tmp_path / "engines.json"
    assert not choose_engine(artifact, file, cache=cache).remembered
    assert not choose_engine(artifact, file, cache=cache, threads=2).remembered
    assert not choose_engine(artifact, file, cache=cache, batch_size=2).remembered
    other = write_classifier(tmp_path / "other.onnx", scale=2.0)
    assert not choose_engine(classifier_artifact(other), other, cache=cache).remembered
    assert choose_engine(artifact, file, cache=cache).remembered
    assert len(json.loads(cache.read_text())["choices"]) == 4


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"schema_version": 99, "choices": {}}', '{"schema_version": 1, "choices": 7}', "\0\xff"],
)
def test_choice_is_measured_and_the_cache_rewritten_when_it_is_damaged(
    content: str, file: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "engines.json"
    cache.write_bytes(content.encode("latin-1"))
    assert not choose_engine(classifier_artifact(file), file, cache=cache).remembered
    assert choose_engine(classifier_artifact(file), file, cache=cache).remembered


@pytest.mark.parametrize(
    "change", [{"name": "caffe"}, {"median_ms": {}}, {"median_ms": {"onnxruntime": float("nan")}}, {"speed": 1}, None]
)
def test_choice_is_measured_when_its_entry_makes_no_sense(
    change: dict[str, Any] | None, file: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "engines.json"
    choose_engine(classifier_artifact(file), file, cache=cache)
    raw = json.loads(cache.read_text())
    (key,) = raw["choices"]
    raw["choices"][key] = None if change is None else {**raw["choices"][key], **change}
    cache.write_text(json.dumps(raw))
    assert not choose_engine(classifier_artifact(file), file, cache=cache).remembered
    assert choose_engine(classifier_artifact(file), file, cache=cache).remembered


def test_choice_is_made_when_the_cache_cannot_be_written(file: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    choice = choose_engine(classifier_artifact(file), file, cache=tmp_path / "blocked" / "engines.json")
    assert choice.name in choice.median_ms


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.array([[1.0, -5.0, 2.0]], np.float32), "its output differs (cosine "),
        (np.full((1, 3), np.nan, np.float32), "its output differs (cosine -1.0000"),
        (np.zeros((1, 4), np.float32), "its output differs (cosine -1.0000"),
        (ArtifactError("no operator Foo", "x"), "no operator Foo"),
        (RuntimeError("boom\nbang"), "boom bang"),
    ],
)
def test_engine_is_left_out_with_the_reason_when_it_fails_or_computes_something_else(
    answer: Any, reason: str, odd: list[Any], file: Path, tmp_path: Path
) -> None:
    odd.append(answer)
    choice = choose_engine(classifier_artifact(file), file, cache=tmp_path / "engines.json")
    assert choice.name == "onnxruntime"
    assert choice.left_out["odd"].startswith(reason)
    assert f"; without odd: {reason}" in choice.line()


def test_engine_is_kept_when_it_only_rounds_otherwise(odd: list[Any], file: Path, tmp_path: Path) -> None:
    artifact = classifier_artifact(file)
    (right,) = load_predictor(open_like(artifact, file)).predict(choose.noise_batch(artifact, 1))
    odd.append(right * (1 + 0.004 * np.array([1, -1, 1], np.float32)))
    choice = choose_engine(artifact, file, cache=tmp_path / "engines.json")
    assert set(choice.median_ms) == {"onnxruntime", "odd"}
    assert choice.name == "odd"  # it computes nothing at all


def test_failure_of_the_formats_own_engine_is_told_when_no_engine_can_load_the_model(
    odd: list[Any], tmp_path: Path
) -> None:
    odd.append(RuntimeError("boom"))
    file = write_classifier(tmp_path / "m.onnx")
    artifact = classifier_artifact(file)
    file.write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="it is no ONNX file"):
        choose_engine(artifact, file, cache=tmp_path / "engines.json")


def test_choice_tells_what_to_install_when_no_engine_is(
    odd: list[Any], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(ENGINES["onnxruntime"], module="no_such_module_anywhere")
    monkeypatch.setattr(engines, "ENGINES", {"onnxruntime": own})
    monkeypatch.setattr(choose, "ENGINES", engines.ENGINES)
    with pytest.raises(BadInput, match=r"no engine for onnx models is installed.*pip install onnxruntime"):
        choose_engine(classifier_artifact(file), file, cache=tmp_path / "engines.json")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1, 0], [2, 0], 1), ([1, 0], [0, 1], 0), ([1, 0], [-1, 0], -1), ([0, 0], [0, 0], 1), ([0, 0], [1, 0], -1)],
)
def test_cosine_of_outputs_is_right_also_when_one_is_zero(a: list[float], b: list[float], expected: float) -> None:
    assert cosine(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(expected)


def open_like(artifact: ModelArtifact, file: Path) -> Any:
    from paddle_tk.runtime.load import ModelSource

    return ModelSource(artifact, file, None)
