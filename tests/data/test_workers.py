import os
import shutil
from pathlib import Path

import pytest

from paddle_tk.data.workers import choose_workers, shared_memory_holds


@pytest.mark.parametrize(
    ("n_samples", "on_disk", "cores", "expected"),
    [
        (50_000, False, 64, (0, 2)),
        (50_000, True, 1, (0, 2)),
        (50_000, True, 2, (1, 4)),
        (50_000, True, 4, (3, 2)),
        (50_000, True, 128, (8, 2)),
        (100, True, 8, (0, 2)),
    ],
)
def test_choose_workers_follows_cores_when_images_are_files(
    n_samples: int, on_disk: bool, cores: int, expected: tuple[int, int]
) -> None:
    assert choose_workers(n_samples, on_disk, cores) == expected


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no /dev/shm")
def test_shared_memory_holds_only_what_is_free_when_asked_for_more() -> None:
    free = shutil.disk_usage("/dev/shm").free
    assert os.access("/dev/shm", os.W_OK)
    assert shared_memory_holds(free // 16)
    assert not shared_memory_holds(free)
