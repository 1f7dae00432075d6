import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.formats.cifar import ARCHIVE, FOLDER, TEST_FILE, TRAIN_FILES
from paddle_tk.errors import DataError

CLASSES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def batch(number: int) -> dict[bytes, Any]:
    """One batch as published; the first pixel of each channel tells channel, batch and image apart."""
    pixels = np.zeros((10_000, 3, 32, 32), np.uint8)
    pixels[:, 0, 0, 0] = number
    pixels[:, 1, 0, 1] = np.arange(10_000) % 256
    pixels[:, 2, 1, 0] = np.arange(10_000) // 256
    return {
        b"batch_label": b"batch",
        b"labels": [(i + number) % 10 for i in range(10_000)],
        b"data": pixels.reshape(10_000, 3072),
        b"filenames": [b"image_%d_%05d.png" % (number, i) for i in range(10_000)],
    }


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the batches' folder and, beside it, the archive."""
    root = tmp_path_factory.mktemp("cifar official")
    folder = root / FOLDER
    folder.mkdir()
    for number, name in enumerate((*TRAIN_FILES, TEST_FILE)):
        (folder / name).write_bytes(pickle.dumps(batch(number), protocol=2))
    meta = {b"num_cases_per_batch": 10_000, b"label_names": CLASSES, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    (folder / "readme.html").write_text("not a batch")
    (root / "archive").mkdir()
    with tarfile.open(root / "archive" / ARCHIVE, "w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=FOLDER)
    return root


@pytest.fixture(scope="module")
def bundle(official: Path) -> DatasetBundle:
    return cifar(official / "archive" / ARCHIVE)


@pytest.fixture
def copy(official: Path, tmp_path: Path) -> Path:
    """A batches' folder that a test may damage."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    for file in (official / FOLDER).iterdir():
        os.link(file, folder / file.name)
    return folder


def cifar(root: Path | None, **changes: Any) -> DatasetBundle:
    settings: dict[str, Any] = {"val_fraction": 0.1, "test_fraction": 0.2, "split_seed": 0} | changes
    return load_dataset("cifar10", root=None if root is None else str(root), **settings)


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_cifar10_pixels_labels_and_names_agree_when_read_from_the_archive(bundle: DatasetBundle) -> None:
    assert {name: len(split) for name, split in bundle.splits.items()} == {
        "train": 45_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert bundle.classes == tuple(name.decode() for name in CLASSES)
    assert np.bincount(bundle.splits["val"].labels).tolist() == [500] * 10
    seen = set()
    for name, split in bundle.splits.items():
        for i in range(0, len(split), 97):
            number, index = map(int, split.name(i).removesuffix(".png").split("_")[1:])
            seen.add(split.name(i))
            image = split.image(i)
            assert [image[0, 0, 0], image[0, 1, 1], image[1, 0, 2]] == [number, index % 256, index // 256]
            assert split.labels[i] == (index + number) % 10
            assert (number == 5) == (name == "test")
    assert len(seen) == sum(len(range(0, len(split), 97)) for split in bundle.splits.values())


def test_cifar10_is_the_same_when_read_from_any_of_the_places(
    official: Path, bundle: DatasetBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "cifar10").symlink_to(official / "archive")
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path))
    assert cifar(official).fingerprint == cifar(None).fingerprint == bundle.fingerprint
    assert not list((official / "archive").glob("*batch*")), "nothing is unpacked"


def test_cifar10_names_the_page_and_the_setting_when_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError) as caught:
        cifar(None)
    message = str(caught.value)
    assert str(tmp_path / "home" / "datasets" / "cifar10") in message
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in message
    assert "data.root=" in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cifar10_names_the_archive_when_it_is_cut_short(official: Path, tmp_path: Path, share: float) -> None:
    payload = (official / "archive" / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(payload[: int(len(payload) * share)])
    with pytest.raises(DataError, match=rf"{ARCHIVE}.* again from https://www\.cs\.toronto\.edu"):
        cifar(tmp_path)


def test_cifar10_names_the_archive_when_a_byte_is_flipped(official: Path, tmp_path: Path) -> None:
    payload = bytearray((official / "archive" / ARCHIVE).read_bytes())
    payload[len(payload) // 2] ^= 0xFF
    (tmp_path / ARCHIVE).write_bytes(payload)
    with pytest.raises(DataError, match=ARCHIVE):
        cifar(tmp_path / ARCHIVE)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {b"data": np.zeros((10_000, 3071), np.uint8)},
            r"pixels must be uint8 \(10000, 3072\), got uint8 \(10000, 3071\)",
        ),
        ({b"data": np.zeros((9_999, 3072), np.uint8)}, r"got uint8 \(9999, 3072\)"),
        ({b"data": np.zeros((10_000, 3072), np.int8)}, "got int8"),
        ({b"data": None}, "got NoneType"),
        ({b"labels": [0] * 9_999}, "expected 10000 labels from 0 to 9"),
        ({b"labels": [10] * 10_000}, "expected 10000 labels from 0 to 9"),
        ({b"labels": [[0]] * 10_000}, "expected 10000 labels from 0 to 9"),
    ],
)
def test_cifar10_names_the_batch_when_its_content_is_wrong(copy: Path, changes: dict[bytes, Any], problem: str) -> None:
    replace(copy / "data_batch_3", pickle.dumps(batch(2) | changes, protocol=2))
    with pytest.raises(DataError, match=rf"data_batch_3.*{problem}"):
        cifar(copy)


def test_cifar10_names_the_missing_file_when_a_batch_is_gone(copy: Path) -> None:
    (copy / "data_batch_4").unlink()
    with pytest.raises(DataError, match="holds no data_batch_4"):
        cifar(copy)


class Shell:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_cifar10_runs_nothing_when_a_batch_is_malicious(copy: Path, tmp_path: Path) -> None:
    replace(copy / "test_batch", pickle.dumps({b"data": Shell(f"touch '{tmp_path}/ran'")}, protocol=2))
    with pytest.raises(DataError, match=r"test_batch: the file asks for posix\.system"):
        cifar(copy)
    assert not (tmp_path / "ran").exists()


def test_cifar10_refuses_when_a_member_of_the_archive_is_far_too_large(tmp_path: Path) -> None:
    huge = tmp_path / "zeros"
    with huge.open("wb") as stream:
        stream.truncate(257 * 2**20)
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", compresslevel=1) as archive:
        archive.add(huge, arcname=f"{FOLDER}/data_batch_1")
    with pytest.raises(DataError, match="unpacks to more than 256 MiB"):
        cifar(tmp_path)


def test_cifar10_split_follows_the_seed_when_read_again(official: Path, bundle: DatasetBundle) -> None:
    other = cifar(official / FOLDER, split_seed=1)
    assert other.fingerprint != bundle.fingerprint
    names = [{b.splits["val"].name(i) for i in range(5_000)} for b in (bundle, other)]
    assert len(names[0] & names[1]) < 1_000  # 500 expected of independent draws
