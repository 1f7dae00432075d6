"""Pascal VOC's annotation files: read by a parser that refuses every document type declaration, and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from paddle_tk.data.boxes import Boxes
from paddle_tk.errors import DataError

_FIX = "repair or remove the file"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """An object as the file has it: class name, x1, y1, x2, y2 in pixels from the image's corner, the flag."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    stated: str


@dataclass(frozen=True)
class VocFile:
    """What is used of an annotation file.

    Attributes:
        filename: The image's name, "" where none is given.
        size: Height and width in pixels, None where they are not given or 0, as some tools write them.
        objects: In the order of the file.
    """

    filename: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_voc_file(path: Path) -> VocFile:
    """Reads an annotation file.

    VOC counts pixels from 1 and includes the last one: a box over a whole image of 640 px has xmin 1 and xmax 640. Here
    that is 0 to 640.

    Raises:
        DataError: It cannot be read, is no XML, declares a document type or entities, or lacks something.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path} holds <{root.tag}> where <annotation> is expected", _FIX)
    objects = [_object(path, number, element) for number, element in enumerate(root.findall("object"), 1)]
    return VocFile((root.findtext("filename") or "").strip(), _size(path, root), tuple(objects))


def _parse(path: Path) -> Element:
    """Builds the tree with expat's own handlers, because ElementTree's parser expands internal entities."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise DataError(
            f"{path} declares a document type or entities (line {parser.CurrentLineNumber}), which is not allowed",
            "remove the <!DOCTYPE ...> from the file",
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the file and its rights") from error
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise DataError(f"{path} is no XML, or cut off ({error})", _FIX) from error


def _size(path: Path, root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    width, height = (_number(path, "size", size, key) for key in ("width", "height"))
    if not (width.is_integer() and height.is_integer()):
        raise DataError(f"{path}: size is {width:g}x{height:g}", "give it in whole pixels")
    return (int(height), int(width)) if width or height else None


def _object(path: Path, number: int, element: Element) -> VocObject:
    place = f"object {number}"
    name = (element.findtext("name") or "").strip()
    box = element.find("bndbox")
    if not name or box is None:
        raise DataError(f"{path}: {place} has no <{'bndbox' if name else 'name'}>", _FIX)
    values = [_number(path, f"{place} ({name})", box, side) for side in _SIDES]
    flag = (element.findtext("difficult") or "0").strip()
    if flag not in ("0", "1"):
        raise DataError(f"{path}: {place} ({name}) has <difficult> '{flag}'", "write 0 or 1")
    told = ", ".join(f"{side} {value:g}" for side, value in zip(_SIDES, values, strict=True))
    x1, y1, x2, y2 = values
    return VocObject(name, (x1 - 1, y1 - 1, x2, y2), flag == "1", f"{path}: {place} ({name}): {told}")


def _number(path: Path, place: str, parent: Element, key: str) -> float:
    text = parent.findtext(key)
    try:
        return float(text or "")
    except ValueError:
        got = "no" if text is None else f"'{text.strip()}' as"
        raise DataError(f"{path}: {place} has {got} <{key}>", "give it as a number") from None


def voc_xml(filename: str, size: Sequence[int], boxes: Boxes, classes: Mapping[int, str] | Sequence[str]) -> str:
    """Returns the annotation file of one image.

    Coordinates are whole pixels, each at most 0.5 px from the box's. Only a side that would vanish keeps its decimals.

    Args:
        filename: The image's name in JPEGImages.
        size: Its height and width in pixels.
        boxes: What is annotated; crowd regions must not be among them.
        classes: Class names by class id.
    """
    lines = [
        "<annotation>",
        f"  <filename>{escape(filename)}</filename>",
        f"  <size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for corners, class_id, difficult in zip(boxes.xyxy, boxes.class_ids, boxes.difficult, strict=True):
        x1, x2 = voc_side(corners[0], corners[2])
        y1, y2 = voc_side(corners[1], corners[3])
        lines += [
            "  <object>",
            f"    <name>{escape(classes[int(class_id)])}</name>",
            f"    <difficult>{int(difficult)}</difficult>",
            f"    <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def voc_side(low: float, high: float) -> tuple[str, str]:
    """Returns VOC's first and last pixel of the span from ``low`` to ``high``, both in pixels from the corner."""
    first, last = (int(np.floor(value + 0.5)) for value in (low, high))
    if last > first:
        return str(first + 1), str(last)
    start = float(low) + 1
    while start - 1 >= high:  # the added 1 took the last bits of a span that has no others
        start = float(np.nextafter(start, 0))
    return repr(start), repr(float(high))
