"""Every random generator of a training: seeded together, captured into JSON, restored exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and Paddle (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    paddle.seed(seed)


def capture() -> dict[str, Any]:
    """Returns the states of all generators as plain JSON types."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(cached)],
        "paddle": [_pack(s) for s in paddle.get_rng_state()],
    }


def restore(state: Mapping[str, Any]) -> None:
    """Sets all generators to a captured state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    current = paddle.get_rng_state()
    saved = state["paddle"]
    # Another device count keeps the generators that exist on both sides.
    paddle.set_rng_state([_unpack(saved[i], s) if i < len(saved) else s for i, s in enumerate(current)])


def _pack(generator: Any) -> list[Any]:
    # The engine (Mersenne twister) comes as a list of character codes of a text.
    device, seed, offset, engine = generator.__getstate__()
    return [device, seed, offset, bytes(engine).decode("ascii")]


def _unpack(saved: list[Any], like: Any) -> Any:
    device, seed, offset, engine = saved
    kind: Any = type(like)
    generator = kind.__new__(kind)
    generator.__setstate__((device, seed, offset, list(engine.encode("ascii"))))
    return generator
