from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.errors import BadInput
from paddle_tk.export.edge.devices import load_device
from paddle_tk.pipelines import latency_search
from paddle_tk.pipelines.latency_bench import Accuracy, Effort, MachineBench, Times
from paddle_tk.pipelines.latency_candidates import BATCHES, Candidate, ModelFile, Settings, allowed_cpus
from paddle_tk.pipelines.latency_limits import LatencyLimits
from paddle_tk.pipelines.latency_models import ModelMaker, Recipe
from paddle_tk.pipelines.latency_search import search_latency
from paddle_tk.pipelines.model_data import load_model_data
from paddle_tk.runtime.load import ModelSource, load_predictor, open_model

QUIET = Output(quiet=True)
SHORT = Effort(warmup=1, least=4, most=4)


def _maker(source: ModelSource, work: Path, **changes: object) -> ModelMaker:
    settings = QuantizeConfig(samples=32, max_size_ratio=1.0, max_drop=0.05)
    given: dict[str, object] = {"device": load_device("x86-cpu"), "quantization": settings, **changes}
    return ModelMaker(source, work, Recipe(**given), QUIET)  # type: ignore[arg-type]


def _bench(maker: ModelMaker, source: ModelSource) -> tuple[MachineBench, Candidate]:
    reference = maker.base().reference
    split = load_model_data(source, None).bundle.splits["test"]
    return MachineBench(reference, split.subset(np.arange(64))), reference


def _files(found: list[ModelFile]) -> list[tuple[str, str, int | None, tuple[str, ...]]]:
    return [(file.source.artifact.format, file.precision, file.batch_size, file.engines) for file in found]


