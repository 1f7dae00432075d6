"""Training from shards: every image once, whoever reads, and the rest of an epoch byte for byte after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.data.box_transforms import BoxEvalTransform, BoxTrainTransform
from paddle_tk.data.loader import EvalLoader, TrainLoader
from paddle_tk.data.shard_split import ShardSplit
from paddle_tk.data.shards import ShardSettings
from paddle_tk.data.shares import Share
from paddle_tk.data.streams import StreamOrders
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.types import Preprocessing
from tests.data.detection_sets import coco_root, load
from tests.data.shard_sets import load_shards, numbered, served, sharded

ROOT = Path(__file__).resolve().parents[2]
SIZE = Preprocessing((8, 8))
AUGMENT = TrainTransform(SIZE, flip=0.5, crop_padding=2)
Batch = tuple[bytes, list[int]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 images of 8 px whose label is their number, in 3 shards of some 3 row groups; read only."""
    folder = tmp_path_factory.mktemp("numbers") / "s"
    sharded(folder)
    return folder


def loader(root: Path | str, workers: int = 0, share: Share | None = None, **changes: int) -> TrainLoader:
    settings = {"batch_size": 16, "seed": 3, "shuffle_buffer": 64, **changes}
    split = load_shards(root).splits["train"]
    return TrainLoader(split, AUGMENT, num_workers=workers, share=share, **settings)  # type: ignore[arg-type]


def batches(made: TrainLoader, epoch: int = 0, step: int = 0) -> list[Batch]:
    made.start(epoch, step)
    return [(images.numpy().tobytes(), labels.numpy().tolist()) for images, labels in made]


def numbers(found: Sequence[Batch]) -> list[int]:
    return [number for _, labels in found for number in labels]


def test_train_loader_covers_every_image_once_in_an_order_of_its_own_each_epoch_when_it_streams(shards: Path) -> None:
    first, second = (numbers(batches(loader(shards), epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(400))
    assert first != second
    assert np.mean(np.array(first) == np.array(second)) < 0.05


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_train_loader_gives_the_same_bytes_from_shards_whatever_the_workers(shards: Path, workers: int) -> None:
    assert batches(loader(shards, workers), 1) == batches(loader(shards), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_gives_the_tail_byte_for_byte_when_it_streams_on_in_mid_epoch(shards: Path, workers: int) -> None:
    whole = batches(loader(shards), 2)
    for step in (1, 7, 24, 25):
        assert batches(loader(shards, workers), 2, step) == whole[step:]


@pytest.mark.parametrize("sizes", [(6, 5, 5), (8, 8), (13, 3)])
def test_processes_and_workers_see_every_image_once_when_they_stream_together(
    shards: Path, sizes: tuple[int, ...]
) -> None:
    whole = batches(loader(shards), 1)
    parts = [batches(loader(shards, 2, Share(rank, sizes)), 1) for rank in range(len(sizes))]
    assert sorted(numbers([batch for part in parts for batch in part])) == list(range(400))
    for step, (_, labels) in enumerate(whole):
        assert labels == [number for part in parts for number in part[step][1]]


def test_train_loader_streams_over_http_in_worker_processes(shards: Path) -> None:
    local = batches(loader(shards))
    with served(shards) as (url, _):
        assert batches(loader(url, 2)) == local


def test_eval_loader_gives_the_images_in_their_order_from_shards(shards: Path) -> None:
    test = load_shards(shards).splits["test"]
    for workers in (0, 2):
        found = EvalLoader(test, EvalTransform(SIZE), batch_size=4, num_workers=workers)
        assert [int(label) for _, labels in found for label in labels.numpy()] == list(range(7, 21))


def test_stream_reads_each_row_group_once_with_few_of_them_in_memory(tmp_path: Path) -> None:
    sharded(tmp_path / "s", numbered(3000), ShardSettings(rows_per_shard=320, group_mb=0.001))
    split = load_shards(tmp_path / "s").splits["train"]
    assert isinstance(split, ShardSplit)
    orders, blocks = StreamOrders(split, 16, 64), len(split.block_shards)
    reading = split.holding(orders.blocks_held(Share(0, (16,)), 0))
    seen = [reading.labelled(int(row))[1] for row in orders.draws(3, 0)[0:3000]]
    assert sorted(seen) == list(range(3000))
    assert reading.rows.held < blocks
    # A block in which two streams meet is read for each of them.
    assert blocks <= reading.rows.groups_read <= blocks + 16


def test_split_can_be_asked_for_boxes_while_a_loader_reads_it(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco", 24))
    sharded(tmp_path / "s", bundle)
    made = EvalLoader(
        load_shards(tmp_path / "s").splits["test"], BoxEvalTransform(Preprocessing((64, 64))), batch_size=1
    )
    assert isinstance(made.split, ShardSplit)
    for _ in made:
        assert made.split.rows.groups_read == 0  # the loader reads through row groups of its own


def test_detectors_are_fed_from_shards_with_boxes_and_mosaics(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco", 24))
    sharded(tmp_path / "s", bundle, ShardSettings(rows_per_shard=8, order="given"))
    found = load_shards(tmp_path / "s")
    size = Preprocessing((64, 64), resize="letterbox")
    mosaic = BoxTrainTransform(size, mosaic=1.0, mixup=0.5)
    pairs = []
    for workers in (0, 2):
        made = TrainLoader(found.splits["train"], mosaic, batch_size=4, seed=1, num_workers=workers)
        made.start(0)
        pairs.append([(images.numpy().tobytes(), targets.numpy().tobytes()) for images, targets in made])
    assert pairs[0] == pairs[1]
    still = BoxEvalTransform(size)
    for name in ("val", "test"):
        own, other = (EvalLoader(one.splits[name], still, batch_size=2) for one in (bundle, found))
        for (images, targets), (images_there, targets_there) in zip(own, other, strict=True):
            np.testing.assert_array_equal(images.numpy(), images_there.numpy())
            np.testing.assert_array_equal(targets.numpy(), targets_there.numpy())


KILLED = """
    import json, os, sys
    from paddle_tk.environment.start import start_paddle
    start_paddle()
    from tests.data.test_shard_loader import loader
    root, log, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
    made = loader(root, 2)
    made.start(4, step)
    with open(log, "a") as out:
        for number, (_, labels) in enumerate(made, step):
            out.write(json.dumps([number, labels.numpy().tolist()]) + "\\n")
            out.flush()
            os.fsync(out.fileno())
            if number == step + 6:
                os.kill(os.getpid(), 9)
"""


def test_killed_and_resumed_readers_see_exactly_what_was_not_yet_seen(shards: Path, tmp_path: Path) -> None:
    log, codes = tmp_path / "seen", []
    log.touch()
    end = time.monotonic() + 120
    while not codes or (codes[-1] == -signal.SIGKILL and time.monotonic() < end):
        step = len(log.read_text().splitlines())
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(shards), str(log), str(step)]
        codes.append(subprocess.run(command, cwd=ROOT, env=os.environ.copy(), check=False, timeout=100).returncode)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [number for number, _ in lines] == list(range(25))
    assert sorted(label for _, labels in lines for label in labels) == list(range(400))
