from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from visualdl import LogReader

from paddle_tk.training.loggers import record_scalars
from paddle_tk.training.loggers.visualdl_records import record_files
from paddle_tk.training.loggers.visualdl_sink import VisualDLSink

ROOT = Path(__file__).resolve().parents[3]


def step(number: int, loss: float = 1.0) -> dict[str, Any]:
    return {
        "kind": "step",
        "epoch": 1 + (number - 1) // 4,
        "step": number,
        "loss": loss,
        "learning_rate": 0.1,
    }


def epoch(number: int) -> dict[str, Any]:
    return {"kind": "epoch", "epoch": number, "step": 4 * number, "val_top1": 0.5}


def two_epochs() -> list[dict[str, Any]]:
    return [*map(step, range(1, 5)), epoch(1), *map(step, range(5, 9)), epoch(2)]


def start(folder: Path, replay: list[dict[str, Any]]) -> VisualDLSink:
    return VisualDLSink(folder, name="run", config={}, replay=replay)


def log(sink: VisualDLSink, records: list[dict[str, Any]]) -> None:
    for record in records:
        sink.scalars(record_scalars(record), record["step"])
        if record["kind"] == "epoch":
            sink.image("val/confusion_matrix", picture(record["epoch"]), record["step"])


def picture(epoch_number: int) -> np.ndarray:
    image = np.zeros((6, 5, 3), np.uint8)
    image[..., 0] = 200
    image[..., 2] = epoch_number
    return image


def served(folder: Path) -> LogReader:
    """The one file of a folder that VisualDL's server reads, through VisualDL's own reader."""
    return LogReader(file_path=str(record_files(folder)[-1]))


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(item.id, item.value) for item in served(folder).get_data("scalar", tag)]


def pictures(folder: Path) -> dict[int, np.ndarray]:
    items = served(folder).get_data("image", "val/confusion_matrix")
    decode = {i.id: cv2.imdecode(np.frombuffer(i.image.encoded_image_string, np.uint8), 1) for i in items}
    assert len(decode) == len(items)
    return {number: image[..., ::-1] for number, image in decode.items()}


def test_sink_writes_what_was_logged_when_run_is_fresh(tmp_path: Path) -> None:
    sink = start(tmp_path / "vdl", [])
    log(sink, two_epochs())
    sink.close()
    sink.close()

    assert points(tmp_path / "vdl", "train/loss") == [(n, 1.0) for n in range(1, 9)]
    assert points(tmp_path / "vdl", "epoch/val_top1") == [(4, 0.5), (8, 0.5)]
    assert np.array_equal(pictures(tmp_path / "vdl")[8], picture(2))


def test_sink_prints_nothing_when_it_starts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start(tmp_path, []).close()
    assert capfd.readouterr().out == ""


def test_sink_shows_each_step_once_when_run_is_resumed_again_and_again(tmp_path: Path) -> None:
    records = two_epochs()
    for kept in (0, 3, 6, 6, 8):  # how many records the checkpoint of each start knows
        sink = start(tmp_path, records[:kept])
        log(sink, records[kept:9])
        sink.close()
    sink = start(tmp_path, records[:7])
    log(sink, records[7:])
    sink.close()

    for tag, expected in (("train/loss", range(1, 9)), ("epoch/val_top1", (4, 8))):
        assert Counter(n for n, _ in points(tmp_path, tag)) == dict.fromkeys(expected, 1)
    assert sorted(pictures(tmp_path)) == [4, 8]


def test_sink_forgets_steps_after_the_checkpoint_when_run_is_resumed(tmp_path: Path) -> None:
    sink = start(tmp_path, [])
    log(sink, two_epochs())
    sink.close()

    start(tmp_path, two_epochs()[:6]).close()

    assert [n for n, _ in points(tmp_path, "train/loss")] == [1, 2, 3, 4, 5]
    assert sorted(pictures(tmp_path)) == [4]


