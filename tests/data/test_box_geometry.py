import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paddle_tk import processing
from paddle_tk.data.box_geometry import (
    Placement,
    Rect,
    clip_boxes,
    fit,
    flip_boxes,
    mosaic_cells,
    move_boxes,
    place,
    safe_crop,
)

sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
shares = st.floats(0, 1, exclude_max=True)


@st.composite
def boxes(draw: st.DrawFn, low: float = -500, high: float = 1500, most: int = 5) -> np.ndarray:
    """Boxes with sides of at least 0.01 px anywhere, in or out of an image."""
    rows = []
    for _ in range(draw(st.integers(0, most))):
        x1, y1 = draw(st.floats(low, high - 0.1)), draw(st.floats(low, high - 0.1))
        rows.append((x1, y1, draw(st.floats(x1 + 0.01, high)), draw(st.floats(y1 + 0.01, high))))
    return np.array(rows, np.float64).reshape(-1, 4)


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[int, int], Rect]:
    """An image's size and a part of it."""
    height, width = draw(sizes)
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return (height, width), Rect(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@given(size=sizes, rows=boxes(), horizontal=st.booleans(), vertical=st.booleans())
def test_flip_boxes_is_undone_exactly_when_applied_twice_to_fixed_point_coordinates(
    size: tuple[int, int], rows: np.ndarray, horizontal: bool, vertical: bool
) -> None:
    fixed = np.round(rows * 2**32) / 2**32
    once = flip_boxes(fixed, size, horizontal=horizontal, vertical=vertical)
    np.testing.assert_array_equal(flip_boxes(once, size, horizontal=horizontal, vertical=vertical), fixed)
    np.testing.assert_array_less(once[:, :2], once[:, 2:])


@given(size=sizes, rows=boxes(), horizontal=st.booleans(), vertical=st.booleans())
def test_flip_boxes_rounds_only_once_when_coordinates_are_any(
    size: tuple[int, int], rows: np.ndarray, horizontal: bool, vertical: bool
) -> None:
    once = flip_boxes(rows, size, horizontal=horizontal, vertical=vertical)
    twice = flip_boxes(once, size, horizontal=horizontal, vertical=vertical)
    np.testing.assert_allclose(twice, rows, rtol=0, atol=2**-42)
    np.testing.assert_array_equal(flip_boxes(twice, size, horizontal=horizontal, vertical=vertical), once)


def test_flip_boxes_moves_each_side_to_the_other_when_mirrored() -> None:
    rows = np.array([[1.0, 2.0, 4.0, 7.0]])
    assert flip_boxes(rows, (10, 20), horizontal=True).tolist() == [[16, 2, 19, 7]]
    assert flip_boxes(rows, (10, 20), vertical=True).tolist() == [[1, 3, 4, 8]]
    assert flip_boxes(rows, (10, 20)).tolist() == rows.tolist()


@settings(max_examples=200)
@given(size=sizes, rows=boxes(), min_side=st.floats(0, 50), min_visible=st.floats(0, 1))
def test_clip_boxes_keeps_exact_account_of_areas_when_boxes_are_any(
    size: tuple[int, int], rows: np.ndarray, min_side: float, min_visible: float
) -> None:
    clipped, visible, keep = clip_boxes(rows, size, min_side=min_side, min_visible=min_visible)
    assert (clipped >= 0).all()
    assert (clipped[:, [0, 2]] <= size[1]).all()
    assert (clipped[:, [1, 3]] <= size[0]).all()
    for before, after, share, kept in zip(
        rows.tolist(), clipped.tolist(), visible.tolist(), keep.tolist(), strict=True
    ):
        assert after == [min(max(value, 0.0), side) for value, side in zip(before, (size[1], size[0]) * 2, strict=True)]
        width, height = after[2] - after[0], after[3] - after[1]
        assert share == (width * height) / ((before[2] - before[0]) * (before[3] - before[1]))
        assert 0 <= share <= 1
        assert kept == (share > 0 and share >= min_visible and min(width, height) >= min_side)


def test_clip_boxes_keeps_a_box_when_it_is_exactly_at_the_thresholds() -> None:
    rows = np.array([[-2.0, 0.0, 2.0, 4.0], [-2.0, 0.0, 1.999, 4.0], [-40.0, 0.0, 2.0, 4.0], [30.0, 0.0, 40.0, 5.0]])
    _, visible, keep = clip_boxes(rows, (10, 10), min_side=2, min_visible=0.5)
    assert visible[0] == 0.5
    assert keep.tolist() == [True, False, False, False]
    assert not clip_boxes(rows[3:], (10, 10)).keep.any(), "nothing is left of it"


@settings(max_examples=150)
@given(
    part=parts(),
    cell=parts(),
    rows=boxes(0, 900),
    horizontal=st.booleans(),
    vertical=st.booleans(),
    scale=st.tuples(st.floats(0.01, 20), st.floats(0.01, 20)),
    at=st.tuples(shares, shares),
)
def test_place_stays_inside_image_and_cell_when_anything_is_placed(
    part: tuple[tuple[int, int], Rect],
    cell: tuple[tuple[int, int], Rect],
    rows: np.ndarray,
    horizontal: bool,
    vertical: bool,
    scale: tuple[float, float],
    at: tuple[float, float],
) -> None:
    placed = place(part[1], cell[1], scale, at)
    for inner, outer in ((placed.source, part[1]), (placed.target, cell[1])):
        assert inner.height >= 1
        assert inner.width >= 1
        assert outer.top <= inner.top <= inner.top + inner.height <= outer.top + outer.height
        assert outer.left <= inner.left <= inner.left + inner.width <= outer.left + outer.width
    target = placed.target
    moved, which = move_boxes(rows, Placement(placed.source, target, horizontal, vertical))
    assert len(moved) == len(which) <= len(rows)
    assert (np.diff(which) > 0).all()
    assert (moved[:, :2] >= [target.left, target.top]).all()
    assert (moved[:, 2:] <= [target.left + target.width, target.top + target.height]).all()
    assert (moved[:, :2] <= moved[:, 2:]).all()


@given(source=sizes, scale=st.floats(0.2, 5))
def test_place_keeps_the_scale_within_a_pixel_when_whole_or_cut(source: tuple[int, int], scale: float) -> None:
    assume(min(source) >= 20)
    placed = place(Rect(0, 0, *source), Rect(0, 0, 300, 400), (scale, scale), (0.5, 0.5))
    assert abs(placed.target.height - placed.source.height * scale) <= 0.5 * max(1, scale) + 1e-9
    assert abs(placed.target.width - placed.source.width * scale) <= 0.5 * max(1, scale) + 1e-9


@given(at=shares)
def test_place_reaches_both_ends_when_the_position_is_drawn(at: float) -> None:
    def tops(position: float, height: int) -> tuple[int, int]:
        placed = place(Rect(0, 0, height, 8), Rect(10, 0, 20, 8), (1, 1), (position, 0))
        return placed.source.top, placed.target.top

    assert tops(0.0, 15) == (0, 10)
    assert tops(1 - 1e-9, 15) == (0, 15)
    assert tops(0.0, 25) == (0, 10)
    assert tops(1 - 1e-9, 25) == (5, 10)
    assert 10 <= tops(at, 15)[1] <= 15


@settings(max_examples=100)
@given(source=sizes, size=sizes, mode=st.sampled_from(["letterbox", "stretch"]), rows=boxes(0, 900))
def test_fit_equals_resize_geometry_when_an_image_is_whole(
    source: tuple[int, int], size: tuple[int, int], mode: str, rows: np.ndarray
) -> None:
    rows = clip_boxes(rows, source, min_side=1e-6)
    rows = rows.xyxy[rows.keep]
    scale_x, scale_y, left, top = processing.resize_geometry(source, size, mode)
    moved, which = move_boxes(rows, fit(Rect(0, 0, *source), size, mode))
    assert len(which) == len(rows)
    expected = rows * np.array([scale_x, scale_y] * 2) + np.array([left, top] * 2)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-9)


