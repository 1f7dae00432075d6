"""Is training from shards as fast as from files and memory, of flat memory, exact when killed, the same by Ray?

    python benchmarks/streaming.py --images cifar10_jpeg.tar.gz [--parts speed memory resume ranks ray cores]

The archive has CIFAR-10 as JPEG files in cifar10/{train,test}/<class>/. Without it the parts that need real images are
not run, and their claims count as missed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddle_tk.environment.start import start_paddle

start_paddle()

import cv2
import numpy as np

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser
from benchmarks._streaming_probe import split_of
from paddle_tk.data.bundle import ArraySplit, DatasetBundle, FileSplit, ImageSplit, decode_image
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.loader import TrainLoader
from paddle_tk.data.shard_check import check_shards
from paddle_tk.data.shard_index import ShardIndex
from paddle_tk.data.shard_merge import merge_shards
from paddle_tk.data.shard_split import ShardSplit
from paddle_tk.data.shards import ShardSettings, write_shards
from paddle_tk.data.streams import StreamOrders
from paddle_tk.data.transforms import TrainTransform
from paddle_tk.errors import DataError
from paddle_tk.types import Preprocessing

PROBE = Path(__file__).with_name("_streaming_probe.py")
PARTS = ("speed", "memory", "resume", "ranks", "ray", "cores")
# One epoch differs from the next by a tenth where the machine is shared: a bound of 5 % needs many, one far off few.
AGAINST = {"files": (1.0, 5), "memory": (0.95, 31)}  # the least ratio, and the epochs of each that it is the median of
GROWTH, KILLS = 10, 5
IDS, BATCH = 6000, 24


class ListSplit:
    """The same files as a list of their bytes in memory: what no storage can beat."""

    on_disk = True

    def __init__(self, files: FileSplit) -> None:
        self.labels = files.labels
        self._contents = [np.fromfile(path, np.uint8) for path in files.paths]

    def __len__(self) -> int:
        return len(self._contents)

    def image(self, index: int) -> np.ndarray:
        """Decodes image ``index``: uint8 RGB, (H, W, 3)."""
        image = decode_image(self._contents[index])
        if image is None:
            raise DataError(f"image {index} cannot be decoded", "repair it")
        return image

    def name(self, index: int) -> str:
        """Returns its number."""
        return str(index)

    def subset(self, indices: np.ndarray) -> ImageSplit:
        """Is not needed here."""
        raise NotImplementedError


def _shards(bundle: DatasetBundle, folder: Path, settings: ShardSettings, engine: str = "local") -> ShardIndex:
    folder.mkdir()
    return write_shards(bundle, folder, settings, engine="ray" if engine == "ray" else "local", workers=2)


def _cifar(archive: Path, folder: Path) -> DatasetBundle:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return load_dataset("image_folder", root=str(folder / "cifar10"), val_fraction=0.1, test_fraction=0.1, split_seed=0)


def _numbered(folder: Path) -> str:
    """Writes shards of small images whose label is their number, and returns where."""
    images = np.random.default_rng(0).integers(0, 256, (IDS, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(IDS, dtype=np.int64)
    whole = ArraySplit(images, labels, [str(i) for i in range(IDS)])
    splits = {"train": whole, "val": whole.subset(labels[:1]), "test": whole.subset(labels[:1])}
    classes = tuple(map(str, range(IDS)))
    bundle = DatasetBundle("numbers", "classification", splits, classes, "made here", "none", "0")
    _shards(bundle, folder, ShardSettings(rows_per_shard=700, group_mb=0.02))
    return str(folder)


def speed(bundle: DatasetBundle, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Images per second by the same loader, decoder and transform, as training reads them."""
    _shards(bundle, folder / "shards", ShardSettings(shard_mb=8))
    train = bundle.splits["train"]
    assert isinstance(train, FileSplit)
    transform = TrainTransform(Preprocessing((32, 32)), flip=0.5, crop_padding=4)
    splits: dict[str, ImageSplit] = {
        "files": train,
        "memory": ListSplit(train),
        "shards": split_of(str(folder / "shards")),
    }
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for workers in (1, 0):
        loaders = {
            name: TrainLoader(split, transform, batch_size=128, seed=0, num_workers=workers)
            for name, split in splits.items()
        }
        jobs = {name: (lambda loader=loader: _epoch(loader)) for name, loader in loaders.items()}
        interleaved(jobs, 1)  # fills the system's cache
        for other, (bound, repeats) in AGAINST.items():
            found = interleaved({name: jobs[name] for name in (other, "shards")}, repeats)
            for name, rates in found.items():
                print(f"  {workers} worker(s), {name}: {statistics.median(rates):,.0f} images/s (n={repeats})")
                samples[f"{name} beside {other}, {workers} workers, images/s"] = rates
            ratio = paired_ratio(found["shards"], found[other])
            name = f"streaming from shards / from {other}, {workers} worker(s)"
            claims.append(Claim(name, ratio, "ratio of images/s", bound, at_most=False))
    return claims, samples


