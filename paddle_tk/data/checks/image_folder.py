"""The ImageNet layout: one folder of image files per class, the same classes in every split."""

from __future__ import annotations

import os
from pathlib import Path

from paddle_tk.data.checks.findings import Sample, Scan
from paddle_tk.data.formats.detection_files import is_image

_SPLITS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}


def scan_image_folder(root: Path) -> Scan:
    """Lists what a folder of images holds."""
    scan = Scan(root)
    if not root.is_dir():
        scan.fault("layout", root, "is not a folder")
        return scan
    folders = {split: [root / n for n in names if (root / n).is_dir()] for split, names in _SPLITS.items()}
    if len(folders["val"]) > 1:
        scan.fault("layout", root, "has both a 'val' and a 'validation' folder")
    parts = {split: found[0] for split, found in folders.items() if found} if folders["train"] else {"train": root}
    first: list[str] | None = None
    for split, folder in parts.items():
        classes = _split(scan, split, folder)
        if first is not None and classes != first:
            told = f"{sorted(set(classes) ^ set(first))[:5]} are class folders of only one of train and {split}"
            scan.fault("class_mismatch", folder, told, split=split)
        first = classes if first is None else first
    if first is not None and len(first) < 2:
        scan.fault("layout", parts["train"], f"holds {len(first)} class folder(s), at least two are needed")
    scan.classes = tuple(first or ())
    return scan


def _split(scan: Scan, split: str, folder: Path) -> list[str]:
    """Adds the images of a split; returns its class folders, sorted."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    classes = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    loose = [entry.name for entry in entries if entry.is_file() and is_image(entry.name)]
    if loose and classes:
        told = f"{len(loose)} image(s) lie in no class folder, the first is {loose[0]}"
        scan.fault("layout", folder, told, split=split)
    for name in classes:
        files = sorted(entry.name for entry in os.scandir(folder / name) if entry.is_file())
        images = [file for file in files if is_image(file)]
        if not images:
            scan.fault("empty_class", folder / name, "holds no images", split=split)
        other = [file for file in files if not is_image(file) and not file.startswith(".")]
        if other:
            scan.remarks.append(f"{folder.name}/{name}: {len(other)} file(s) are no images by name, such as {other[0]}")
        scan.samples += [Sample(split, str(folder / name / file), "", f"class {name}") for file in images]
    return classes
