from __future__ import annotations

import pytest

from paddle_tk.hardware.probe_sizes import probe_sizes

Size = tuple[int, int]


@pytest.mark.parametrize("target", [(224, 224), (250, 250), (640, 480), (333, 1000), (4096, 4096)])
@pytest.mark.parametrize("exact", [False, True])
def test_sizes_are_small_and_round_as_the_target_does(target: Size, exact: bool) -> None:
    found = probe_sizes(target, period=32, start=2, least=0, exact=exact)
    assert all(side % 32 == wanted % 32 for size in found for side, wanted in zip(size, target, strict=True))
    assert len(set(found)) == len(found)
    assert 3 <= len(found) <= 4
    assert max(height * width for height, width in found) < target[0] * target[1]
    assert found[0] == min(found)
    assert max(max(size) for size in found) < 192


def test_sizes_are_the_target_alone_when_it_is_small() -> None:
    assert probe_sizes((96, 96), period=32, start=2, least=0, exact=False) == [(96, 96)]


def test_sizes_keep_the_least_when_a_network_needs_one() -> None:
    assert probe_sizes((299, 299), period=32, start=2, least=75, exact=False)[0] == (75, 75)


def test_sizes_grow_when_started_larger() -> None:
    small, large = (probe_sizes((640, 640), period=64, start=start, least=0, exact=True)[0] for start in (1, 2))
    assert (small, large) == ((64, 128), (128, 192))
