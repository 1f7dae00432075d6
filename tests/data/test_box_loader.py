import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import pytest

from paddle_tk.data.box_transforms import BoxEvalTransform, BoxTrainTransform
from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import ArraySplit
from paddle_tk.data.loader import EvalLoader, TrainLoader
from paddle_tk.data.transforms import TrainTransform
from paddle_tk.errors import DataError
from paddle_tk.types import Preprocessing
from tests.data.painted import PaintedImages

SIZE = Preprocessing((64, 96), resize="letterbox")
COUNT = 21
AUGMENT: dict[str, Any] = {
    "crop": 0.3, "mosaic": 0.5, "mixup": 0.3, "multi_scale": (0.5, 1.5), "mosaic_off_epochs": 1, "epochs": 4,
}  # fmt: skip
Batch = tuple[bytes, tuple[int, ...], bytes, tuple[int, ...]]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> DetectionSplit:
    """Files of several sizes; every third image has no boxes, all have a crowd box."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = [(40 + 3 * i, 90 - 2 * i) for i in range(COUNT)]
    painted = PaintedImages(sizes, seed=4)
    paths = []
    for i, picture in enumerate(painted.pictures):
        paths.append(folder / f"bild {i}.png")
        paths[-1].write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    boxes = [b.select(b.crowd) if i % 3 == 0 else b for i, b in enumerate(painted.annotations)]
    return DetectionSplit(paths, np.array(sizes), boxes)


def train_loader(split: DetectionSplit, workers: int = 0, seed: int = 3, **options: Any) -> TrainLoader:
    transform = BoxTrainTransform(SIZE, **AUGMENT | options)
    return TrainLoader(split, transform, batch_size=4, seed=seed, num_workers=workers)


def contents(loaded: TrainLoader | EvalLoader) -> list[Batch]:
    out = []
    for images, targets in loaded:
        assert images.dtype == targets.dtype == paddle.float32
        assert images.shape[0] == targets.shape[0]
        assert targets.shape[1] >= 1
        assert targets.shape[2] == 5
        out.append((images.numpy().tobytes(), tuple(images.shape), targets.numpy().tobytes(), tuple(targets.shape)))
    return out


def test_train_loader_gives_equal_bytes_when_workers_and_first_step_differ(split: DetectionSplit) -> None:
    whole = train_loader(split)
    whole.start(1)
    expected = contents(whole)
    assert len(expected) == 6
    assert [shape[0] for _, shape, *_ in expected] == [whole.batch_samples(step) for step in range(6)]
    for workers in (0, 1, 2):
        resumed = train_loader(split, workers)
        for step in (0, 2, 5, 6) if workers != 1 else (0, 3):
            resumed.start(1, step)
            assert contents(resumed) == expected[step:]


def test_train_loader_differs_when_epoch_or_seed_differ(split: DetectionSplit) -> None:
    def epoch(number: int, seed: int = 3) -> list[Batch]:
        train = train_loader(split, seed=seed)
        train.start(number)
        return contents(train)

    drawn = [epoch(0), epoch(1), epoch(0, seed=4)]
    assert len({batch for batches in drawn for batch in batches}) == 18
    assert epoch(0) == drawn[0]


def test_train_loader_draws_one_size_per_batch_when_multi_scale(split: DetectionSplit) -> None:
    train = train_loader(split)
    shapes = set()
    for epoch in range(4):
        train.start(epoch)
        sizes = [shape[2:] for _, shape, *_ in contents(train)]
        assert sizes == [BoxTrainTransform(SIZE, **AUGMENT).size_at(3, epoch, step) for step in range(6)]
        shapes.update(sizes)
    assert shapes == {(32, 64), (64, 96), (96, 128)}


def test_train_loader_stops_mosaics_when_the_last_epoch_comes(split: DetectionSplit) -> None:
    always = train_loader(split, mosaic=1.0, mixup=0.0)
    never = train_loader(split, mosaic=0.0, mixup=0.0)
    for epoch in range(4):
        always.start(epoch)
        never.start(epoch)
        assert (contents(always) == contents(never)) == (epoch == 3)


def test_train_loader_stops_before_the_next_batch_when_told(split: DetectionSplit) -> None:
    train = train_loader(split)
    seen: list[int] = []
    train.stop_when = lambda: len(seen) == 2
    for images, _ in train:
        seen.append(len(images))
    assert seen == [4, 4]


def test_train_loader_pads_with_class_minus_one_when_no_image_has_boxes(split: DetectionSplit) -> None:
    bare = split.subset(np.array([0, 3, 6, 9]))
    ((_, _, targets, shape),) = contents(train_loader(bare))
    assert shape == (4, 1, 5)
    assert np.frombuffer(targets, np.float32).reshape(4, 5).tolist() == [[-1, 0, 0, 0, 0]] * 4


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_loader_equals_the_transform_image_by_image_when_iterated(split: DetectionSplit, workers: int) -> None:
    transform = BoxEvalTransform(SIZE)
    evaluate = EvalLoader(split, transform, batch_size=8, num_workers=workers)
    assert len(evaluate) == 3
    for _ in range(2):
        samples = [
            (image, rows[rows[:, 0] >= 0])
            for images, targets in evaluate
            for image, rows in zip(images.numpy(), targets.numpy(), strict=True)
        ]
        assert len(samples) == COUNT
        for i, (image, rows) in enumerate(samples):
            expected = transform(split.image(i), split.boxes(i))
            np.testing.assert_array_equal(image, expected[0])
            np.testing.assert_array_equal(rows, expected[1])
            assert len(rows) == (~split.boxes(i).crowd).sum()


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_raises_one_clear_error_when_a_file_vanishes(
    split: DetectionSplit, tmp_path: Path, workers: int
) -> None:
    paths = [*split.paths[:-1], tmp_path / "missing.png"]
    broken = DetectionSplit(paths, split.sizes, split.annotations)
    with pytest.raises(DataError, match=r"missing\.png cannot be read: No such file"):
        contents(train_loader(broken, workers, mosaic=1.0))


def test_train_loader_counts_the_bytes_of_its_largest_batch_when_multi_scale(split: DetectionSplit) -> None:
    train = train_loader(split)
    assert train.largest_batch_bytes == 4 * 3 * 96 * 128 * 4
    assert max(len(images) for images, *_ in contents(train)) <= train.largest_batch_bytes
    assert EvalLoader(split, BoxEvalTransform(SIZE), batch_size=4).largest_batch_bytes == 4 * 3 * 64 * 96 * 4


def test_train_loader_raises_when_transform_and_split_do_not_belong_together(split: DetectionSplit) -> None:
    with pytest.raises(ValueError, match="TrainTransform is no transform for a DetectionSplit"):
        contents(TrainLoader(split, TrainTransform(SIZE), batch_size=4, seed=0))
    labelled = ArraySplit(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), [""] * 4)
    with pytest.raises(ValueError, match="BoxEvalTransform is no transform for a ArraySplit"):
        contents(EvalLoader(labelled, BoxEvalTransform(SIZE), batch_size=4))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list threads in /proc")
def test_train_loader_leaves_no_thread_in_the_system_when_a_pass_is_over() -> None:
    seen: set[int] = set()

    class Watched(PaintedImages):
        def image(self, index: int) -> np.ndarray:
            seen.add(threading.get_native_id())
            return super().image(index)

    train = TrainLoader(Watched([(30, 40)] * 8), BoxTrainTransform(SIZE), batch_size=4, seed=0)
    for _ in range(20):
        contents(train)
        assert seen
        assert threading.get_native_id() not in seen
        assert not [number for number in seen if Path(f"/proc/self/task/{number}").exists()]
        seen.clear()


def test_train_loader_reads_images_in_memory_when_a_split_has_boxes() -> None:
    painted = PaintedImages([(30, 40)] * 8, seed=1)
    painted.annotations[2] = Boxes.make([], [])
    transform = BoxTrainTransform(SIZE, mosaic=0.5)
    batches = contents(TrainLoader(painted, transform, batch_size=4, seed=0))
    assert [shape for _, shape, *_ in batches] == [(4, 3, 64, 96)] * 2
