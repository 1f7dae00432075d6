from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.commands.estimate_memory import main
from paddle_tk.hardware.gpus import load_gpus

ROOT = Path(__file__).resolve().parents[2]
# The contract of the command.
KEYS = {"parameters_mb", "gradients_mb", "optimizer_mb", "activations_mb", "workspace_mb", "data_cache_mb", "peak_mb",
        "safety_margin_mb", "total_mb", "fits"}  # fmt: skip


def _run(folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "memory.json"
    assert main([*arguments, "--quiet", "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """ResNet-18 at a small size, AdamW, a memory of 0.25 GB named."""
    return _run(
        tmp_path_factory.mktemp("memory"), "--model", "resnet18", "--batch-size", "8", "--input-size", "64x96",
        "--optimizer", "adamw", "--num-classes", "10", "--gb", "0.25",
    )  # fmt: skip


def test_json_holds_the_contract_and_parts_add_up(trained: dict[str, Any]) -> None:
    assert set(trained) >= KEYS
    parts = ("parameters_mb", "gradients_mb", "optimizer_mb", "activations_mb", "workspace_mb")
    assert min(trained[part] for part in parts) >= 0
    assert sum(trained[part] for part in parts) == pytest.approx(trained["peak_mb"])
    assert trained["safety_margin_mb"] == pytest.approx(0.5 * (trained["peak_mb"] + trained["data_cache_mb"]))
    # 11,181,642 parameters of ResNet-18 with ten classes, 9,600 batch-norm statistics.
    assert trained["parameters_mb"] == pytest.approx((11_181_642 + 9_600) * 4 / 2**20)
    assert trained["gradients_mb"] == pytest.approx(11_181_642 * 4 / 2**20)
    assert trained["optimizer_mb"] == pytest.approx(2 * trained["gradients_mb"], rel=1e-3)


def test_fits_is_told_of_every_gpu_and_of_the_given_memory(trained: dict[str, Any]) -> None:
    assert set(trained["fits"]) == {*load_gpus().gpus, "0.25gb"}
    assert trained["fits"]["rtx3060-8gb"] is True
    assert trained["fits"]["0.25gb"] is False
    assert trained["largest_batch"]["0.25gb"] == 0
    assert trained["largest_batch"]["rtx3060-12gb"] > trained["largest_batch"]["rtx3060-8gb"] > 8
    assert trained["gpu_overhead"]["context"]["source"].startswith("https://")


def test_an_inference_has_no_gradients_and_half_precision_takes_less(tmp_path: Path) -> None:
    options = ("--model", "mobilenet_v3_small", "--input-size", "64", "--batch-size", "64", "--device", "gpu")
    inferred = _run(tmp_path, *options, "--inference")
    half = _run(tmp_path, *options, "--precision", "fp16", "--amp-level", "O2")
    assert (inferred["gradients_mb"], inferred["optimizer_mb"], inferred["data_cache_mb"]) == (0, 0, 0)
    assert half["peak_mb"] > 2 * inferred["peak_mb"]
    assert half["parameters_mb"] < 0.6 * inferred["parameters_mb"]
    assert half["device_overhead_mb"] == pytest.approx(load_gpus().overhead.total_mb)
    assert any("estimated" in note for note in half["notes"])


def test_a_config_is_taken_as_it_would_be_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "memory.json"
    config = ROOT / "configs" / "config.yaml"
    settings = [
        "model.name=lenet",
        "model.num_classes=7",
        "data.batch_size=24",
        "data.image_size=32",
        "trainer.ema_decay=0.9",
    ]
    code = main(["-c", str(config), *settings, "--json", str(file)])
    told = capsys.readouterr().out
    assert code == 0
    found = json.loads(file.read_text())
    assert (found["batch"], found["training"]["num_classes"], found["training"]["size"]) == (24, 7, [32, 32])
    assert found["averages_mb"] == pytest.approx(found["parameters_mb"])
    assert "lenet 32x32, batch 24, training, momentum" in told
    assert "GeForce RTX 4090" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "resnet50", "--batch-size", "0"], "got '0'"),
        (["--model", "resnet50", "--optimizer", "lion"], "lion"),
        (["--model", "yolov10n", "--input-size", "100x100"], "100x100"),
        (["--model", "inception_v3", "--input-size", "64"], "64x64"),
        (["--model", "resnet500"], "resnet500"),
        (["--model", "resnet50", "--precision", "fp16", "--device", "cpu"], "fp16"),
        (["--model", "resnet50", "--boxes", "3"], "--boxes"),
        (["--model", "yolov10n", "--stem", "small"], "--stem"),
        (["--model", "resnet50", "--gb", "0"], "got '0'"),
        (["--model", "resnet50", "trainer.ema_decay=0.9"], "-c CONFIG"),
        (["--model", "resnet18", "--framework", "torch", "--ema"], "EMA"),
        (["--model", "vgg16", "--stem", "small"], "small stem"),
        ([], "which network"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "memory.json"
    assert main([*arguments, "--json", str(file)]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1
    assert not file.exists()


def test_both_frameworks_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "memory.json"
    arguments = [
        "--model",
        "resnet18",
        "--input-size",
        "32",
        "--stem",
        "small",
        "--batch-size",
        "4",
        "--framework",
        "both",
    ]
    assert main([*arguments, "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["torch"]["parameters_mb"] == pytest.approx(found["parameters_mb"], rel=1e-4)
    assert found["torch"]["activations_mb"] == pytest.approx(found["activations_mb"], rel=0.5)
    assert "torch: fits" in capsys.readouterr().out
