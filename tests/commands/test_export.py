from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from paddle_tk.commands.eval import main as evaluate
from paddle_tk.commands.export import main
from paddle_tk.manifest import load_manifest
from tests.tiny_run import flip_byte


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_export_writes_model_manifest_and_parity_when_both_agree(models: Path) -> None:
    folder = models / "onnx"
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "manifest.json", "parity.json", "training_config.yaml"}
    artifact, parity = load_manifest(folder), _json(folder / "parity.json")
    assert (artifact.format, artifact.inputs[0].shape) == ("onnx", (1, 3, 28, 28))
    assert artifact.parent_sha256 == load_manifest(models / "run" / "model").sha256["model.safetensors"]
    assert (parity["passed"], parity["top1_agreement"], parity["n"]) == (True, 1.0, 64)
    assert parity["samples"] == "digits test images"
    assert 0 < parity["relative_difference"] < 1e-4
    assert artifact.metrics["parity"]["max_abs_difference"] == parity["max_abs_difference"]


def test_export_replaces_its_own_output_but_no_other_folder_when_run_again(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(models / "onnx", out)
    arguments = ["--quiet", "--model", str(models / "run"), "--output", str(out), "--samples", "3"]
    assert main([*arguments, "--dynamic-batch", "--opset", "13"]) == 0
    assert "an earlier export was replaced" in capsys.readouterr().out
    assert (_json(out / "parity.json")["opset"], _json(out / "parity.json")["n"]) == (13, 3)
    assert load_manifest(out).inputs[0].shape == (None, 3, 28, 28)

    (out / "notes.txt").write_text("mine")
    assert main(arguments) == 2
    assert "notes.txt" in _one_error(capsys)
    assert (out / "notes.txt").read_text() == "mine"


def test_export_refuses_to_replace_when_the_folder_is_a_trained_model(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    assert main(["--model", str(tmp_path / "model"), "--output", str(tmp_path / "model")]) == 2
    assert "no earlier export" in _one_error(capsys)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_export_exits_1_and_writes_nothing_when_parity_fails(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No two implementations agree to 1e-12 in float32.
    assert main(["--model", str(models / "run"), "--output", str(tmp_path / "out"), "--tolerance", "1e-12"]) == 1
    assert "does not compute what the Paddle model computes" in _one_error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_export_warns_and_uses_noise_when_the_dataset_is_unknown(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "out"), "--samples", "4"]
    assert main([*arguments, "--input-size", "32x36"]) == 0
    said = capsys.readouterr()
    assert "compared on noise" in said.err
    assert "trained at 28x28 px and exported at 32x36" in said.err
    assert _json(tmp_path / "out" / "parity.json")["samples"] == "noise, seed 0"
    assert load_manifest(tmp_path / "out").preprocessing.size == (32, 36)
    assert evaluate(["--quiet", "--model", str(tmp_path / "out"), "--data", "digits"]) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--opset", "99"], "from 9 to 21"),
        (["--opset", "new"], "--opset"),
        (["--input-size", "4x4"], "from 8 to 4096"),
        (["--input-size", "big"], "HxW"),
        (["--input-size", "10x10"], "lenet"),
        (["--input-size", "10x10"], "choose another --input-size"),
        (["--target-device", "jetson-nanoo"], "did you mean 'jetson-nano'"),
        (["--target-device", "jetson-nano", "--opset", "17"], "jetson-nano takes opset 13 at most"),
        (["--ir-version", "6"], "does not go with opset 17"),
        (["--samples", "0"], "at least 1"),
        (["--data", "nothing"], "known: "),
        (["model.name=x"], "data.KEY=VALUE"),
    ],
)
def test_export_exits_2_and_writes_nothing_when_asked_for_what_cannot_be(
    arguments: list[str], expected: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(models / "run"), "--output", str(tmp_path / "out"), *arguments]) == 2
    assert expected in _one_error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_export_exits_2_when_the_model_is_onnx_already(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    onnx.save(onnx.helper.make_model(foreign, opset_imports=[onnx.helper.make_opsetid("", 12)]), tmp_path / "it.onnx")
    for model, expected in (
        (models / "onnx", "only Paddle models"),
        (models / "onnx" / "model.onnx", "is ONNX already (opset 17, IR version 8)"),
        (tmp_path / "it.onnx", "is ONNX already (opset 12, "),
    ):
        assert main(["--model", str(model), "--output", str(tmp_path / "out"), "--opset", "13"]) == 2
        assert expected in _one_error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_export_exits_2_when_the_model_is_no_onnx_file(
    damage: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (models / "onnx" / "model.onnx").read_bytes()
    content = {"empty": b"", "text": b"no model at all\n", "truncated": whole[: len(whole) // 2]}[damage]
    (tmp_path / "bad.onnx").write_bytes(content)
    assert main(["--model", str(tmp_path / "bad.onnx"), "--output", str(tmp_path / "out")]) == 2
    assert "is no ONNX model" in _one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_export_writes_what_the_device_takes_when_one_is_named(models: Path, tmp_path: Path) -> None:
    arguments = ["--quiet", "--model", str(models / "run"), "--samples", "4"]
    assert main([*arguments, "--output", str(tmp_path / "nano"), "--target-device", "jetson-nano"]) == 0
    model = onnx.load(str(tmp_path / "nano" / "model.onnx"))
    assert (model.ir_version, model.opset_import[0].version) == (7, 13)
    said = load_manifest(tmp_path / "nano").metrics["export"]
    assert (said["device"], said["opset"], said["ir_version"]) == ("jetson-nano", 13, 7)
    assert said["nodes"] == len(model.graph.node) < said["nodes_converted"]
    assert set(said["versions"]) == {"paddlepaddle", "paddle2onnx", "onnx"}


@pytest.mark.parametrize("latency_only", [False, True])
def test_export_says_in_manifest_and_report_when_the_size_was_not_trained(
    latency_only: bool, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--allow-unvalidated"] if latency_only else []
    arguments = ["--model", str(models / "run"), "--output", str(tmp_path / "out"), "--samples", "4", *flags]
    assert main([*arguments, "--input-size", "32x36"]) == 0
    said = capsys.readouterr()
    assert ("may be far lower" in said.err) != latency_only
    assert ("for latency only" in said.out) == latency_only
    expected = "not validated at this size" + (": for latency only" if latency_only else "")
    for found in (load_manifest(tmp_path / "out").metrics["export"], _json(tmp_path / "out" / "parity.json")):
        assert (found["trained_at"], found["exported_at"], found["accuracy"]) == ([28, 28], [32, 36], expected)


def test_export_tool_prints_no_chatter_and_refuses_a_damaged_model(
    models: Path, tmp_path: Path, tool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shutil.copytree(models / "run", tmp_path / "run")
    good = tool("export", "--model", "run", "--output", "out", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert [line.split(" ")[0] for line in good.stdout.splitlines()] == ["parity:", "ONNX"]

    flip_byte(tmp_path / "run" / "model" / "model.safetensors")
    bad = tool("export", "--model", "run", "--output", "other", cwd=tmp_path)
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "sha256" in bad.stderr
    assert not (tmp_path / "other").exists()
