import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import paddle
import psutil
import pytest

from paddle_tk.data.bundle import ArraySplit, FileSplit, ImageSplit
from paddle_tk.data.loader import EvalLoader, TrainLoader
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.errors import BadInput, DataError
from paddle_tk.types import Preprocessing

ROOT = Path(__file__).resolve().parents[2]
SIZE = Preprocessing((12, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
AUGMENT = TrainTransform(
    SIZE, flip=0.5, crop_padding=3, random_resized_crop=[0.5, 1.0], color_jitter=0.3, rotation_degrees=20
)
Batch = tuple[bytes, tuple[int, ...], list[int]]


def array_split(n: int) -> ArraySplit:
    images = np.random.default_rng(0).integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)
    return ArraySplit(images, np.arange(n, dtype=np.int64), [f"image {i}" for i in range(n)])


def loader(split: ImageSplit | None = None, workers: int = 0, **changes: object) -> TrainLoader:
    settings: dict[str, object] = {
        "batch_size": 8,
        "seed": 3,
        "num_workers": workers,
        "prefetch_factor": 2,
    } | changes
    return TrainLoader(split or array_split(45), AUGMENT, **settings)  # type: ignore[arg-type]


def contents(loaded: TrainLoader | EvalLoader) -> list[Batch]:
    out = []
    for images, labels in loaded:
        assert images.dtype == paddle.float32
        assert labels.dtype == paddle.int64
        out.append((images.numpy().tobytes(), tuple(images.shape), labels.numpy().tolist()))
    return out


def processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_train_loader_covers_every_image_once_when_an_epoch_is_whole() -> None:
    train = loader()
    train.start(2)
    assert len(train) == train.batches_per_epoch == 6
    batches = contents(train)
    assert [shape for _, shape, _ in batches] == [(8, 3, 12, 16)] * 5 + [(5, 3, 12, 16)]
    assert [len(labels) for *_, labels in batches] == [train.batch_samples(step) for step in range(6)]
    seen = [label for *_, labels in batches for label in labels]
    assert sorted(seen) == list(range(45))
    assert seen == np.random.default_rng((3, 2)).permutation(45).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_gives_the_tail_byte_for_byte_when_resumed_mid_epoch(workers: int) -> None:
    whole = loader()
    whole.start(1)
    expected = contents(whole)
    resumed = loader(workers=workers)
    for step in (0, 1, 4, 5, 6):
        resumed.start(1, step)
        assert len(resumed) == 6 - step
        assert contents(resumed) == expected[step:]


def test_train_loader_differs_when_epoch_or_seed_differ() -> None:
    def first(seed: int, epoch: int) -> Batch:
        train = loader(seed=seed)
        train.start(epoch)
        return contents(train)[0]

    drawn = [first(3, 0), first(3, 1), first(4, 0)]
    assert len({pixels for pixels, *_ in drawn}) == 3
    assert len({tuple(labels) for *_, labels in drawn}) == 3
    assert first(3, 0) == drawn[0]


def test_train_loader_augments_an_image_anew_when_the_epoch_changes() -> None:
    split = array_split(1)
    train = loader(split, batch_size=1)
    pixels = set()
    for epoch in range(20):
        train.start(epoch)
        pixels.add(contents(train)[0][0])
    assert len(pixels) == 20


def test_train_loader_loads_nothing_of_skipped_batches_when_resumed() -> None:
    read: list[int] = []

    class Watched(ArraySplit):
        def image(self, index: int) -> np.ndarray:
            read.append(index)
            return super().image(index)

    plain = array_split(45)
    train = loader(Watched(plain.images, plain.labels, plain.names))
    train.start(0, 4)
    rest = [label for *_, labels in contents(train) for label in labels]
    assert read == rest
    assert len(read) == 13


@pytest.mark.parametrize(
    ("drop_last", "limit", "lengths"),
    [
        (False, None, [8] * 5 + [5]),
        (True, None, [8] * 5),
        (True, 2, [8, 8]),
        (False, 6, [8] * 5 + [5]),
        (False, 99, [8] * 5 + [5]),
    ],
)
def test_train_loader_has_the_right_batches_when_cut(drop_last: bool, limit: int | None, lengths: list[int]) -> None:
    train = loader(drop_last=drop_last, limit_batches=limit)
    assert len(train) == len(lengths)
    assert [len(labels) for *_, labels in contents(train)] == lengths
    with pytest.raises(ValueError, match="step must be from 0"):
        train.batch_samples(len(lengths))


def test_train_loader_raises_when_no_whole_batch_is_left() -> None:
    with pytest.raises(BadInput, match=r"data\.batch_size=46 leaves no whole batch in 45 images"):
        loader(batch_size=46, drop_last=True)


def test_train_loader_raises_when_started_beyond_the_epoch() -> None:
    with pytest.raises(ValueError, match="a step is from 0 to 6"):
        loader().start(0, 7)


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_stops_before_the_next_batch_when_told(workers: int) -> None:
    train = loader(workers=workers)
    seen: list[int] = []
    train.stop_when = lambda: len(seen) == 2
    for _, labels in train:
        seen.append(len(labels))
    assert seen == [8, 8]
    assert not processes()
    train.stop_when = None
    train.start(0, 2)
    assert contents(train) == contents(loader())[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_leaves_no_process_or_thread_when_left_early(workers: int) -> None:
    import threading

    before = threading.active_count()
    train = loader(workers=workers)
    expected = contents(loader())
    for epoch_end in (1, 3):
        for i, (images, _) in enumerate(train):
            assert images.numpy().tobytes() == expected[i][0]
            if i == epoch_end:
                break
        gc.collect()
        assert not processes()
        # Paddle's receiving thread notices within its polling time of 5 s.
        assert wait_for(lambda: threading.active_count() <= before, 8)
    assert contents(train) == expected, "nothing stale is left for the next pass"


def test_train_loader_leaves_numpys_global_generator_when_workers_start() -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    contents(loader(workers=1))
    assert np.random.random() == expected


def test_train_loader_close_ends_the_workers_when_an_error_keeps_the_iterator() -> None:
    train = loader(workers=2)
    iterator = iter(train)
    next(iterator)
    assert len(processes()) >= 2
    train.close()
    assert not processes()
    train.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_raises_one_clear_error_when_a_file_vanishes(tmp_path: Path, workers: int) -> None:
    paths = []
    for i in range(40):
        paths.append(tmp_path / f"bild {i}.png")
        paths[-1].write_bytes(cv2.imencode(".png", np.full((9, 9, 3), i, np.uint8))[1].tobytes())
    train = loader(FileSplit(paths, np.zeros(40, np.int64)), workers=workers)
    assert len(contents(train)) == 5
    paths[7].unlink()
    with pytest.raises(DataError, match=r"bild 7\.png cannot be read: No such file"):
        contents(train)
    assert not processes()


@pytest.mark.parametrize("workers", [0, 1])
def test_train_loader_raises_and_names_the_image_when_a_transform_fails(workers: int) -> None:
    class Broken(ArraySplit):
        def image(self, index: int) -> np.ndarray:
            return super().image(index).astype(np.float32)

    plain = array_split(8)
    train = loader(Broken(plain.images, plain.labels, plain.names), workers=workers)
    with pytest.raises(RuntimeError, match=r"(?s)image image \d could not be prepared.*expected a uint8 image"):
        contents(train)


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_loader_equals_the_transform_image_by_image_when_iterated(workers: int) -> None:
    split, transform = array_split(21), EvalTransform(SIZE)
    evaluate = EvalLoader(split, transform, batch_size=8, num_workers=workers)
    assert len(evaluate) == evaluate.batches_per_epoch == 3
    for _ in range(2):
        batches = [(images.numpy(), labels.numpy()) for images, labels in evaluate]
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), split.labels)
        expected = np.stack([transform(split.image(i)) for i in range(21)])
        np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), expected)


