"""A written project's settings.py and data.py, which are the same for both frameworks and import neither."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from paddle_tk.decide.scaffold import write_scaffold
from tests.decide.scaffold.projects import project, run

TELL = """
import json, sys
from pathlib import Path
import data, settings
def main():
    config = settings.read_config(Path(sys.argv[1]))
    told = {}
    for name, split in data.load(config).items():
        first, again = split[0][0], split[0][0]
        assert (first == again).all()
        told[name] = {"labels": split.labels.tolist(), "shape": first.shape, "sum": float(first.sum())}
    print(json.dumps(told))
    return 0
settings.command(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "project"
    write_scaffold(path, project("torch"))
    return path


def config(folder: Path, tmp_path: Path, **dataset: Any) -> Path:
    raw = yaml.safe_load((folder / "configs" / "quick.yaml").read_text())
    raw["dataset"] |= dataset
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def load(folder: Path, path: Path) -> Any:
    done = run(folder, "-c", TELL, str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(folder: Path, path: Path) -> str:
    done = run(folder, "-c", TELL, str(path))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def image(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), (grey, grey, grey)).save(path)


def test_digits_are_split_by_class_and_the_same_in_every_run(folder: Path, tmp_path: Path) -> None:
    path = config(folder, tmp_path, crop_padding=1, image_size=[12, 10])
    first, second = load(folder, path), load(folder, path)
    assert first == second
    assert {name: len(split["labels"]) for name, split in first.items()} == {"train": 1295, "val": 143, "test": 359}
    assert first["train"]["shape"] == [3, 12, 10]
    for split in first.values():
        assert set(split["labels"]) == set(range(10))


def test_image_folders_give_each_class_its_share_when_there_is_one_folder(folder: Path, tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / "images" / "a b" / f"{number}.png", 10)
        image(tmp_path / "images" / "c" / f"{number}.JPG", 200)
    (tmp_path / "images" / "c" / "notes.txt").write_text("no image")
    found = load(folder, config(folder, tmp_path, kind="folder", root=str(tmp_path / "images"), num_classes=2))
    assert {n: (s["labels"].count(0), s["labels"].count(1)) for n, s in found.items()} == {
        "train": (14, 14),
        "val": (2, 2),
        "test": (4, 4),
    }
    assert found["train"]["shape"] == [3, 8, 8]


def test_image_folders_keep_their_test_images_when_they_are_split_already(folder: Path, tmp_path: Path) -> None:
    for number in range(10):
        image(tmp_path / "images" / "train" / "a" / f"{number}.png", 10)
        image(tmp_path / "images" / "train" / "b" / f"{number}.png", 10)
    image(tmp_path / "images" / "test" / "b" / "0.png", 0)
    path = config(folder, tmp_path, kind="folder", root=str(tmp_path / "images"), num_classes=2)
    found = load(folder, path)
    assert found["test"]["labels"] == [1]
    assert found["test"]["sum"] == -3 * 8 * 8  # black is -1
    assert len(found["train"]["labels"]) + len(found["val"]["labels"]) == 20
    image(tmp_path / "images" / "test" / "other" / "0.png", 0)
    assert "no such class among the training images" in refusal(folder, path)


def test_classes_are_counted_when_the_config_says_otherwise(folder: Path, tmp_path: Path) -> None:
    assert "dataset.num_classes is 7, the data has 10 classes" in refusal(
        folder, config(folder, tmp_path, num_classes=7)
    )


def test_an_unreadable_image_is_named(folder: Path, tmp_path: Path) -> None:
    for number in range(5):
        image(tmp_path / "images" / "a" / f"{number}.png", 10)
        image(tmp_path / "images" / "b" / f"{number}.png", 10)
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(b"no image")
    said = refusal(folder, config(folder, tmp_path, kind="folder", root=str(tmp_path / "images"), num_classes=2))
    assert "is not a readable image" in said


def cifar(root: Path, **changes: Any) -> None:
    root.mkdir(exist_ok=True)
    pixels = np.arange(30 * 3072, dtype=np.uint32).astype(np.uint8).reshape(30, 3072)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": pixels, b"labels": [i % 10 for i in range(30)], **changes}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))


def test_cifar10_is_read_from_its_batches(folder: Path, tmp_path: Path) -> None:
    cifar(tmp_path / "batches")
    found = load(folder, config(folder, tmp_path, kind="cifar10", root=str(tmp_path / "batches"), image_size=[32, 32]))
    assert {name: len(split["labels"]) for name, split in found.items()} == {"train": 130, "val": 20, "test": 30}
    first = np.arange(3072, dtype=np.uint32).astype(np.uint8).astype(np.float32)
    assert found["test"]["sum"] == pytest.approx(float(((first / 255 - 0.5) / 0.5).sum()), abs=0.05)


class Harmful:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.mark,))


def test_cifar10_refuses_a_pickle_that_would_run_code(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    cifar(tmp_path / "batches", **{"x": Harmful(str(mark))})
    said = refusal(folder, config(folder, tmp_path, kind="cifar10", root=str(tmp_path / "batches")))
    assert "is no batch of CIFAR-10: it asks for posix.mkdir" in said
    assert not mark.exists()


def test_every_wrong_key_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    path = config(folder, tmp_path, kind="imagenet", val_fraction=0.9, flip="yes", image_size=[8], typo=1)
    said = refusal(folder, path)
    for part in ("unknown key dataset.typo", "dataset.kind must be one of digits, cifar10, folder, got 'imagenet'",
                 "dataset.val_fraction", "dataset.flip must be true or false", "dataset.image_size"):  # fmt: skip
        assert part in said


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "name: x\n", "\x00"])
def test_a_config_that_is_none_is_refused(text: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert refusal(folder, path).startswith(f"error: {path}")
