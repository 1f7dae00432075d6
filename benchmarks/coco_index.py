"""How long does it take until a dataset's index is there, the first time and ever after?

    python benchmarks/coco_index.py [--parts coco imagenet] [--rounds 3] [--folder D]

COCO: an annotation file of train2017's size, by pycocotools and by our reader, each in a fresh process, in turn. Cold:
nothing is cached by us; warm: the index is. Timed is from the path to an index by image, after imports; memory is the
peak of the process (VmHWM), imports and mapped pages included. All readers must name the same annotations.

ImageNet's layout: 100,000 tiny files in 1,000 folders. Timed is listing all files with size and time, and the index;
"load" is the whole `load_dataset`, which decodes every image at its first run. The system has the folders in its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser

IMAGENET = 1_281_167
COMPARED = 2000
Figures = dict[str, Any]


def _peak_mb() -> float:
    """The largest resident memory of this process, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _same(rows: list[Any]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def stage_pycocotools(path: Path) -> Figures:
    """COCO(path) and its lookups."""
    from pycocotools.coco import COCO

    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(str(path))
    seconds, peak = time.perf_counter() - began, _peak_mb()
    rows = [
        [i, [[a["id"], a["category_id"], a["bbox"], a["area"], a["iscrowd"]] for a in found.imgToAnns[i]]]
        for i in sorted(found.imgs)[:COMPARED]
    ]
    return {"seconds": seconds, "peak_mb": peak, "rows": _same(rows)}


def stage_ours(path: Path) -> Figures:
    """Our reader; cold or warm by what ``PADDLE_TK_HOME`` holds."""
    from paddle_tk.data.formats.coco_table import read_coco_table

    began = time.perf_counter()
    found = read_coco_table(path)
    seconds, peak = time.perf_counter() - began, _peak_mb()
    images = sorted(range(len(found.image_ids)), key=found.image_ids.values().__getitem__)[:COMPARED]  # type: ignore[arg-type]
    rows = [
        [
            found.image_ids[i],
            [
                [found.ids[a], found.category_of[a], found.bbox[a].tolist(), float(found.areas[a]), int(found.crowd[a])]
                for a in found.annotations_of(i).tolist()
            ],
        ]
        for i in images
    ]
    return {"seconds": seconds, "peak_mb": peak, "rows": _same(rows)}


def stage_scan(root: Path) -> Figures:
    """Lists the folder and makes or opens its index, as ``load_image_folder`` does."""
    from paddle_tk.data.formats.folder_index import folder_index, list_classes

    began = time.perf_counter()
    listings = {"train": list_classes(root / "train")}
    listed = time.perf_counter() - began
    index = folder_index(root, listings, frozenset())
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "listing": listed, "peak_mb": _peak_mb(), "rows": len(index.paths["train"])}


def stage_load(root: Path) -> Figures:
    """The whole dataset; decodes every image unless an earlier run has."""
    from paddle_tk.data.datasets import load_dataset

    began = time.perf_counter()
    bundle = load_dataset("image_folder", root=str(root), val_fraction=0.1, test_fraction=0.1, split_seed=0)
    rows = sum(len(split) for split in bundle.splits.values())
    return {"seconds": time.perf_counter() - began, "peak_mb": _peak_mb(), "rows": rows}


def stage_write_coco(path: Path) -> Figures:
    """Makes the annotation file."""
    from benchmarks._big_index import write_coco

    write_coco(path)
    return {}


def stage_write_folder(root: Path) -> Figures:
    """Makes the image folder."""
    from benchmarks._big_index import write_image_folder

    write_image_folder(root)
    return {}


STAGES: dict[str, Callable[[Path], Figures]] = {
    name.removeprefix("stage_"): job for name, job in list(globals().items()) if name.startswith("stage_")
}


