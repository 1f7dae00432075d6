"""Plants faults in a copy of COCO128: each in files of its own, so that each has to be found by itself."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2

from paddle_tk.data.formats.coco128 import COCO128_STRAYS, COCO_CLASSES

Planted = tuple[str, str]  # kind and the name of the file at fault
ENVIRONMENT = "PADDLE_TK_TEST_DATA"


def shared_file(name: str) -> Path | None:
    """Returns a file of real data: below ``$PADDLE_TK_TEST_DATA``, or in shared/data beside a folder above this one."""
    given = os.environ.get(ENVIRONMENT)
    folders = [Path(given)] if given else [above / "shared" / "data" for above in Path(__file__).resolve().parents]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def clean_copy(archive: Path, folder: Path) -> Path:
    """Unpacks COCO128, without the two labels that have no image, and lists its images: 100 to train on, 28 to test."""
    with zipfile.ZipFile(archive) as members:
        members.extractall(folder)
    root = folder / "coco128"
    for stem in COCO128_STRAYS:
        (root / "labels" / "train2017" / f"{stem}.txt").unlink()
    images = sorted(f"images/train2017/{path.name}" for path in (root / "images" / "train2017").iterdir())
    (root / "train.txt").write_text("".join(f"{line}\n" for line in images[:100]))
    (root / "val.txt").write_text("".join(f"{line}\n" for line in images[100:]))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(COCO_CLASSES))
    (root / "data.yaml").write_text(f"train: train.txt\nval: val.txt\nnames:\n{names}")
    return root


class Faults:
    """Plants one fault of each kind.

    Args:
        root: What ``clean_copy`` made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.labels = root / "images" / "train2017", root / "labels" / "train2017"
        # Images with more than one box, so that another one is always left; train images only.
        listed = [Path(line).stem for line in (root / "train.txt").read_text().split()]
        self._stems = iter(stem for stem in listed if self._count(stem) > 1)
        self._held_out = [Path(line).stem for line in (root / "val.txt").read_text().split()]

    def _count(self, stem: str) -> int:
        path = self.labels / f"{stem}.txt"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    def plant(self) -> dict[str, Planted]:
        """Plants all of them; returns, by name of the fault, what must be found."""
        return {name: make(self) for name, make in FAULTS.items()}

    def image(self) -> Path:
        """Returns an image that no fault has been planted in."""
        return self.images / f"{next(self._stems)}.jpg"

    def line(self, change: Callable[[list[str]], str], kind: str) -> Planted:
        """Replaces the first line of a label file."""
        path = self.labels / f"{next(self._stems)}.txt"
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([change(first.split()), *rest]) + "\n")
        return kind, path.name

    def truncated(self) -> Planted:
        path = self.image()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return "truncated_image", path.name

    def wrong_extension(self) -> Planted:
        path = self.image()
        picture = cv2.imread(str(path))
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        return "wrong_extension", path.name

    def missing_image(self) -> Planted:
        path = self.image()
        path.unlink()
        return "missing_image", f"{path.stem}.txt"

    def orphan_label(self) -> Planted:
        path = self.labels / "000000999999.txt"
        path.write_text("0 0.5 0.5 0.2 0.2\n")
        return "orphan_label", path.name

    def id_gap(self) -> Planted:
        used = {line.split()[0] for file in self.labels.iterdir() for line in file.read_text().splitlines()}
        spare = next(i for i in range(len(COCO_CLASSES)) if str(i) not in used)
        path = self.root / "data.yaml"
        path.write_text(path.read_text().replace(f"  {spare}: ", "  80: "))
        return "class_id_gap", path.name

    def duplicate(self) -> Planted:
        source = self.image()
        copy = self.images / "000000999998.jpg"
        shutil.copyfile(source, copy)
        shutil.copyfile(self.labels / f"{source.stem}.txt", self.labels / f"{copy.stem}.txt")
        with (self.root / "train.txt").open("a") as stream:
            stream.write(f"images/train2017/{copy.name}\n")
        return "duplicate_image", copy.name

    def leakage(self) -> Planted:
        held = next(stem for stem in self._held_out if self._count(stem))
        copy = self.images / "000000999997.jpg"
        shutil.copyfile(self.images / f"{held}.jpg", copy)
        shutil.copyfile(self.labels / f"{held}.txt", self.labels / f"{copy.stem}.txt")
        with (self.root / "train.txt").open("a") as stream:
            stream.write(f"images/train2017/{copy.name}\n")
        return "leakage", copy.name

    def duplicate_box(self) -> Planted:
        path = self.labels / f"{next(self._stems)}.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines, lines[0]]) + "\n")
        return "duplicate_box", path.name

    def empty_file(self) -> Planted:
        path = self.image()
        path.write_bytes(b"")
        return "empty_file", path.name

    def not_an_image(self) -> Planted:
        path = self.image()
        path.write_text("<html><body>404 Not Found</body></html>")
        return "not_an_image", path.name

    def unreadable_text(self) -> Planted:
        path = self.labels / f"{next(self._stems)}.txt"
        path.write_bytes(b"\xff\xfe0 0.5")
        return "unreadable_text", path.name


FAULTS: dict[str, Callable[[Faults], Planted]] = {
    "truncated JPEG": Faults.truncated,
    "wrong extension": Faults.wrong_extension,
    "missing image": Faults.missing_image,
    "orphan label": Faults.orphan_label,
    "id gap": Faults.id_gap,
    "NaN box": lambda f: f.line(lambda c: " ".join([c[0], "nan", *c[2:]]), "box_not_finite"),
    "duplicate image": Faults.duplicate,
    "leakage between splits": Faults.leakage,
    "box outside": lambda f: f.line(lambda c: f"{c[0]} 0.95 0.5 0.2 0.2", "box_outside"),
    "inverted box": lambda f: f.line(lambda c: f"{c[0]} 0.5 0.5 -0.2 0.2", "box_inverted"),
    "box without area": lambda f: f.line(lambda c: f"{c[0]} 0.5 0.5 0 0.2", "box_zero_area"),
    "class id out of range": lambda f: f.line(lambda c: " ".join(["99", *c[1:]]), "unknown_class"),
    "malformed line": lambda f: f.line(lambda c: " ".join(c[:3]), "malformed_entry"),
    "image of 0 bytes": Faults.empty_file,
    "content that is no image": Faults.not_an_image,
    "duplicate annotation": Faults.duplicate_box,
    "label that is no text": Faults.unreadable_text,
}
