"""``cifar10``: the official Python archive or the folder it unpacks to, read without running its pickles."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.bundle import ArraySplit, DatasetBundle, array_digest, fingerprint
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.splits import VAL, stratified_split
from paddle_tk.data.unpack import walk
from paddle_tk.errors import ArtifactError, DataError
from paddle_tk.files import MIB
from paddle_tk.unpickle import restricted_load

URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
_ENTRY = shipped_entry("cifar10")
ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE, META_FILE = "test_batch", "batches.meta"
BATCH_IMAGES, SIDE, CLASS_COUNT = 10_000, 32, 10
# Its files have 186 MB together; what holds far more is another archive and is not unpacked into memory.
_MAX_BYTES = 256 * MIB
_FIX = f"download {ARCHIVE} again from {URL}"


def load_cifar10(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads CIFAR-10: 50,000 training and 10,000 test images, 32x32 RGB, held in memory (184 MB).

    Args:
        root: ``cifar-10-python.tar.gz``, the folder ``cifar-10-batches-py``, or a folder that holds either;
            None: ``$PADDLE_TK_HOME/datasets/cifar10``.
        val_fraction: Share of the training images that become "val", stratified.
        test_fraction: Without effect: the test split is published.
        split_seed: Seed of the validation split.
        skip_unreadable: Without effect: a damaged archive is not used at all.

    Raises:
        DataError: Nothing was found, or a file is damaged; the message names it.
    """
    location = _locate(dataset_folder("cifar10", root))
    found = dict(_archive_batches(location) if location.is_file() else _folder_batches(location))
    for name in (*TRAIN_FILES, TEST_FILE, META_FILE):
        if name not in found:
            raise DataError(f"{location} holds no {name}", _FIX)
    classes = _class_names(found[META_FILE], location)
    whole = _split([found[name] for name in TRAIN_FILES])
    test = _split([found[TEST_FILE]])
    del found  # 184 MB that the splits have copied
    train_part, val_part = stratified_split(whole.labels, val_fraction, seed=split_seed, purpose=VAL)
    content = array_digest(whole.images, whole.labels, test.images, test.labels)
    return DatasetBundle(
        name="cifar10",
        kind="classification",
        splits={"train": whole.subset(train_part), "val": whole.subset(val_part), "test": test},
        classes=classes,
        source=_ENTRY.source,
        licence=_ENTRY.licence,
        fingerprint=fingerprint(content, val_fraction=val_fraction, split_seed=split_seed),
    )


def _locate(root: Path) -> Path:
    """Returns the archive or the folder that holds the batches."""
    if root.is_file():
        return root
    for candidate in (root, root / FOLDER):
        if (candidate / TRAIN_FILES[0]).is_file():
            return candidate
    if (root / ARCHIVE).is_file():
        return root / ARCHIVE
    raise DataError(
        f"CIFAR-10 was not found at {root}",
        f"python tools/dataset.py setup cifar10, or put {ARCHIVE} from {URL} there, or give its place with "
        "data.root=PATH",
    )


def _folder_batches(folder: Path) -> Iterator[tuple[str, Mapping[bytes, Any]]]:
    for name in (*TRAIN_FILES, TEST_FILE, META_FILE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            yield name, _read(path.read_bytes, str(path))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the file's rights") from error


def _archive_batches(archive: Path) -> Iterator[tuple[str, Mapping[bytes, Any]]]:
    """Reads the batches in the order of the archive, without writing anything to disk."""
    wanted = {*TRAIN_FILES, TEST_FILE, META_FILE}
    try:
        for path, content in walk(archive, max_bytes=_MAX_BYTES, max_ratio=math.inf):
            if path.parent.name == FOLDER and path.name in wanted:
                yield path.name, _read(content.read, f"{archive}: {path}")
    except DataError as error:
        raise DataError(error.problem, _FIX) from error


def _read(read: Callable[[], bytes], name: str) -> Mapping[bytes, Any]:
    """Unpickles one file; a batch comes back with uint8 (10000, 32, 32, 3) under ``b"images"``."""
    try:
        raw = restricted_load(io.BytesIO(read()))
    except ArtifactError as error:
        raise DataError(f"{name}: {error.problem.replace('the stream', 'the file')}", _FIX) from error
    if not isinstance(raw, dict):
        raise DataError(f"{name} holds no batch but {type(raw).__name__}", _FIX)
    if name.endswith(META_FILE):
        return raw
    pixels, labels = raw.get(b"data"), raw.get(b"labels")
    expected = (BATCH_IMAGES, 3 * SIDE * SIDE)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != expected:
        raise DataError(f"{name}: pixels must be uint8 {expected}, got {_shape(pixels)}", _FIX)
    whole = isinstance(labels, list) and len(labels) == BATCH_IMAGES
    if not whole or not all(type(label) is int and 0 <= label < CLASS_COUNT for label in labels or ()):
        raise DataError(f"{name}: expected {BATCH_IMAGES} labels from 0 to {CLASS_COUNT - 1}", _FIX)
    names = raw.get(b"filenames")
    if not isinstance(names, list) or len(names) != BATCH_IMAGES:
        names = [f"{name.rsplit('/', 1)[-1]} {i:05d}".encode() for i in range(BATCH_IMAGES)]
    images = pixels.reshape(BATCH_IMAGES, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return {b"images": images, b"labels": labels, b"filenames": names}


def _shape(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _class_names(meta: Mapping[bytes, Any], location: Path) -> tuple[str, ...]:
    names = meta.get(b"label_names")
    if not isinstance(names, list) or len(names) != CLASS_COUNT:
        raise DataError(f"{location}: {META_FILE} does not name {CLASS_COUNT} classes", _FIX)
    return tuple(_text(name) for name in names)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _split(batches: list[Mapping[bytes, Any]]) -> ArraySplit:
    images = np.empty((BATCH_IMAGES * len(batches), SIDE, SIDE, 3), np.uint8)
    np.concatenate([batch[b"images"] for batch in batches], out=images)
    labels = np.array([label for batch in batches for label in batch[b"labels"]], np.int64)
    return ArraySplit(images, labels, [_text(n) for b in batches for n in b[b"filenames"]])
