from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddle_tk.commands.dataset import main
from paddle_tk.commands.train import main as train
from tests.data.detection_sets import coco_root

TRAIN = [
    *("--quiet", "model=lenet", "data=shards", "data.image_size=28", "data.batch_size=64", "trainer.max_epochs=1"),
    *("trainer.optimizer=adamw", "trainer.learning_rate=0.002", "trainer.max_retries=0", "trainer.loggers=[]"),
]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def shard_digits(folder: Path, *flags: str) -> int:
    return main(["shard", "--data", "digits", "--output", str(folder), "--rows-per-shard", "500", *flags])


def test_dataset_shard_writes_what_can_be_validated_and_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, said = tmp_path / "s", tmp_path / "made.json"
    assert shard_digits(made, "--group-mb", "0.02", "--json", str(said)) == 0
    assert "digits as shards: 1797 images, 0.3 MB in" in capsys.readouterr().out
    report = json.loads(said.read_text())
    assert report["shards"] == {"train": 3, "val": 1, "test": 1}
    assert (report["images"], report["origin"], report["engine"]) == (1797, "measured", "local")
    assert main(["validate_shards", "--root", str(made), "--json", str(tmp_path / "checked.json")]) == 0
    assert "5 shards, 1797 images decoded" in capsys.readouterr().out
    assert json.loads((tmp_path / "checked.json").read_text())["good"] is True
    run = tmp_path / "run"
    assert train([*TRAIN, f"data.root={made}", "--run-dir", str(run), "data.shuffle_buffer=512"]) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["dataset"] == "shards"
    assert result["best"]["top1"] > 0.5


def test_dataset_shard_replaces_earlier_shards_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shard_digits(tmp_path / "s") == 0
    assert shard_digits(tmp_path / "s", "--compression", "zstd") == 0
    assert "(earlier shards were replaced)" in capsys.readouterr().out
    (tmp_path / "s" / "mine.txt").write_text("keep me")
    assert shard_digits(tmp_path / "s") == 2
    assert "holds what is no earlier set of shards: mine.txt" in error(capsys)
    assert main(["validate_shards", "--root", str(tmp_path / "s")]) == 1
    assert "1 file(s) of" in error(capsys)


def test_dataset_shard_leaves_nothing_behind_when_an_image_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_root(tmp_path / "coco")
    (root / "train" / "train_003.png").write_bytes(b"no image")
    arguments = ["shard", "--from", "coco", "--root", str(root), "--output", str(tmp_path / "s")]
    assert main(arguments) == 2
    assert "train_003.png" in error(capsys)
    assert not (tmp_path / "s").exists()
    assert main([*arguments, "--skip-unreadable"]) == 0
    said = capsys.readouterr()
    assert "1 unreadable image(s) left out" in said.err
    assert "coco as shards: 11 images" in said.out


def test_dataset_validate_shards_says_which_shard_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shard_digits(tmp_path / "s", "--quiet") == 0
    path = tmp_path / "s" / "train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["validate_shards", "--root", str(tmp_path / "s")]) == 1
    said = capsys.readouterr().err
    assert "warning: train-00001-of-00003.parquet: it has" in said
    assert "Traceback" not in said
    assert main(["validate_shards", "--root", str(tmp_path / "nowhere")]) == 2
    assert main(["validate", "--data", "shards", "--root", str(tmp_path / "s")]) == 2
    assert "python tools/dataset.py validate_shards" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--rows-per-shard", "0"], ["--shard-mb", "nan"], ["--workers", "x"], ["--compression", "lzma"]]
)
def test_dataset_shard_refuses_bad_numbers(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shard", "--data", "digits", "--output", str(tmp_path / "s"), *flags]) == 2
    assert flags[0] in error(capsys)
    assert not (tmp_path / "s").exists()


def test_dataset_shard_refuses_to_replace_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shard_digits(tmp_path / "s") == 0
    arguments = ["shard", "--data", "shards", "--root", str(tmp_path / "s"), "--output", str(tmp_path / "s")]
    assert main(arguments) == 2
    assert "holds, the dataset that is read" in error(capsys)
    assert main([*arguments[:-1], str(tmp_path / "t")]) == 0


def test_dataset_merge_shards_says_where_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert shard_digits(tmp_path / "all" / name, "--quiet") == 0
    merged = tmp_path / "merged.json"
    assert main(["merge_shards", "--root", str(tmp_path / "all"), "--json", str(merged)]) == 0
    said = json.loads(merged.read_text())
    assert (said["parts"], said["images"]) == (["one", "two"], {"train": 2588, "val": 288, "test": 718})
    assert (
        f"one dataset of 2 parts; train on it with data=shards data.root={tmp_path / 'all'}" in capsys.readouterr().out
    )
    assert main(["validate_shards", "--root", str(tmp_path / "all")]) == 0
    assert "10 shards, 3594 images decoded" in capsys.readouterr().out
    assert main(["merge_shards", "--root", str(tmp_path / "none")]) == 2
