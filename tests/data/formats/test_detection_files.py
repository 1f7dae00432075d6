from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from paddle_tk.data.bundle import decode_image
from paddle_tk.data.formats.detection_files import image_size, inside, split_of

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_image_size_is_that_of_the_decoded_image_when_it_is_turned(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / f"a.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (10, 6)).save(path, exif=exif)
    decoded = decode_image(np.fromfile(path, np.uint8))
    assert decoded is not None
    assert image_size(str(path)) == decoded.shape[:2]


def test_image_size_is_that_of_the_decoded_image_when_only_xmp_says_it_is_turned(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (10, 6)).save(buffer, "jpeg", xmp=XMP)
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue())
    decoded = decode_image(np.fromfile(path, np.uint8))
    assert decoded is not None
    assert image_size(str(path)) == decoded.shape[:2] == (6, 10)


def test_image_size_decodes_when_the_header_is_not_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".hdr", np.ones((6, 10, 3), np.float32))[1].tobytes())
    assert image_size(str(path)) == (6, 10)


@pytest.mark.parametrize(
    ("name", "split"), [("train2017", "train"), ("Valid", "val"), ("testing", "test"), ("images", None), ("", None)]
)
def test_split_of_goes_by_the_beginning_of_the_name(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_inside_refuses_what_leaves_the_folder() -> None:
    assert inside("a/b.jpg")
    assert not any(map(inside, ("", " ", "/a.jpg", "../a.jpg", "a/../../b.jpg")))
