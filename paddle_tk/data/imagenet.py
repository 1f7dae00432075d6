"""Puts ImageNet's archives into the layout of class folders: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``.

The training archive holds a tar for each class. The validation images lie flat in theirs; the development kit says
which class each belongs to, by numbers that its ``meta.mat`` translates to WordNet ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from paddle_tk.data.unpack import Unpacked, tar_members, walk, write_member
from paddle_tk.errors import DataError

DEVKIT, VAL, TRAIN = "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_val.tar", "ILSVRC2012_img_train.tar"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_FIX = "download it again from image-net.org"


def unpack_imagenet(folder: Path, target: Path, *, max_bytes: int, advance: Callable[[int], None]) -> Unpacked:
    """Unpacks the three archives of ``folder`` into the empty folder ``target``.

    Args:
        folder: Holds the archives under their published names.
        target: Gets ``train`` and ``val``.
        max_bytes: Most that each of them may unpack to.
        advance: Told the size of each file that was written.

    Raises:
        DataError: An archive is missing, damaged, refused or holds something else.
    """
    done = [
        _unpack_val(folder / VAL, validation_classes(folder / DEVKIT), target, max_bytes, advance),
        _unpack_train(folder / TRAIN, target, max_bytes, advance),
    ]
    return Unpacked(sum(part.files for part in done), sum(part.size_bytes for part in done))


def validation_classes(devkit: Path, *, max_bytes: int = 64 * 2**20) -> list[str]:
    """Returns the WordNet id of each validation image, in their order.

    Raises:
        DataError: The development kit does not hold them.
    """
    found: dict[str, bytes] = {}
    for path, content in walk(devkit, max_bytes=max_bytes):
        for name in (_META, _TRUTH):
            if str(path).endswith(name):
                found[name] = content.read()
    if set(found) != {_META, _TRUTH}:
        raise DataError(f"{devkit} does not hold {_META} and {_TRUTH}", _FIX)
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(found[_META]), squeeze_me=True)["synsets"]
        names = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}
        return [names[int(line)] for line in found[_TRUTH].split()]
    except (ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise DataError(f"{devkit}: {_META} and {_TRUTH} do not fit each other ({error!r})", _FIX) from error


def _unpack_val(
    archive: Path, classes: list[str], target: Path, max_bytes: int, advance: Callable[[int], None]
) -> Unpacked:
    files, size = 0, 0
    for path, content in walk(archive, max_bytes=max_bytes):
        found = _VAL_NAME.fullmatch(path.name)
        number = int(found[1]) if found else 0
        if not 1 <= number <= len(classes):
            raise DataError(f"{archive} holds {path}, which the development kit does not know", _FIX)
        written = write_member(target, PurePosixPath("val") / classes[number - 1] / path.name, content, str(archive))
        advance(written)
        files, size = files + 1, size + written
    if files != len(classes):
        raise DataError(f"{archive} holds {files} images, the development kit names {len(classes)}", _FIX)
    return Unpacked(files, size)


def _unpack_train(archive: Path, target: Path, max_bytes: int, advance: Callable[[int], None]) -> Unpacked:
    files, size = 0, 0
    for path, content in walk(archive, max_bytes=max_bytes):
        found = _CLASS_TAR.fullmatch(path.name)
        if found is None:
            raise DataError(f"{archive} holds {path}, expected a tar for each class", _FIX)
        for image, inner in tar_members(content, f"{archive}: {path}"):
            written = write_member(target, PurePosixPath("train") / found[1] / image.name, inner, f"{archive}: {path}")
            advance(written)
            files, size = files + 1, size + written
    return Unpacked(files, size)
