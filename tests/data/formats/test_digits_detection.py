from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from paddle_tk.data.formats.digit_canvas import SIDE, Canvas
from paddle_tk.data.formats.digits_detection import CANVASES, draw_digits_detection
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import DataError
from tests.data.detection_sets import counts, load, part

# Of all pixels and boxes: whoever changes the drawing must raise RECIPE, and then this.
DIGEST = "949fb4ce95c5700d5909f8d7d77e693a021a57869c773e7f894deb9b8681a5a5"


@pytest.fixture(scope="module")
def canvases() -> dict[str, list[Canvas]]:
    raw = load_digits()
    return draw_digits_detection(raw.images.astype(np.int64), raw.target.astype(np.int64))


def test_digits_detection_draws_the_same_pixels_everywhere() -> None:
    load("digits_detection", None)
    (digest,) = cache_folder().glob("digits_detection-*/content.sha256")
    assert digest.read_text() == DIGEST


def test_digits_detection_uses_no_digit_in_two_splits(canvases: dict[str, list[Canvas]]) -> None:
    used = {split: {digit for canvas in drawn for digit in canvas.digits} for split, drawn in canvases.items()}
    assert sum(map(len, used.values())) == len(set.union(*used.values()))
    assert all(len(set(canvas.digits)) == len(canvas.digits) for drawn in canvases.values() for canvas in drawn)


def test_digits_detection_draws_few_to_many_digits_of_every_class_and_size(canvases: dict[str, list[Canvas]]) -> None:
    for drawn in canvases.values():
        counted = [len(canvas.boxes) for canvas in drawn]
        assert (min(counted), max(counted)) == (2, 6)
        classes = np.bincount(np.concatenate([canvas.boxes.class_ids for canvas in drawn]))
        assert len(classes) == 10
        assert classes.max() < 1.6 * classes.min()
        corners = np.concatenate([canvas.boxes.xyxy for canvas in drawn])
        heights = corners[:, 3] - corners[:, 1]
        assert heights.min() >= 14
        assert heights.max() == 56
        assert corners.min() >= 0
        assert corners.max() <= SIDE


def test_digits_detection_labels_each_box_with_its_source_digit(canvases: dict[str, list[Canvas]]) -> None:
    target = load_digits().target
    for canvas in canvases["val"]:
        assert canvas.boxes.class_ids.tolist() == [target[digit] for digit in canvas.digits]


def test_digits_detection_draws_boxes_tight_around_ink_that_stands_out(canvases: dict[str, list[Canvas]]) -> None:
    for canvas in canvases["test"][:40]:
        grey = canvas.image.astype(np.int64) @ np.array([299, 587, 114]) // 1000
        x1, y1, x2, y2 = canvas.boxes.xyxy[-1].astype(int)  # nothing covers the one drawn last
        inside = grey[y1:y2, x1:x2]
        assert inside.max() - inside.min() > 60
        outline = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
        assert outline.max() - outline.min() > 20


def test_digits_detection_covers_no_digit_by_much(canvases: dict[str, list[Canvas]]) -> None:
    for canvas in canvases["train"]:
        boxes = canvas.boxes.xyxy
        for i in range(len(boxes)):
            for other in boxes[i + 1 :]:
                sides = np.minimum(boxes[i][2:], other[2:]) - np.maximum(boxes[i][:2], other[:2])
                area = float(np.prod(np.maximum(sides, 0)))
                least = min(np.prod(boxes[i][2:] - boxes[i][:2]), np.prod(other[2:] - other[:2]))
                assert area <= 0.4 * least


def test_digits_detection_is_read_as_a_dataset_with_its_own_splits() -> None:
    bundle = load("digits_detection", None)
    assert {name: images for name, (images, _) in counts(bundle).items()} == CANVASES
    assert bundle.classes == tuple("0123456789")
    assert bundle.fingerprint == load("digits_detection", None, val_fraction=0.5, split_seed=9).fingerprint
    assert part(bundle, "val").image(7).shape == (SIDE, SIDE, 3)
    assert bundle.licence == "CC BY 4.0"


def test_digits_detection_says_what_to_do_when_its_folder_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path(part(load("digits_detection", None), "val").name(0)).parent.parent
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path))
    folder = Path(shutil.copytree(made, cache_folder() / made.name))
    (folder / "val" / "val_0003.png").unlink()
    with pytest.raises(DataError, match=r"val_0003\.png, which does not exist.*remove .*; it will be made"):
        load("digits_detection", None)
    (folder / "content.sha256").unlink()
    with pytest.raises(DataError, match="is damaged"):
        load("digits_detection", None)
    with pytest.raises(DataError, match="reads no folder"):
        load("digits_detection", tmp_path)


def test_digits_detection_is_written_once_when_two_processes_start_together(tmp_path: Path) -> None:
    code = (
        "from paddle_tk.data.datasets import load_dataset\n"
        "found = load_dataset('digits_detection', root=None, val_fraction=.1, test_fraction=.2, split_seed=0)\n"
        "print(found.fingerprint)"
    )
    environment = {**os.environ, "PADDLE_TK_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, cwd=root, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert len(set(said)) == 1
    assert [path.name for path in (tmp_path / "cache").glob("*digits*")] == ["digits_detection-2"]
    document = json.loads((tmp_path / "cache/digits_detection-2/annotations/instances_test.json").read_bytes())
    assert [category["name"] for category in document["categories"]] == list("0123456789")
