"""The image files a detection dataset names: they exist, they decode, and this is how large they are."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from PIL import Image

from paddle_tk.data.bundle import SPLITS, read_image
from paddle_tk.data.formats.image_folder import SUFFIXES
from paddle_tk.data.verify import FileStat, checked_images
from paddle_tk.errors import DataError

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = frozenset({5, 6, 7, 8})  # its values that swap width and height
_XMP = ("xmp", "XML:com.adobe.xmp")


class ImageFile(NamedTuple):
    """A readable image file: its path, its length in bytes, height and width in pixels as it is decoded."""

    path: str
    size_bytes: int
    height: int
    width: int


def split_of(name: str) -> str | None:
    """Returns the split that a folder or file is named after: "train2017" is "train", "valid" is "val"."""
    return next((split for split in SPLITS if name.lower().startswith(split)), None)


def is_image(name: str) -> bool:
    """Whether a file name is that of an image: a known suffix, not hidden."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def inside(name: str) -> bool:
    """Whether a relative path, as an annotation names it, stays in the folder it is relative to."""
    path = PurePosixPath(name)
    return bool(name.strip()) and not path.is_absolute() and ".." not in path.parts


def stat_image(path: str, entry: Callable[[], str]) -> FileStat:
    """Returns an image file as it lies on disk.

    Args:
        path: The file.
        entry: Says which annotation names it, for the message.

    Raises:
        DataError: There is no such file.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise DataError(f"{entry()} names the image {path}, which does not exist", "add the file or remove the entry")
    return FileStat(path, found.st_size, found.st_mtime_ns)


def examine_images(
    root: Path, files: Iterable[FileStat], *, skip_unreadable: bool
) -> tuple[dict[str, ImageFile], tuple[str, ...]]:
    """Decodes every image once, unless an earlier run has seen it, and reads the sizes of all.

    Args:
        root: The dataset's folder: which cache of verdicts to use.
        files: The images; a path may occur twice.
        skip_unreadable: Leave out what cannot be decoded.

    Returns:
        The readable images by path, and the paths of those left out.

    Raises:
        DataError: Files cannot be decoded and are not to be skipped.
    """
    listed = {file.path: file for file in files}
    bad = checked_images(root, _by_folder(root, listed), skip_unreadable=skip_unreadable)
    left_out = frozenset(bad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        sizes = {path: image_size(path) for path in listed if path not in left_out}
    return {path: ImageFile(path, listed[path].size, *size) for path, size in sizes.items()}, tuple(bad)


def image_size(path: str) -> tuple[int, int]:
    """Returns (height, width) of an image as it will be decoded, EXIF orientation applied, from its header.

    A header takes about 0.04 ms, decoding a 640x480 JPEG 2.3 ms (one core).
    """
    height, width = header_size(path) or read_image(path).shape[:2]
    return height, width


def header_size(file: str | BinaryIO) -> tuple[int, int] | None:
    """Returns (height, width) by an image's header alone, EXIF orientation applied; None where it cannot be read."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            for name in _XMP:  # Pillow would take the orientation from here too, the decoder does not
                image.info.pop(name, None)
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)


def _by_folder(root: Path, files: Mapping[str, FileStat]) -> dict[str, list[FileStat]]:
    groups: dict[str, list[FileStat]] = {}
    for path, file in files.items():
        groups.setdefault(os.path.dirname(path), []).append(file)
    return {os.path.relpath(folder, root): sorted(group) for folder, group in sorted(groups.items())}