def _run(stage: str, path: Path, home: Path) -> Figures:
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage, "--path", str(path)]
    environment = {**os.environ, "PADDLE_TK_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: Figures = json.loads(done.stdout)
    return found


class _Homes:
    """A fresh home for each cold run, which the warm run after it uses."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.current = folder, folder

    def fresh(self) -> Path:
        """Returns a home that nobody has used."""
        self.current = Path(tempfile.mkdtemp(prefix="home-", dir=self._folder))
        return self.current


def _measured(
    jobs: dict[str, Callable[[], Figures]], rounds: int, samples: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Runs jobs in turn; adds seconds and peaks to the samples, and asserts that all found the same."""
    found: set[object] = set()

    def timed(name: str) -> float:
        figures = jobs[name]()
        found.add(figures.pop("rows"))
        for what, value in figures.items():
            samples.setdefault(f"{name} {what}", []).append(value)
        return float(figures["seconds"])

    times = interleaved({name: partial(timed, name) for name in jobs}, rounds)
    assert len(found) == 1, f"the readers differ: {found}"
    return times


def coco(folder: Path, scratch: Path, rounds: int, samples: dict[str, list[float]]) -> list[Claim]:
    """COCO at full size."""
    path, homes = folder / "instances_train2017.json", _Homes(scratch)
    if not path.is_file():
        _run("write_coco", path, folder)
    print(f"  {path.stat().st_size / 2**20:.0f} MiB of annotations", file=sys.stderr)
    names = ("pycocotools", "cold", "warm")
    jobs: dict[str, Callable[[], Figures]] = {
        names[0]: lambda: _run("pycocotools", path, homes.current),
        names[1]: lambda: _run("ours", path, homes.fresh()),
        names[2]: lambda: _run("ours", path, homes.current),
    }
    times = _measured(jobs, rounds, samples)
    peaks = {name: samples[f"{name} peak_mb"] for name in names}
    for name in names:
        print(f"COCO {name:12} {sorted(times[name])[rounds // 2]:8.3f} s  {sorted(peaks[name])[rounds // 2]:7.0f} MiB")
    base, base_peak = times["pycocotools"], peaks["pycocotools"]
    return [
        Claim("coco_index cold, time of pycocotools'", paired_ratio(times["cold"], base), "ratio", 0.25),
        Claim("coco_index cold, memory of pycocotools'", paired_ratio(peaks["cold"], base_peak), "ratio", 0.40),
        Claim("coco_index warm, time of pycocotools'", paired_ratio(times["warm"], base), "ratio", 0.02),
    ]


def imagenet(folder: Path, scratch: Path, rounds: int, samples: dict[str, list[float]]) -> list[Claim]:
    """ImageNet's layout."""
    from benchmarks._big_index import CLASSES, FILES_PER_CLASS

    root, homes = folder / "imagenet", _Homes(scratch)
    if not root.is_dir():
        _run("write_folder", root, folder)
    jobs: dict[str, Callable[[], Figures]] = {
        "cold scan": lambda: _run("scan", root, homes.fresh()),
        "warm scan": lambda: _run("scan", root, homes.current),
        "cold load": lambda: _run("load", root, homes.fresh()),
        "warm load": lambda: _run("load", root, homes.current),
    }
    times = _measured(jobs, rounds, samples)
    files = CLASSES * FILES_PER_CLASS
    claims = []
    for name, seconds in times.items():
        middle = sorted(seconds)[rounds // 2]
        whole = middle * IMAGENET / files
        peak = sorted(samples[f"{name} peak_mb"])[rounds // 2]
        print(
            f"ImageNet layout {name}: {middle:.3f} s, {files / middle:,.0f} files/s, {peak:.0f} MiB; "
            f"1.28 M files: {whole:.1f} s"
        )
        if name != "cold load":  # tiny images say nothing about how long ImageNet's take to decode
            claims.append(Claim(f"image_folder index {name}, extrapolated to 1.28 M files", whole, "s", 120.0))
    return claims


def main() -> int:
    """Measures and compares."""
    arguments = parser(__doc__ or "", "coco_index")
    arguments.add_argument("--parts", nargs="+", choices=("coco", "imagenet"), default=["coco", "imagenet"])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=Path, help="keep the generated data here and use it again")
    arguments.add_argument("--stage", choices=sorted(STAGES), help="one measurement, in this process")
    arguments.add_argument("--path", type=Path, help="what to measure it on")
    given = arguments.parse_args()
    if given.stage:
        print(json.dumps(STAGES[given.stage](given.path)))
        return 0
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="coco_index-") as name:
        data = given.folder or Path(name)
        data.mkdir(parents=True, exist_ok=True)
        for part in given.parts:
            claims += {"coco": coco, "imagenet": imagenet}[part](data, Path(name), given.rounds, samples)
    return finish(claims, samples, given.json, {"n": given.rounds, "claims are": "medians of ratios round by round"})


if __name__ == "__main__":
    sys.exit(main())