def _epoch(loader: TrainLoader) -> float:
    loader.start(0)
    began = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    return images / (time.perf_counter() - began)


def memory(bundle: DatasetBundle, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Peak resident memory of an epoch over the images, and over ten times as many."""
    once, grown = folder / "once", folder / "grown"
    _shards(bundle, once, ShardSettings(shard_mb=8))
    for part in range(GROWTH):
        shutil.copytree(once, grown / f"part{part}")
    merge_shards(grown)
    peaks: dict[str, list[float]] = {}
    for name, root, repeats in (("once", once, 3), (f"{GROWTH} times", grown, 1)):
        found = [_probe("memory", str(root)) for _ in range(repeats)]
        peaks[f"peak MB, {name}"] = [float(one["peak_mb"]) for one in found]
        print(f"  {name}: {found[0]['images']} images, peak {peaks[f'peak MB, {name}']} MB")
    small, large = (statistics.median(values) for values in peaks.values())
    claim = Claim(f"streaming peak memory, {GROWTH} times the data / once", large / small, "ratio of MB", 1.05)
    return [claim], peaks


def _probe(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, PROBE, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _reader(root: str, log: Path, step: int, rank: int = 0, ranks: int = 1) -> subprocess.Popen[bytes]:
    numbers = map(str, (1, step, rank, ranks, BATCH))
    return subprocess.Popen([sys.executable, PROBE, "seen", root, log, *numbers], stderr=subprocess.DEVNULL)


def _lines(log: Path) -> list[tuple[int, list[int]]]:
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [(int(step), labels) for step, labels in map(json.loads, filter(_whole, text.splitlines()))]


def _whole(line: str) -> bool:
    """Whether a line was written to its end before its writer was killed."""
    return line.endswith("]]")


def resume(root: str, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Kills a reader with SIGKILL again and again, starts it where its log ends, and counts what was seen."""
    log, draw = folder / "seen.jsonl", random.Random(0)
    killed: list[float] = []
    while True:
        before = len(_lines(log))
        process = _reader(root, log, before)
        if len(killed) < KILLS:
            wanted = before + draw.randint(10, 40)
            while process.poll() is None and len(_lines(log)) < wanted:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            killed.append(float(len(_lines(log))))
        if process.wait() == 0:
            break
    lines = _lines(log)
    numbers = [number for _, labels in lines for number in labels]
    wrong = sum(abs(numbers.count(number) - 1) for number in range(IDS)) + abs(len(numbers) - IDS)
    print(f"  killed after {[int(k) for k in killed]} of {len(lines)} batches; {len(numbers)} of {IDS} images seen")
    return [Claim("streaming killed and resumed, images missed or repeated", float(wrong), "images", 0.0)], {
        "batches at each kill": killed
    }


def ranks(root: str, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Three processes with two loader workers each read one epoch together."""
    logs = [folder / f"rank{rank}.jsonl" for rank in range(3)]
    readers = [_reader(root, log, 0, rank, 3) for rank, log in enumerate(logs)]
    codes = [reader.wait() for reader in readers]
    seen = [number for log in logs for _, labels in _lines(log) for number in labels]
    wrong = sum(abs(seen.count(number) - 1) for number in range(IDS)) + sum(map(abs, codes))
    print(f"  3 processes x 2 workers: {len(seen)} images, {len(set(seen))} different of {IDS}")
    return [Claim("streaming in 3 processes x 2 workers, images missed or repeated", float(wrong), "images", 0.0)], {
        "images by process": [float(sum(len(labels) for _, labels in _lines(log))) for log in logs]
    }


def by_ray(bundle: DatasetBundle, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Writes the same shards by Ray Data and in one process, and compares their bytes."""
    settings, different, seconds = ShardSettings(shard_mb=4), 0, {}
    if importlib.util.find_spec("ray") is None:
        print("  Ray is not installed: pip install 'paddle_tk[ray]'")
        return [Claim("sharding by Ray, files that differ", 1.0, "files", 0.0)], {}
    for engine in ("local", "ray"):
        began = time.perf_counter()
        index = _shards(bundle, folder / engine, settings, engine)
        seconds[f"seconds by {engine}"] = [time.perf_counter() - began]
    for file in index.files:
        different += (folder / "local" / file).read_bytes() != (folder / "ray" / file).read_bytes()
    print(f"  {len(index.files)} files, {different} differ; {seconds}")
    return [Claim("sharding by Ray, files that differ", float(different), "files", 0.0)], seconds


def cores(bundle: DatasetBundle, folder: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    """Rates of one core at each step, on these images and on photographs of 640x480 px made of noise and gradients."""
    found: dict[str, list[float]] = {}
    for name, data in (("32 px", bundle), ("640x480 px", _photographs(folder / "photos"))):
        root, images = folder / name, sum(map(len, data.splits.values()))
        root.mkdir()
        began = time.perf_counter()
        index = write_shards(data, root, ShardSettings(shard_mb=16))
        size = sum(shard.size_bytes for shards in index.splits.values() for shard in shards)
        found[f"{name}: sharding, images/s"] = [images / (time.perf_counter() - began)]
        found[f"{name}: bytes per image"] = [size / images]
        began = time.perf_counter()
        assert check_shards(str(root)).good
        found[f"{name}: validating, images/s"] = [images / (time.perf_counter() - began)]
        found[f"{name}: reading row groups, MB/s"] = [_read_rate(str(root)) for _ in range(3)]
    for name, rates in found.items():
        print(f"  {name}: {statistics.median(rates):,.0f} (n={len(rates)})")
    return [], found


def _read_rate(root: str) -> float:
    split = split_of(root)
    assert isinstance(split, ShardSplit)
    order, held = StreamOrders(split, 128, 8192).draws(0, 0), split.holding(64)
    began, size = time.perf_counter(), 0
    for start in range(0, len(split), 128):
        size += sum(len(held.payload(int(index))) for index in order[start : start + 128])
    return size / 2**20 / (time.perf_counter() - began)


def _photographs(folder: Path, count: int = 600) -> DatasetBundle:
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 200, 640 * 480 * 3).reshape(480, 640, 3)
    for number in range(count):
        path = folder / ("ab"[number % 2]) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (slope + rng.normal(0, 12, slope.shape)).clip(0, 255).astype(np.uint8))
    return load_dataset("image_folder", root=str(folder), val_fraction=0.1, test_fraction=0.1, split_seed=0)


def main() -> int:
    """Measures and compares."""
    arguments = parser(__doc__ or "", "streaming")
    arguments.add_argument("--images", type=Path, default=os.environ.get("PADDLE_TK_CIFAR10_JPEG"), metavar="TAR_GZ")
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = arguments.parse_args()
    parts: Sequence[str] = given.parts
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="streaming-") as name:
        folder = Path(name)
        real = [part for part in parts if part in ("speed", "memory", "ray", "cores")]
        if real and given.images is None:
            print("no archive of images: give --images cifar10_jpeg.tar.gz")
            return 1
        bundle = _cifar(given.images, folder / "cifar") if real else None
        root = _numbered(folder / "numbers") if {"resume", "ranks"} & set(parts) else ""
        for part in parts:
            print(f"{part}:", flush=True)
            own = folder / part
            own.mkdir()
            if part in ("resume", "ranks"):
                found = (resume if part == "resume" else ranks)(root, own)
            else:
                assert bundle is not None
                found = {"speed": speed, "memory": memory, "ray": by_ray, "cores": cores}[part](bundle, own)
            claims += found[0]
            samples |= found[1]
    return finish(claims, samples, given.json, {"images": "CIFAR-10 as JPEG files, 32 px"})


if __name__ == "__main__":
    sys.exit(main())
