from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from paddle_tk.data.catalog import entry_of
from paddle_tk.data.fetching.settings import Meter, Silent
from paddle_tk.data.imagenet import DEVKIT, TRAIN, VAL, validation_classes
from paddle_tk.data.setup import Options, set_up
from paddle_tk.data.states import state_of
from paddle_tk.errors import DataError
from tests.data.detection_sets import load, picture
from tests.data.own_dataset import describe, file_of

CLASSES = ("n01440764", "n01443537")
KIT = "ILSVRC2012_devkit_t12/data"


def _tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return stream.getvalue()


def _devkit(truth: bytes = b"2\n1\n2\n") -> bytes:
    # As published: a row for each synset, the 1,000 classes first, then those that only group others.
    rows = [(1, CLASSES[0], 0), (2, CLASSES[1], 0), (1001, "n00001740", 7)]
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    stream = io.BytesIO()
    savemat(stream, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    return _tar(
        {f"{KIT}/meta.mat": stream.getvalue(), f"{KIT}/ILSVRC2012_validation_ground_truth.txt": truth}, mode="w:gz"
    )


def _image(folder: Path, seed: int) -> bytes:
    return picture(folder / f"{seed}.jpg").read_bytes()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three archives of a tiny ImageNet, got by hand."""
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    image = _image(tmp_path / "made", 0)
    train = {f"{name}.tar": _tar({f"{name}_{number}.JPEG": image for number in range(6)}) for name in CLASSES}
    payloads = {
        DEVKIT: _devkit(),
        VAL: _tar({f"ILSVRC2012_val_{number:08d}.JPEG": image for number in (1, 2, 3)}),
        TRAIN: _tar(train),
    }
    folder = tmp_path / "home" / "datasets" / "imagenet1k"
    folder.mkdir(parents=True)
    for name, payload in payloads.items():
        (folder / name).write_bytes(payload)
    files = [file_of(name, payload, None, max_unpacked_bytes=2**20) for name, payload in payloads.items()]
    describe("imagenet1k", files, ["train", "val"], manual="log in", unpacked_by="imagenet", task="classification")
    return folder


@contextmanager
def _silent(label: str) -> Iterator[Meter]:
    yield Silent()


def test_set_up_lays_imagenet_out_in_class_folders(root: Path) -> None:
    entry = entry_of("imagenet1k")
    assert state_of(entry, root.parent).state == "partial"
    done = set_up(entry, root.parent, shown=_silent, warn=print, options=Options())
    assert done.state == "verified"
    val = {str(path.relative_to(root / "val")) for path in (root / "val").rglob("*.JPEG")}
    numbers = {CLASSES[1]: (1, 3), CLASSES[0]: (2,)}
    assert val == {f"{name}/ILSVRC2012_val_{n:08d}.JPEG" for name, which in numbers.items() for n in which}
    assert len(list((root / "train" / CLASSES[0]).iterdir())) == 6
    assert (root / TRAIN).is_file()
    bundle = load("imagenet1k", None)
    assert bundle.classes == CLASSES
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 10, "val": 2, "test": 3}


def test_validation_classes_name_the_kit_when_its_numbers_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "kit.tar.gz").write_bytes(_devkit(b"2\n1\n1001\n"))
    with pytest.raises(DataError, match="do not fit each other"):
        validation_classes(tmp_path / "kit.tar.gz")
    (tmp_path / "other.tar.gz").write_bytes(_tar({"a": b"x"}, mode="w:gz"))
    with pytest.raises(DataError, match="does not hold"):
        validation_classes(tmp_path / "other.tar.gz")


def test_set_up_refuses_validation_images_that_the_kit_does_not_know(root: Path, tmp_path: Path) -> None:
    payload = _tar({f"ILSVRC2012_val_{number:08d}.JPEG": b"x" for number in (1, 2, 9)})
    (root / VAL).write_bytes(payload)
    files = [file_of(name, (root / name).read_bytes(), None, max_unpacked_bytes=2**20) for name in (DEVKIT, VAL, TRAIN)]
    describe("imagenet1k", files, ["train", "val"], manual="log in", unpacked_by="imagenet", task="classification")
    with pytest.raises(DataError, match=r"val_00000009\.JPEG, which the development kit does not know"):
        set_up(entry_of("imagenet1k"), root.parent, shown=_silent, warn=print, options=Options())
    assert not (root / "val").exists()
    assert not (root / ".tmp-unpacked").exists()