def test_sink_keeps_the_times_when_run_is_resumed(tmp_path: Path) -> None:
    sink = start(tmp_path, [])
    log(sink, two_epochs())
    sink.close()
    before = {i.id: i.timestamp for i in served(tmp_path).get_data("scalar", "train/loss")}

    start(tmp_path, two_epochs()).close()

    assert {i.id: i.timestamp for i in served(tmp_path).get_data("scalar", "train/loss")} == before


def test_sink_empties_older_files_rather_than_deleting_them_when_run_is_resumed(tmp_path: Path) -> None:
    start(tmp_path, []).close()
    old = record_files(tmp_path)
    start(tmp_path, two_epochs()).close()
    files = record_files(tmp_path)
    assert files[:-1] == old
    assert [file.stat().st_size > 0 for file in files] == [False, True]
    assert {p.name for p in tmp_path.iterdir()} == {file.name for file in files}


def test_sink_starts_again_when_the_last_record_was_cut_off(tmp_path: Path) -> None:
    sink = start(tmp_path, [])
    log(sink, two_epochs())
    sink.close()
    file = record_files(tmp_path)[-1]
    for size in (file.stat().st_size - 3, 5, 0):
        os.truncate(file, size)
        sink = start(tmp_path, two_epochs()[:5])
        log(sink, two_epochs()[5:])
        sink.close()
        assert points(tmp_path, "train/loss") == [(n, 1.0) for n in range(1, 9)]
        file = record_files(tmp_path)[-1]


def test_sink_starts_again_when_the_old_file_is_garbage(tmp_path: Path) -> None:
    (tmp_path / "vdlrecords.0000000009.log").write_bytes(b"\x05" + 7 * b"\0" + b"\xff" * 300)
    start(tmp_path, two_epochs()).close()
    assert points(tmp_path, "train/loss") == [(n, 1.0) for n in range(1, 9)]


def test_sink_keeps_nan_and_infinity_when_training_diverges(tmp_path: Path) -> None:
    sink = start(tmp_path, [step(1, float("nan"))])
    sink.scalars({"train/loss": float("inf")}, 2)
    sink.scalars({"train/loss": 0.25}, 3)
    sink.close()
    values = [value for _, value in points(tmp_path, "train/loss")]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, 0.25]


def test_sink_takes_hyper_parameters_of_any_simple_type_when_run_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = start(tmp_path, [])
    sink.scalars({"train/loss": 1.0}, 8)
    values: dict[str, Any] = {"rate": 0.1, "model": "resnet18", "flip": True, "n": np.int64(3), "none": None}
    sink.hparams(values, {"top1": 0.75})
    sink.close()

    (found,) = served(tmp_path).get_data("hyper_parameters", "hparam")
    kinds = {info.name: info.WhichOneof("type") for info in found.hparam.hparamInfos}
    assert kinds == {"rate": "float_value", "model": "string_value", "flip": "string_value", "n": "int_value",
                     "none": "string_value"}  # fmt: skip
    assert [info.name for info in found.hparam.metricInfos] == ["hparam/top1"]
    assert points(tmp_path, "hparam/top1") == [(8, 0.75)]
    assert capfd.readouterr().out == ""


def test_sink_loses_nothing_that_was_logged_when_killed(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from paddle_tk.training.loggers.visualdl_sink import VisualDLSink\n"
        "sink = VisualDLSink(Path(sys.argv[1]), name='run', config={}, replay=[])\n"
        "for step in range(1, 10**6):\n"
        "    sink.scalars({'train/loss': float(step)}, step)\n"
        "    print(step, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    while (logged := int(child.stdout.readline())) < 25:
        pass
    child.kill()
    logged = max([logged, *map(int, child.stdout.read().split())])
    child.wait()

    shown = points(tmp_path, "train/loss")
    assert shown[:logged] == [(n, float(n)) for n in range(1, logged + 1)]
