"""Compiled loops of the depthwise convolution: one channel after the other, float32.

A map is laid out flat, so that a tap of the kernel becomes a constant distance: every output position ``p`` of a
channel is ``sum_t weight[t] * source[p + offset[t]]``, one long loop that a compiler turns into vector instructions
whatever the width of the map. For that, the padded map is split into its stride phases (the positions that leave the
same remainders of row and column, one sheet each), rows lie at a common distance, the zeros right of one row are those
left of the next, and several images of a batch are stacked where maps are small. Positions between the rows are
computed for nothing and left out when the result is copied back. The gradient to the input is the same loop with the
distances turned round, the gradient to the weight a dot product for each tap. ``depthwise.py`` computes the distances.

Indices within the inner loops are unsigned: a signed index may be negative, which Python counts from the end, and the
test for it would keep the loops from being vectorised. Arrays come flat for the same reason: a slice costs more than
copying a short row. Sums are regrouped in the dot products only, always in the same way, so that results are repeatable
to the bit on one machine; channels do not depend on each other, so that results do not depend on the threads either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
# Distance of rows, rows of an image, size of a sheet, stride down and across, padding above and left, zeros before the
# gradient to the output, images in one pass.
Layout: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
# N, C, H, W, M (outputs of each input channel), Ho, Wo.
Shape: TypeAlias = tuple[int, int, int, int, int, int, int]
# Distance of every tap in the sheets of the input; their distances in the gradient to the output, sorted by sheet; the
# taps in that order; where each sheet begins in it, and the number of taps.
Taps: TypeAlias = tuple[Ints, Ints, Ints, Ints]
P = ParamSpec("P")
R = TypeVar("R")

# Positions for which all taps are added up before the next ones: they stay in the first level of the cache.
_TILE = 2048
_Index = np.uint64
# A product and a sum may become one instruction; in the dot products the sum may also be split over vector lanes.
_FUSE, _REGROUP = {"contract"}, {"contract", "reassoc", "nsz"}


def _inner(flags: set[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator for functions that become part of compiled ones."""
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", numba.njit(nogil=True, fastmath=flags))


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a function at its first call and keeps the code on disk.

    Numba keeps it beside this file, or where that cannot be written in the user's cache folder, or in
    ``NUMBA_CACHE_DIR``; where none can be written, every process compiles anew.
    """
    try:
        return cast("Callable[P, R]", numba.njit(nogil=True, fastmath=_FUSE, cache=True)(function))
    except RuntimeError:  # numba found no folder for the code
        return cast("Callable[P, R]", numba.njit(nogil=True, fastmath=_FUSE)(function))


@_inner(_FUSE)
def _constants() -> Any:
    """Returns 0, 1 and True as variables: for a literal argument numba compiles a function once more."""
    zero = np.int64(0)
    return zero, zero + 1, zero == 0


# In the next four functions ``out[d + a:]`` takes n sums; taps start at ``t`` in ``off`` and at ``v`` in ``w``.
@_inner(_FUSE)
def _set1(out: Floats, d: int, src: Floats, off: Ints, t: int, w: Floats, v: int, a: int, n: int) -> None:
    o, o0, w0 = _Index(a + d), _Index(off[t] + a), w[v]
    for p in range(_Index(n)):
        out[o + p] = w0 * src[o0 + p]


@_inner(_FUSE)
def _set9(out: Floats, d: int, src: Floats, off: Ints, t: int, w: Floats, v: int, a: int, n: int) -> None:
    o, o0, o1, o2 = _Index(a + d), _Index(off[t] + a), _Index(off[t + 1] + a), _Index(off[t + 2] + a)
    o3, o4, o5 = _Index(off[t + 3] + a), _Index(off[t + 4] + a), _Index(off[t + 5] + a)
    o6, o7, o8 = _Index(off[t + 6] + a), _Index(off[t + 7] + a), _Index(off[t + 8] + a)
    w0, w1, w2, w3, w4 = w[v], w[v + 1], w[v + 2], w[v + 3], w[v + 4]
    w5, w6, w7, w8 = w[v + 5], w[v + 6], w[v + 7], w[v + 8]
    for p in range(_Index(n)):
        first = w0 * src[o0 + p] + w1 * src[o1 + p] + w2 * src[o2 + p] + w3 * src[o3 + p] + w4 * src[o4 + p]
        out[o + p] = first + w5 * src[o5 + p] + w6 * src[o6 + p] + w7 * src[o7 + p] + w8 * src[o8 + p]


@_inner(_FUSE)
def _add8(out: Floats, d: int, src: Floats, off: Ints, t: int, w: Floats, v: int, a: int, n: int) -> None:
    o, o0, o1, o2 = _Index(a + d), _Index(off[t] + a), _Index(off[t + 1] + a), _Index(off[t + 2] + a)
    o3, o4, o5 = _Index(off[t + 3] + a), _Index(off[t + 4] + a), _Index(off[t + 5] + a)
    o6, o7 = _Index(off[t + 6] + a), _Index(off[t + 7] + a)
    w0, w1, w2, w3, w4, w5, w6, w7 = w[v], w[v + 1], w[v + 2], w[v + 3], w[v + 4], w[v + 5], w[v + 6], w[v + 7]
    for p in range(_Index(n)):
        first = w0 * src[o0 + p] + w1 * src[o1 + p] + w2 * src[o2 + p] + w3 * src[o3 + p]
        out[o + p] += first + w4 * src[o4 + p] + w5 * src[o5 + p] + w6 * src[o6 + p] + w7 * src[o7 + p]


@_inner(_FUSE)
def _add1(out: Floats, d: int, src: Floats, off: Ints, t: int, w: Floats, v: int, a: int, n: int) -> None:
    o, o0, w0 = _Index(a + d), _Index(off[t] + a), w[v]
    for p in range(_Index(n)):
        out[o + p] += w0 * src[o0 + p]


@_inner(_FUSE)
def _correlate(
    out: Floats, d: int, src: Floats, off: Ints, first: int, last: int, w: Floats, v: int, n: int, fresh: bool
) -> None:
    """Sets ``out[d + p]`` (fresh) or adds to it ``sum_t w[v + t - first] * src[off[t] + p]``, t from first to last."""
    for a in range(0, n, _TILE):
        m, t = min(_TILE, n - a), first
        if fresh and last - t >= 9:
            _set9(out, d, src, off, t, w, v, a, m)
            t += 9
        elif fresh and last > t:
            _set1(out, d, src, off, t, w, v, a, m)
            t += 1
        while last - t >= 8:
            _add8(out, d, src, off, t, w, v + t - first, a, m)
            t += 8
        while last > t:
            _add1(out, d, src, off, t, w, v + t - first, a, m)
            t += 1


@_inner(_REGROUP)
def _dot1(g: Floats, lead: int, src: Floats, off: Ints, t: int, dw: Floats, v: int, a: int, n: int) -> None:
    o, o0 = _Index(a + lead), _Index(off[t] + a)
    s0 = np.float32(0)
    for p in range(_Index(n)):
        s0 += g[o + p] * src[o0 + p]
    dw[v] += s0


@_inner(_REGROUP)
def _dot8(g: Floats, lead: int, src: Floats, off: Ints, t: int, dw: Floats, v: int, a: int, n: int) -> None:
    o, o0, o1, o2 = _Index(a + lead), _Index(off[t] + a), _Index(off[t + 1] + a), _Index(off[t + 2] + a)
    o3, o4, o5 = _Index(off[t + 3] + a), _Index(off[t + 4] + a), _Index(off[t + 5] + a)
    o6, o7 = _Index(off[t + 6] + a), _Index(off[t + 7] + a)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for p in range(_Index(n)):
        q = g[o + p]
        s0 += q * src[o0 + p]
        s1 += q * src[o1 + p]
        s2 += q * src[o2 + p]
        s3 += q * src[o3 + p]
        s4 += q * src[o4 + p]
        s5 += q * src[o5 + p]
        s6 += q * src[o6 + p]
        s7 += q * src[o7 + p]
    dw[v] += s0
    dw[v + 1] += s1
    dw[v + 2] += s2
    dw[v + 3] += s3
    dw[v + 4] += s4
    dw[v + 5] += s5
    dw[v + 6] += s6
    dw[v + 7] += s7


@_inner(_FUSE)
def _dots(g: Floats, lead: int, src: Floats, off: Ints, dw: Floats, v: int, n: int) -> None:
    """Adds to ``dw[v + t]`` the sum of ``g[lead + p] * src[off[t] + p]`` over p, for every tap t."""
    for a in range(0, n, _TILE):
        m, t = min(_TILE, n - a), _constants()[0]
        while len(off) - t >= 8:
            _dot8(g, lead, src, off, t, dw, v + t, a, m)
            t += 8
        while len(off) > t:
            _dot1(g, lead, src, off, t, dw, v + t, a, m)
            t += 1


@_inner(_FUSE)
def _gather(x: Floats, start: int, row: int, step: int, n: int, flat: Floats, to: int, stride: int, rows: int) -> None:
    """Copies rows of n values, ``row`` apart and every ``step``-th of them, to rows that lie ``stride`` apart."""
    i, o, many, by = _Index(start), _Index(to), _Index(n), _Index(step)
    for _ in range(rows):
        if step == 1:
            for c in range(many):
                flat[o + c] = x[i + c]
        elif step == 2:  # a constant step becomes vector instructions, a variable one does not
            for c in range(many):
                flat[o + c] = x[i + c + c]
        else:
            for c in range(many):
                flat[o + c] = x[i + by * c]
        i += _Index(row)
        o += _Index(stride)


@_inner(_FUSE)
def _scatter(x: Floats, start: int, row: int, step: int, n: int, flat: Floats, at: int, stride: int, rows: int) -> None:
    """Does the reverse of ``_gather``."""
    i, o, many, by = _Index(start), _Index(at), _Index(n), _Index(step)
    for _ in range(rows):
        if step == 1:
            for c in range(many):
                x[i + c] = flat[o + c]
        else:
            for c in range(many):
                x[i + by * c] = flat[o + c]
        i += _Index(row)
        o += _Index(stride)


@_inner(_FUSE)
def _scatter_pairs(
    x: Floats, start: int, row: int, width: int, flat: Floats, even: int, odd: int, stride: int, rows: int
) -> None:
    """Joins rows of even and odd columns: both at once, because single ones cannot be stored as vectors."""
    i, e, o, half, one = _Index(start), _Index(even), _Index(odd), _Index(width // 2), _Index(1)
    for _ in range(rows):
        for c in range(half):
            x[i + c + c] = flat[e + c]
            x[i + c + c + one] = flat[o + c]
        if width % 2:
            x[i + half + half] = flat[e + half]
        i += _Index(row)
        e += _Index(stride)
        o += _Index(stride)


@_inner(_FUSE)
def _split(x: Floats, start: int, height: int, width: int, flat: Floats, at: int, layout: Layout) -> None:
    """Copies a map to its place in every sheet."""
    stride, _, sheet, down, across, top, left, _, _ = layout
    for f in range(down):
        r = (f - top) % down  # the first row of this phase
        rows, to = (height - r + down - 1) // down, at + f * across * sheet + (r + top) // down * stride
        for g in range(across):
            c = (g - left) % across
            n = (width - c + across - 1) // across
            source, place = start + r * width + c, to + g * sheet + (c + left) // across
            _gather(x, source, down * width, across, n, flat, place, stride, rows)


@_inner(_FUSE)
def _join(x: Floats, start: int, height: int, width: int, flat: Floats, at: int, layout: Layout) -> None:
    """Does the reverse of ``_split``."""
    stride, _, sheet, down, across, top, left, _, _ = layout
    for f in range(down):
        r = (f - top) % down
        rows, base = (height - r + down - 1) // down, at + f * across * sheet + (r + top) // down * stride
        if across == 2:
            even, odd = base + left % 2 * sheet + left // 2, base + (left + 1) % 2 * sheet + (left + 1) // 2
            _scatter_pairs(x, start + r * width, down * width, width, flat, even, odd, stride, rows)
            continue
        for g in range(across):
            c = (g - left) % across
            n = (width - c + across - 1) // across
            source, place = start + r * width + c, base + g * sheet + (c + left) // across
            _scatter(x, source, down * width, across, n, flat, place, stride, rows)


@_compiled
def forward(x: Floats, w: Floats, y: Floats, taps: Taps, shape: Shape, layout: Layout, first: int, last: int) -> None:
    """Computes the output of the input channels from ``first`` to before ``last``.

    Args:
        x: Input (N, C, H, W), flat.
        w: Weight (C * M, taps), flat.
        y: Output (N, C * M, Ho, Wo), flat; written.
        taps: The distances.
        shape: The sizes.
        layout: Where rows, images and sheets lie.
        first: The first input channel.
        last: The one after the last.
    """
    batch, channels, height, width, many, out_height, out_width = shape
    stride, block, sheet, down, across, _, _, _, group = layout
    off, count, area, out_area = taps[0], len(taps[0]), height * width, out_height * out_width
    source, out = np.zeros(sheet * down * across, np.float32), np.empty(group * block * stride, np.float32)
    zero, one, fresh = _constants()
    for c in range(first, last):
        for start in range(0, batch, group):
            k = min(group, batch - start)
            for i in range(k):
                _split(x, ((start + i) * channels + c) * area, height, width, source, i * block * stride, layout)
            for m in range(c * many, (c + 1) * many):
                n = ((k - 1) * block + out_height) * stride
                _correlate(out, zero, source, off, zero, count, w, m * count, n, fresh)
                for i in range(k):
                    place = ((start + i) * channels * many + m) * out_area
                    _scatter(y, place, out_width, one, out_width, out, i * block * stride, stride, out_height)


@_inner(_FUSE)
def _turn_back(
    result: Floats, g: Floats, taps: Taps, w: Floats, v: int, scratch: Floats, layout: Layout, n: int, fresh: bool
) -> None:
    """Sets or adds to every sheet of the gradient to the input what one output channel gives."""
    _, back, order, starts = taps
    _, _, sheet, down, across, _, _, _, _ = layout
    for t in range(len(order)):
        scratch[t] = w[v + order[t]]
    for f in range(down * across):
        _correlate(result, f * sheet, g, back, starts[f], starts[f + 1], scratch, starts[f], n, fresh)


@_compiled
def backward(
    x: Floats,
    w: Floats,
    dy: Floats,
    dx: Floats,
    dw: Floats,
    taps: Taps,
    shape: Shape,
    layout: Layout,
    wanted: tuple[bool, bool],
    first: int,
    last: int,
) -> None:
    """Computes the gradients of the input channels from ``first`` to before ``last``.

    Takes the arguments of ``forward``, but the gradient ``dy`` to the output for the output, and writes the gradients
    ``dx`` and ``dw`` to input and weight where ``wanted`` says so.
    """
    batch, channels, height, width, many, out_height, out_width = shape
    stride, block, sheet, down, across, _, _, lead, group = layout
    count, area, out_area = len(taps[0]), height * width, out_height * out_width
    # Sheets without a tap are never written: what does not reach the output has the gradient 0.
    source, result = np.zeros(sheet * down * across, np.float32), np.zeros(sheet * down * across, np.float32)
    _, one, _ = _constants()
    g, scratch = np.zeros(lead + group * block * stride, np.float32), np.empty(count, np.float32)
    if wanted[1]:
        dw[first * many * count : last * many * count] = 0
    for c in range(first, last):
        for start in range(0, batch, group):
            k = min(group, batch - start)
            if wanted[1]:
                for i in range(k):
                    _split(x, ((start + i) * channels + c) * area, height, width, source, i * block * stride, layout)
            for m in range(c * many, (c + 1) * many):
                for i in range(k):
                    place = ((start + i) * channels * many + m) * out_area
                    _gather(dy, place, out_width, one, out_width, g, lead + i * block * stride, stride, out_height)
                if wanted[1]:
                    _dots(g, lead, source, taps[0], dw, m * count, ((k - 1) * block + out_height) * stride)
                if wanted[0]:
                    _turn_back(result, g, taps, w, m * count, scratch, layout, k * block * stride, m == c * many)
            if wanted[0]:
                for i in range(k):
                    _join(dx, ((start + i) * channels + c) * area, height, width, result, i * block * stride, layout)
