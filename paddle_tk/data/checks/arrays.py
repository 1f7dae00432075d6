"""Datasets that are held in memory once they are read: the same image twice, in one split or in two."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.checks.findings import Sample, Scan
from paddle_tk.data.checks.images import ImageFacts, repeated


def scan_arrays(bundle: DatasetBundle, root: Path) -> tuple[Scan, int]:
    """Hashes the pixels of every image; returns the scan and how many images there are.

    What reading checks, such as labels and the number of images in a file, is right once there is a bundle. An image
    that occurs twice is a remark: the files are published as they are, and nothing of them could be put aside.
    """
    scan = Scan(root, classes=bundle.classes)
    facts: dict[str, ImageFacts] = {}
    for split, images in bundle.splits.items():
        for i in range(len(images)):
            pixels = images.image(i)
            name = f"{images.name(i)} ({split} {i})"
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            facts[name] = ImageFacts(name, digest, (pixels.shape[0], pixels.shape[1]))
            scan.samples.append(Sample(split, name, "", name))
    for finding in repeated(scan.samples, facts):
        scan.remarks.append(f"{finding.file} {finding.problem}")
    return scan, len(facts)