def test_models_are_the_given_one_its_export_and_its_int8_form(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    maker = _maker(source, tmp_path, engines=("paddle", "onnxruntime"))
    made = maker.base()
    maker.add_int8(made, made.float_file)
    assert _files(made.files) == [
        ("paddle-safetensors", "fp32", None, ("paddle",)), ("onnx", "fp32", 1, ("onnxruntime",)),
        ("onnx", "int8", 1, ("onnxruntime",)),
    ]  # fmt: skip
    assert made.files[2].source.artifact.parent_sha256 == source.sha256
    assert made.left_out["openvino"] == "not asked for"
    assert made.reference.settings.engine == "onnxruntime"


def test_an_int8_model_that_the_gate_refuses_is_left_out_with_its_reason(models: Path, tmp_path: Path) -> None:
    maker = _maker(
        open_model(models / "run"), tmp_path, quantization=QuantizeConfig(samples=32, max_size_ratio=0.01),
    )  # fmt: skip
    made = maker.base()
    maker.add_int8(made, made.float_file)
    assert {file.precision for file in made.files} == {"fp32"}
    assert "the INT8 model does not ship" in made.left_out["int8 28x28"]


def test_larger_batches_get_files_of_their_own_that_compute_the_same(models: Path, tmp_path: Path) -> None:
    maker = _maker(open_model(models / "run"), tmp_path, engines=("onnxruntime",), batches=True)
    made = maker.base()
    maker.add_int8(made, made.float_file)
    for precision in ("fp32", "int8"):
        files = [file for file in made.files if file.precision == precision]
        assert [file.batch_size for file in files] == [1, *BATCHES]
        assert len({file.identity for file in files}) == 1
        batch = np.random.default_rng(0).standard_normal((4, 3, 28, 28)).astype(np.float32)
        one, four = (load_predictor(file.source).predict(batch)[0] for file in files[:2])
        np.testing.assert_allclose(one, four, atol=1e-4)


def test_another_input_size_counts_only_where_it_is_accepted(models: Path, tmp_path: Path) -> None:
    maker = _maker(open_model(models / "run"), tmp_path, engines=("paddle", "onnxruntime"))
    made = maker.base()
    asked: list[Settings] = []

    def judged(candidate: Candidate) -> str:
        asked.append(candidate.settings)
        return "" if candidate.model.size == (32, 32) else "it is blind there"

    maker.add_size(made, (36, 36), judged)
    assert {file.size for file in made.files} == {(28, 28)}
    assert made.left_out["36x36"] == "it is blind there"
    maker.add_size(made, (32, 32), judged)
    assert [own.input_size for own in asked] == [(36, 36), (32, 32)]
    paddle, onnx, int8 = [file for file in made.files if file.size == (32, 32)]
    assert int8.source.artifact.parent_sha256 == onnx.source.sha256
    batch = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    found = [load_predictor(file.source).predict(batch)[0] for file in (paddle, onnx)]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_a_size_that_the_network_cannot_take_is_told(models: Path, tmp_path: Path) -> None:
    maker = _maker(open_model(models / "run"), tmp_path, engines=("onnxruntime",), precisions=("fp32",))
    made = maker.base()
    maker.add_size(made, (4, 4), lambda candidate: "")
    assert made.left_out["4x4"]
    assert {file.size for file in made.files} == {(28, 28)}


def test_only_a_paddle_model_is_tried_at_another_size(models: Path, tmp_path: Path) -> None:
    maker = _maker(open_model(models / "onnx"), tmp_path)
    made = maker.base()
    maker.add_size(made, (32, 32), lambda candidate: "")
    assert made.left_out["32x32"] == "the file takes one size; only a Paddle model is exported at another"
    assert {file.size for file in made.files} == {(28, 28)}


def test_times_are_those_of_fresh_processes_and_failures_are_told(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    bench, reference = _bench(_maker(source, tmp_path), source)
    broken = Candidate(
        ModelFile(ModelSource(reference.model.source.artifact, tmp_path / "gone" / "model.onnx", None), ()),
        reference.settings,
    )
    flying = reference.changed(in_flight=2)
    plain, failed, several = bench.times([reference, broken, flying], Effort(rounds=2, warmup=1, least=4, most=4))
    assert isinstance(plain, Times)
    assert plain.latency.n == 8
    assert len(plain.latency.per_round_median_ms) == 2
    assert plain.arithmetic == "fp32"
    assert 20 < plain.peak_mib < 4096
    assert isinstance(failed, str)
    assert isinstance(several, Times)
    assert several.images_per_second > 0
    (rated,) = bench.times([reference], Effort(warmup=1, least=1, most=1, streams=(2,)))
    assert isinstance(rated, Times)
    assert list(rated.rates) == [2]


def test_a_candidate_is_confined_to_its_processors(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    bench, reference = _bench(_maker(source, tmp_path), source)
    cpus = allowed_cpus()
    pinned = reference.changed(threads=1, affinity=cpus[:1])
    every = reference.changed(threads=len(cpus), affinity=cpus)
    assert all(isinstance(found, Times) for found in bench.times([pinned, every], SHORT))


def test_accuracy_is_measured_once_for_what_computes_the_same(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    bench, reference = _bench(_maker(source, tmp_path), source)
    first = bench.accuracy(reference)
    assert first.n == 64
    assert first.value is not None
    assert first.value > 0.8
    assert bench.accuracy(reference.changed(threads=2, preallocate=True)) is first


def test_outputs_are_compared_where_nothing_is_labelled(models: Path, tmp_path: Path) -> None:
    maker = _maker(open_model(models / "run"), tmp_path)
    reference = maker.base().reference
    bench = MachineBench(reference, None)
    assert bench.accuracy(reference) == Accuracy(None, 0, same=True)


def test_an_onnx_file_without_its_run_is_searched_for_what_computes_the_same(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latency_search, "available_cores", lambda: 1)  # fewer candidates, fewer processes
    source = ModelSource(open_model(models / "onnx").artifact, models / "onnx" / "model.onnx", None)
    found = search_latency(source, tmp_path, LatencyLimits(max_memory_mib=8192), engines=("onnxruntime",), output=QUIET)
    assert found.settings.precision == "fp32"
    assert found.said["accuracy"]["n"] == 0
    assert found.said["accuracy"]["chosen"] is None
    assert "no labelled images" in found.said["left_out"]["int8"]
    assert found.model.sha256 == source.sha256
    assert open_model(tmp_path / "model").sha256 == source.sha256
    assert json.loads((tmp_path / "latency.json").read_text())["runner"] == found.runner


def test_an_unknown_engine_is_refused_before_anything_is_done(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown engine 'onnx'"):
        search_latency(
            open_model(models / "run"), tmp_path, LatencyLimits(min_fps=1), engines=("onnx",), output=QUIET
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
