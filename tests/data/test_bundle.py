from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.data.bundle import (
    ArraySplit,
    DatasetBundle,
    FileSplit,
    array_digest,
    decode_image,
    fingerprint,
    read_image,
)
from paddle_tk.errors import DataError


def gradient(height: int = 12, width: int = 20) -> np.ndarray:
    y, x = np.indices((height, width))
    return np.stack([x * 12, y * 20, x * 0], axis=2).astype(np.uint8)


def write(path: Path, bgr_or_grey: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(path.suffix.lower(), bgr_or_grey)[1].tobytes())
    return path


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_read_image_returns_rgb_when_the_file_is_lossless(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"größe und platz{suffix}", gradient()[..., ::-1])
    np.testing.assert_array_equal(read_image(path), gradient())


def test_read_image_replicates_grey_and_drops_alpha_when_channels_differ(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "g.png", grey)), np.dstack([grey] * 3))
    transparent = np.dstack([gradient()[..., ::-1], np.zeros_like(grey)])
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", transparent)), gradient())
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(write(tmp_path / "d.png", deep)), np.dstack([grey] * 3))


def test_decode_image_turns_the_image_when_exif_says_so() -> None:
    jpeg = cv2.imencode(".jpg", gradient()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    orientation_6 = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(orientation_6) + 2).to_bytes(2, "big") + orientation_6
    turned = decode_image(np.frombuffer(jpeg[:2] + segment + jpeg[2:], np.uint8))
    assert turned is not None
    upright = decode_image(np.frombuffer(jpeg, np.uint8))
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_read_image_raises_naming_the_file_when_it_is_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"cut{suffix}", gradient(90, 70))
    payload = path.read_bytes()
    path.write_bytes(payload[: int(len(payload) * share)])
    with pytest.raises(DataError, match=rf"cut\{suffix} cannot be decoded as an image"):
        read_image(path)


def test_read_image_raises_naming_the_file_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_array_split_subset_keeps_images_labels_and_names_together_when_reordered() -> None:
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 2, 2, 3), np.uint8)
    part = ArraySplit(images, labels(0, 1, 2, 3), ["a", "b", "c", "d"]).subset(np.array([3, 1]))
    assert len(part) == 2
    assert [part.image(i).max() for i in range(2)] == [3, 1]
    assert part.labels.tolist() == [3, 1]
    assert [part.name(i) for i in range(2)] == ["d", "b"]


def test_file_split_subset_keeps_paths_and_labels_together_when_reordered(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.png", np.full((2, 2), i * 40, np.uint8)) for i in range(4)]
    part = FileSplit(paths, labels(0, 0, 1, 1)).subset(np.array([2, 0]))
    assert [part.image(i).max() for i in range(2)] == [80, 0]
    assert part.labels.tolist() == [1, 0]
    assert part.name(0) == str(paths[2])


@pytest.mark.parametrize(
    ("images", "targets", "names"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), labels(0, 1), ["a", "b"]),
        (np.zeros((2, 4, 4), np.uint8), labels(0, 1), ["a", "b"]),
        (np.zeros((2, 4, 4, 3), np.uint8), labels(0), ["a", "b"]),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32), ["a", "b"]),
        (np.zeros((2, 4, 4, 3), np.uint8), labels(0, 1), ["a"]),
    ],
)
def test_array_split_raises_when_arrays_do_not_fit_together(
    images: np.ndarray, targets: np.ndarray, names: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"images|labels"):
        ArraySplit(images, targets, names)


def bundle(train: int, test_labels: np.ndarray) -> DatasetBundle:
    def split(targets: np.ndarray) -> ArraySplit:
        return ArraySplit(np.zeros((len(targets), 2, 2, 3), np.uint8), targets, [""] * len(targets))

    parts = {
        "train": split(np.zeros(train, np.int64)),
        "val": split(labels(1)),
        "test": split(test_labels),
    }
    return DatasetBundle("toy", "classification", parts, ("a", "b"), "here", "none", "0")


def test_dataset_bundle_raises_when_a_split_is_empty() -> None:
    assert len(bundle(2, labels(0)).splits["train"]) == 2
    with pytest.raises(DataError, match="toy has no images in its train split"):
        bundle(0, labels(0))


def test_dataset_bundle_raises_when_a_label_has_no_class() -> None:
    with pytest.raises(DataError, match="labels of test run from 0 to 2, but there are 2 classes"):
        bundle(1, labels(0, 2))


def test_fingerprint_changes_when_content_type_shape_or_parameters_change() -> None:
    zeros = np.zeros((2, 3), np.uint8)
    digests = {
        array_digest(zeros),
        array_digest(zeros.reshape(3, 2)),
        array_digest(zeros.astype(np.int8)),
        array_digest(zeros + 1),
        array_digest(zeros, zeros),
    }
    assert len(digests) == 5
    assert array_digest(zeros) == array_digest(np.zeros((2, 3), np.uint8))
    assert fingerprint("c", seed=0) == fingerprint("c", seed=0) != fingerprint("c", seed=1)