def test_move_boxes_follows_the_pixels_when_a_part_is_mirrored_and_scaled() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:44] = 255
    placement = Placement(Rect(4, 20, 30, 36), Rect(7, 9, 60, 72), horizontal=True, vertical=True)
    canvas = np.zeros((80, 90, 3), np.uint8)
    pixels = cv2.resize(placement.source.of(image), (72, 60), interpolation=cv2.INTER_NEAREST)
    placement.target.of(canvas)[:] = pixels[::-1, ::-1]
    moved, which = move_boxes(np.array([[30.0, 10.0, 44.0, 20.0]]), placement)
    y, x = np.nonzero(canvas[..., 0])
    assert moved.tolist() == [[x.min(), y.min(), x.max() + 1, y.max() + 1]]
    assert which.tolist() == [0]


@given(size=sizes, centre=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_mosaic_cells_cover_every_pixel_once_when_the_centre_is_any(
    size: tuple[int, int], centre: tuple[float, float]
) -> None:
    cells = mosaic_cells(size, centre)
    count = np.zeros(size, np.uint8)
    for cell in cells:
        assert cell.height >= 1
        assert cell.width >= 1
        cell.of(count)[:] += 1  # also works on an array without channels
    assert (count == 1).all()
    if min(size) >= 4:
        assert len(cells) == 4
        assert size[0] / 4 - 1 <= cells[0].height <= size[0] * 3 / 4 + 1


@settings(max_examples=100)
@given(size=sizes, rows=boxes(0, 900), seed=st.integers(0, 2**32), least=st.floats(0, 1))
def test_safe_crop_cuts_no_object_below_the_share_when_objects_are_any(
    size: tuple[int, int], rows: np.ndarray, seed: int, least: float
) -> None:
    inside = clip_boxes(rows, size, min_side=0.01)
    rows = inside.xyxy[inside.keep]
    part = safe_crop(rows, size, np.random.default_rng(seed), least_visible=least)
    assert 0 <= part.top <= part.top + part.height <= size[0]
    assert 0 <= part.left <= part.left + part.width <= size[1]
    visible = clip_boxes(rows - np.array([part.left, part.top] * 2), (part.height, part.width)).visible
    assert (visible[visible > 0] >= least).all()
    assert not len(rows) or (visible > 0).any()


def test_safe_crop_keeps_the_image_when_no_part_is_safe() -> None:
    rows = np.array([[0.0, 0.0, 100.0, 80.0]])
    rng = np.random.default_rng(0)
    assert safe_crop(rows, (80, 100), rng, least_visible=1.0) == Rect(0, 0, 80, 100)
    parts_drawn = {safe_crop(rows, (80, 100), rng, least_visible=0.3) for _ in range(20)}
    assert len(parts_drawn) == 20


def test_fit_raises_when_the_mode_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown resize mode 'tile'"):
        fit(Rect(0, 0, 4, 4), (8, 8), "tile")
