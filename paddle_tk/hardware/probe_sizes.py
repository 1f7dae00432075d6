"""The small image sizes at which a step is tried, so that a large one follows exactly. Imports no framework."""

from __future__ import annotations

Size = tuple[int, int]


def probe_sizes(target: Size, *, period: int, start: int, least: int, exact: bool) -> list[Size]:
    """Returns sizes from which every map of the target size can be told.

    All have the target's remainder by the period, so that strides round alike: the sides of every map are then affine
    in the sides of the image.

    Args:
        target: (height, width) in pixels.
        period: Pixels of the input per cell of the coarsest map.
        start: Periods that the smallest size has at least.
        least: Least side that the network takes, in pixels.
        exact: Whether maps are proportional to the pixels wherever the period divides the sides: no map loses a border.

    Returns:
        The smallest first. Of the target size alone where that is hardly larger than the others would be.
    """
    first = [_from(side % period, max(least, start * period), period) for side in target]
    next_ones = [side + period for side in first]
    if exact and all(side % period == 0 for side in target):
        found = [(first[0], next_ones[1]), (next_ones[0], next_ones[1]), (next_ones[0], next_ones[1] + period)]
    elif target[0] == target[1]:
        found = [(side, side) for side in (first[0], next_ones[0], next_ones[0] + period)]
    else:
        found = [(height, width) for height in (first[0], next_ones[0]) for width in (first[1], next_ones[1])]
    largest = found[-1]
    return found if target[0] * target[1] > largest[0] * largest[1] else [target]


def _from(remainder: int, least: int, period: int) -> int:
    return remainder + -(-max(0, least - remainder) // period) * period
