from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddle_tk.commands.optimize_for_edge import main
from paddle_tk.runtime.load import load_predictor, open_model

# One engine keeps these real searches short; no figure of them is held against a limit that it could miss.
QUICK = ("--engines", "onnxruntime", "--quiet")


def _search(model: Path, output: Path, *options: str) -> int:
    return main(["--model-path", str(model), "--output", str(output), *QUICK, *options])


def test_the_result_is_a_model_that_runs_with_the_settings_that_were_measured(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "fast"
    given = ("--target-latency", "10s", "--max-memory", "8GB", "quantize.max_size_ratio=1", "quantize.samples=32")
    assert _search(models / "run", output, *given) == 0
    assert "p95" in capsys.readouterr().out
    said = json.loads((output / "latency.json").read_text())
    source = open_model(output / "model")
    assert source.sha256 == said["model_sha256"]
    own = said["settings"]
    predictor = load_predictor(source, engine=own["engine"], threads=own["threads"], options=said["options"])
    assert predictor.artifact.precision == own["precision"]
    assert said["accuracy"]["fp32"] - said["accuracy"]["chosen"] <= 0.01
    assert said["accuracy"]["n"] == 359
    assert 0 < said["p50_ms"] <= said["p95_ms"] <= said["p99_ms"]
    assert said["n"] >= 200
    assert len(said["latency"]["samples_ms"]) == said["n"]
    tried = {(entry["settings"]["precision"], entry["settings"]["threads"]) for entry in said["candidates"]}
    assert {precision for precision, _ in tried} == {"fp32", "int8"}
    assert {row["verdict"] for row in said["published_targets"]} <= {"met", "not met"}
    assert said["throughput"][1]["settings"]["in_flight"] >= 2
    assert said["left_out"]["openvino"] == "not asked for"
    assert {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()} == {
        "latency.json", *said["files"],
    }  # fmt: skip


def test_nothing_is_written_and_the_closest_is_told_when_nothing_fits(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _search(models / "run", tmp_path / "fast", "--target-latency", "0.1us", "--quantization", "fp32") == 1
    told = capsys.readouterr().err.replace("\n", " ")
    assert "no candidate keeps p95 <= 0.0001 ms: the closest is onnxruntime fp32 28x28" in told
    assert "Fix: " in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target-latency", "50ms", "--quantization", "fp16"), "fp16 is for a bundle"),
        (("--target-latency", "soon"), "such as 50ms"),
        (("--target-latency", "50ms", "--engines", "caffe"), "unknown engine 'caffe'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    options: tuple[str, ...],
    said: str,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _search(models / "run", tmp_path / "fast", *options) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_not_replaced(models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert _search(models / "run", tmp_path, "--target-latency", "50ms") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
