"""Opens every image of a dataset, in parallel: is it what its name says, whole, of which size, and only there once?"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from paddle_tk.data.bundle import decode_image
from paddle_tk.data.checks.findings import Finding, Sample, Scan
from paddle_tk.data.verify import quiet_decoder

_MAX_THREADS = 16
_AT_ONCE = 4096  # images whose results are waited for; a million futures would take a gigabyte
_NAMES: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "BMP": (".bmp",), "WebP": (".webp",), "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}  # fmt: skip
_SHOWN_BYTES = 12


class ImageFacts(NamedTuple):
    """What is known of an image file.

    Attributes:
        path: The file.
        digest: SHA-256 of its content; "" where it cannot be read.
        size: Height and width in pixels as it is decoded, EXIF orientation applied; None: it is not.
        faults: Kinds and what is wrong.
    """

    path: str
    digest: str
    size: tuple[int, int] | None
    faults: tuple[tuple[str, str], ...] = ()


def examine(paths: Sequence[str], advance: Callable[[int], None]) -> Iterator[ImageFacts]:
    """Yields the facts of every image, in order. Decoding leaves Python's lock, so threads are enough.

    Args:
        paths: Image files.
        advance: Called with the number of images done.
    """
    with quiet_decoder(), ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            for facts in pool.map(image_facts, paths[start : start + _AT_ONCE]):
                advance(1)
                yield facts


def image_facts(path: str) -> ImageFacts:
    """Reads and decodes one file."""
    try:
        payload = np.fromfile(path, np.uint8)
    except OSError as error:
        return ImageFacts(path, "", None, (("undecodable_image", f"cannot be read: {error.strerror or error}"),))
    if not payload.size:
        return ImageFacts(path, "", None, (("empty_file", "has 0 bytes"),))
    digest = hashlib.sha256(payload.data).hexdigest()
    kind = _kind(payload[:_SHOWN_BYTES].tobytes())
    if kind is None:
        begins = payload[:_SHOWN_BYTES].tobytes()
        return ImageFacts(path, digest, None, (("not_an_image", f"is no image, it begins with {begins!r}"),))
    faults: list[tuple[str, str]] = []
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _NAMES[kind]:
        faults.append(("wrong_extension", f"is named '{suffix}' and holds {kind}"))
    decoded = decode_image(payload)
    damage = "" if decoded is not None and _ends_well(kind, payload) else _damage(payload)
    if decoded is None or damage:
        cut = "truncated" in damage or not _ends_well(kind, payload)
        told = damage or "the decoder refuses it"
        faults.append(("truncated_image" if cut else "undecodable_image", f"{kind}, {payload.size} bytes: {told}"))
        return ImageFacts(path, digest, None, tuple(faults))
    return ImageFacts(path, digest, (decoded.shape[0], decoded.shape[1]), tuple(faults))


def _kind(head: bytes) -> str | None:
    """Returns what the first bytes say the file is."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    marks = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"GIF8": "GIF"}
    marks |= {b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), None)


def _ends_well(kind: str, payload: np.ndarray) -> bool:
    """Whether the file ends as a whole one of its kind does; False may be a harmless tail, which ``_damage`` tells.

    The decoder fills up what is missing of a JPEG with grey and says nothing, so that has to be seen here.
    """
    if kind == "JPEG":
        return payload[-2:].tobytes() == b"\xff\xd9"
    if kind == "PNG":
        return payload[-8:-4].tobytes() == b"IEND"
    if kind == "WebP":
        return int.from_bytes(payload[4:8].tobytes(), "little") + 8 <= payload.size
    return True


def _damage(payload: np.ndarray) -> str:
    """Returns what a second, stricter decoder says against a file; "" where it is content."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(payload.tobytes())) as image:
                image.load()
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            return " ".join(str(error).split())[:120] or type(error).__name__
    return ""


def check_images(scan: Scan, advance: Callable[[int], None]) -> dict[str, ImageFacts]:
    """Opens all images of a scan, adds what is wrong with them, and returns the facts by path."""
    present: dict[str, None] = {}
    for number, sample in enumerate(scan.samples):
        if os.path.isfile(sample.image):
            present[sample.image] = None
        else:
            scan.fault(
                "missing_image", sample.label or sample.image, f"names {sample.image}, which does not exist",
                entry=sample.entry, split=sample.split, sample=number,
            )  # fmt: skip
    facts = {found.path: found for found in examine(list(present), advance)}
    for number, sample in enumerate(scan.samples):
        found = facts.get(sample.image)
        for kind, problem in found.faults if found else ():
            scan.fault(kind, sample.image, problem, split=sample.split, sample=number)
        if found and found.size and sample.size and found.size != sample.size:
            turned = " (swapped: turned by its EXIF orientation?)" if found.size == sample.size[::-1] else ""
            told = f"says {sample.size[1]}x{sample.size[0]} px, the image has {found.size[1]}x{found.size[0]}{turned}"
            more = {"entry": sample.entry, "split": sample.split, "sample": number}
            scan.fault("size_mismatch", sample.label or sample.image, told, **more)
    scan.findings.extend(repeated(scan.samples, facts))
    return facts


_KEPT_FIRST = ("test", "val", "train")  # of the same image in two splits, the evaluation keeps its own


def repeated(samples: Sequence[Sample], facts: Mapping[str, ImageFacts]) -> Iterator[Finding]:
    """Yields a finding for every image whose content an earlier one has."""
    kept: dict[str, int] = {}
    order = sorted(range(len(samples)), key=lambda i: (_KEPT_FIRST.index(samples[i].split), i))
    for number in order:
        sample = samples[number]
        found = facts.get(sample.image)
        if found is None or not found.digest:
            continue
        first = kept.setdefault(found.digest, number)
        other = samples[first]
        same = other.split == sample.split
        if first == number or (same and other.image == sample.image):  # one file named twice is told of already
            continue
        kind = "duplicate_image" if same else "leakage"
        where = "" if same else f" of the {other.split} split"
        yield Finding(kind, sample.image, f"has the content of {other.image}{where}", "", sample.split, number)
