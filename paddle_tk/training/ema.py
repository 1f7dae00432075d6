"""Exponential moving average of weights and batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle


class Ema:
    """Keeps ``average = decay * average + (1 - decay) * value`` of every floating-point tensor of a network.

    The decay grows as min(decay, (1 + n) / (10 + n)) with the update count n, so that the average forgets the random
    initial weights quickly.

    Args:
        network: The network that is followed.
        decay: In 0..1, the long-run decay.
    """

    def __init__(self, network: paddle.nn.Layer, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"EMA decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self._values = {k: v for k, v in network.state_dict().items() if v.dtype != paddle.int64}
        with paddle.no_grad():
            self.average = {k: v.detach().astype("float32").clone() for k, v in self._values.items()}

    def update(self, updates: int) -> None:
        """Moves the average after optimizer update number ``updates`` (from 1)."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        with paddle.no_grad():
            for name, average in self.average.items():
                average.scale_(decay)
                average.add_(self._values[name].astype("float32").scale(1 - decay))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages into the network for the block and the trained weights back afterwards."""
        trained = {k: v.clone() for k, v in self._values.items()}
        self._copy_in(self.average)
        try:
            yield
        finally:
            self._copy_in(trained)

    def _copy_in(self, source: Mapping[str, paddle.Tensor]) -> None:
        with paddle.no_grad():
            for name, tensor in self._values.items():
                paddle.assign(source[name].astype(tensor.dtype), tensor)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the averages as float32 arrays."""
        return {k: v.numpy() for k, v in self.average.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over saved averages."""
        for name, average in self.average.items():
            average.set_value(arrays[name])