def test_eval_loader_reads_the_first_batches_when_limited() -> None:
    evaluate = EvalLoader(array_split(21), EvalTransform(SIZE), batch_size=8, limit_batches=2)
    assert [labels for *_, labels in contents(evaluate)] == [list(range(8)), list(range(8, 16))]


SCRIPT = textwrap.dedent(
    """
    import os, sys, time
    import numpy as np, psutil
    from paddle_tk.data.bundle import ArraySplit
    from paddle_tk.data.loader import TrainLoader
    from paddle_tk.data.transforms import TrainTransform
    from paddle_tk.types import Preprocessing

    split = ArraySplit(np.zeros((64, 8, 8, 3), np.uint8), np.zeros(64, np.int64), [""] * 64)
    train = TrainLoader(split, TrainTransform(Preprocessing((8, 8))), batch_size=4, seed=0, num_workers=2)
    count = 0
    if sys.argv[1] == "signals":
        import signal
        main = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):  # a trainer's handler, which is not for its workers
            signal.signal(number, lambda *_: None if os.getpid() == main else os._exit(3))
    for _ in train:
        count += 1
        if count == 2:
            print(*[child.pid for child in psutil.Process().children()], flush=True)
            sys.stdin.readline()
    print(count, flush=True)
    """
)


def run_script(mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, mode],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    while not (line := process.stdout.readline()).strip().replace(" ", "").isdigit():
        assert line, "the script ended early"
    return [int(pid) for pid in line.split()]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="loader processes exist on Linux only")
def test_train_loader_leaves_no_worker_or_shared_memory_when_the_process_is_killed() -> None:
    process = run_script("kill")
    pids = worker_pids(process)
    assert len(pids) >= 2
    process.kill()
    process.wait()
    assert wait_for(lambda: not any(alive(pid) for pid in pids), 20)
    owners = (f"paddle_{pid}_" for pid in [*pids, process.pid])
    assert not [path for owner in owners for path in Path("/dev/shm").glob(f"{owner}*")]


@pytest.mark.skipif(sys.platform != "linux", reason="loader processes exist on Linux only")
def test_train_loader_goes_on_when_the_whole_process_group_gets_a_signal() -> None:
    process = run_script("signals")
    pids = worker_pids(process)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(process.pid, number)
    time.sleep(0.5)  # the signals reach every process; nothing tells when
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.read().split()[-1] == "16"
    assert process.wait() == 0
    assert not any(alive(pid) for pid in pids)
