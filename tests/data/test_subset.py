from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.check import check_dataset
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.subset import Mini, pick_by_presence, write_mini
from paddle_tk.errors import BadInput
from tests.data.checked_sets import MAKERS, sound_folder


def _load(name: str, root: Path | None, **changes: Any) -> DatasetBundle:
    given = {"val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0} | changes
    return load_dataset(name, root=None if root is None else str(root), **given)


def _mini(bundle: DatasetBundle, folder: Path, samples: int, val: float = 0.2, seed: int = 0) -> Mini:
    folder.mkdir()
    return write_mini(bundle, folder, samples=samples, val_share=val, seed=seed)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", MAKERS)
def test_mini_is_a_sound_dataset_of_the_same_format(tmp_path: Path, name: str) -> None:
    source = _load(name, MAKERS[name](tmp_path / "set"))
    done = _mini(source, tmp_path / "mini", 6, 0.34)
    assert (done.format, dict(done.images), done.absent) == (name, {"train": 4, "val": 2}, ())
    assert check_dataset(name, str(tmp_path / "mini")).findings == ()
    small = _load(name, tmp_path / "mini")
    assert {split: len(images) for split, images in small.splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert small.classes == source.classes
    originals = {p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.suffix in (".png", ".jpg")}
    written = [b for path, b in _files(tmp_path / "mini").items() if path.endswith((".png", ".jpg"))]
    assert len(written) == 6
    assert set(written) <= originals
    assert sorted(json.loads((tmp_path / "mini" / "mini.json").read_text())["files"]) == sorted(
        _files(tmp_path / "mini")
    )


def test_mini_is_the_same_when_the_seed_is(tmp_path: Path) -> None:
    source = _load("digits", None)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = _mini(source, tmp_path / name, 50, seed=seed)
    assert (done.format, dict(done.images)) == ("image_folder", {"train": 40, "val": 10})
    assert _files(tmp_path / "a") == _files(tmp_path / "b") != _files(tmp_path / "c")
    counts = [len(list((tmp_path / "a" / "val" / str(digit)).iterdir())) for digit in range(10)]
    assert counts == [1] * 10
    image = next((tmp_path / "a" / "train" / "3").iterdir())
    small = _load("image_folder", tmp_path / "a").splits["train"]
    index = [small.name(i) for i in range(len(small))].index(str(image))
    number = source.splits["train"].names.index(image.stem)  # type: ignore[attr-defined]
    assert np.array_equal(small.image(index), source.splits["train"].image(number))


def test_mini_takes_what_validation_lacks_from_the_training_images(tmp_path: Path) -> None:
    source = _load("image_folder", sound_folder(tmp_path / "set"))
    assert len(source.splits["val"]) == 4
    done = _mini(source, tmp_path / "mini", 10, 0.6)
    assert dict(done.images) == {"train": 4, "val": 6}
    assert check_dataset("image_folder", str(tmp_path / "mini")).findings == ()


@pytest.mark.parametrize(("samples", "val", "told"), [(12, 0.2, "leave no image for"), (5000, 0.2, "cannot be drawn")])
def test_mini_refuses_what_cannot_be_drawn(tmp_path: Path, samples: int, val: float, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        _mini(_load("digits", None), tmp_path / "mini", samples, val)


def test_presence_keeps_every_class_and_its_share() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((400, 20)) < np.geomspace(0.5, 0.01, 20)
    present[0, 19] = True
    picked = pick_by_presence(present, 60, seed=3)
    assert len(set(picked.tolist())) == 60
    assert present[picked].any(axis=0).all()
    shares, wanted = present[picked].mean(axis=0), present.mean(axis=0)
    assert np.abs(shares - wanted).max() < 0.025
    by_chance = [np.abs(present[rng.permutation(400)[:60]].mean(axis=0) - wanted).max() for _ in range(50)]
    assert np.abs(shares - wanted).max() < np.min(by_chance)
    assert np.array_equal(picked, pick_by_presence(present, 60, seed=3))
    assert not np.array_equal(picked, pick_by_presence(present, 60, seed=4))
    assert pick_by_presence(present, 500, seed=3).tolist() == list(range(400))
