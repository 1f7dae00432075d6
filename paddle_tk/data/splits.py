"""Seeded, stratified splits: every part has each class in the proportion of the whole."""

from __future__ import annotations

import numpy as np

from paddle_tk.errors import DataError

# One random stream per purpose, so that changing the test fraction does not silently reuse the validation's
# draw.
TEST, VAL, SUBSET = 1, 2, 3


def stratified_split(labels: np.ndarray, fraction: float, *, seed: int, purpose: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes a stratified share out of a set.

    The share has ``round(n * fraction)`` images, but at least one; classes get their part by the largest
    remainder, and no class loses its last image to the share.

    Args:
        labels: int64, (n,).
        fraction: Size of the share, 0 < fraction < 1.
        seed: Equal seeds give equal splits.
        purpose: ``TEST``, ``VAL`` or ``SUBSET``: separate random streams.

    Returns:
        Indices of the rest and of the share, both int64 and ascending.

    Raises:
        DataError: There are too few images to share.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be above 0 and below 1, got {fraction}")
    picked = _pick(labels, max(1, round(len(labels) * fraction)), seed, purpose, keep=1)
    if not len(picked):
        raise DataError(f"{len(labels)} images with at most one per class cannot be split", "add images to the classes")
    rest = np.setdiff1d(np.arange(len(labels), dtype=np.int64), picked, assume_unique=True)
    return rest, picked


def stratified_subset(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Returns the ascending indices of a stratified subset of ``count`` images, or of all where there are
    fewer.

    Every class keeps at least one image as long as ``count`` allows it.
    """
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return _pick(labels, count, seed, SUBSET, keep=0)


def _pick(labels: np.ndarray, total: int, seed: int, purpose: int, keep: int) -> np.ndarray:
    """Picks ``total`` indices stratified by label and leaves at least ``keep`` images of each class."""
    rng = np.random.default_rng((seed, purpose))
    classes, sizes = np.unique(labels, return_counts=True)
    wanted = _quotas(sizes, np.maximum(sizes - keep, 0), total)
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in zip(classes, wanted, strict=True)
    ]
    return np.sort(np.concatenate(parts)).astype(np.int64) if parts else np.empty(0, np.int64)


def _quotas(sizes: np.ndarray, limits: np.ndarray, total: int) -> np.ndarray:
    """Shares ``total`` among classes by largest remainder (Hare quota), at least one each, none above its limit."""
    exact = sizes * (total / sizes.sum())
    quotas: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), limits)
    if total >= len(sizes):
        quotas = np.minimum(np.maximum(quotas, 1), limits)
    # Classes by how much they lack, ties by position: deterministic, and it ends as every round moves one
    # image.
    while quotas.sum() < min(total, int(limits.sum())):
        lack = np.where(quotas < limits, exact - quotas, -np.inf)
        quotas[int(np.argmax(lack))] += 1
    while quotas.sum() > total:
        surplus = np.where(quotas > min(1, total // len(sizes)), quotas - exact, -np.inf)
        quotas[int(np.argmax(surplus))] -= 1
    return quotas
