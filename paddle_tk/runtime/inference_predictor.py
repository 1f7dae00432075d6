"""Predictions by Paddle Inference on the CPU: the network as a static graph with fused layers and oneDNN kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference

from paddle_tk.errors import ArtifactError
from paddle_tk.runtime.base import Array, check_batch, noise_batch
from paddle_tk.runtime.paddle_predictor import PaddlePredictor
from paddle_tk.runtime.static_graph import last_line, save_static, silenced
from paddle_tk.types import ModelArtifact

# Fused layers round otherwise; 1e-3 of the largest output is far above that and far below a wrong kernel's error.
_TOLERANCE = 1e-3


class InferencePredictor:
    """A trained network in Paddle Inference.

    The network is traced into a temporary folder and loaded from there. Its first batch, of noise, is compared with
    what the network itself computes: where oneDNN fails or differs it is switched off, and ``without_onednn`` says why.

    Args:
        artifact: Its manifest, whose ``architecture`` tells how to build it.
        weights: The weights file; every tensor must match.
        threads: CPU threads within an operator.

    Raises:
        ArtifactError: The manifest does not describe a network, the weights are not exactly that network's, or Paddle
            Inference computes something else.
    """

    device, engine, arithmetic, reentrant = "cpu", "paddle-inference", "fp32", False

    def __init__(self, artifact: ModelArtifact, weights: Path, *, threads: int = 1) -> None:
        self.artifact = artifact
        parent = PaddlePredictor(artifact, weights, device="cpu")
        batch = noise_batch(artifact, 1)
        expected = parent.predict(batch)
        self.without_onednn: str | None = None
        with tempfile.TemporaryDirectory(prefix="paddle_tk-inference-") as name:
            prefix = Path(name) / "model"
            with _tiled_upsampling():
                save_static(parent.network, prefix, (None, 3, *artifact.preprocessing.size))
            for onednn in (True, False):
                reason = self._load(prefix, threads, onednn, batch, expected)
                if reason is None:
                    return
                self.without_onednn = self.without_onednn or reason
        raise ArtifactError(f"Paddle Inference cannot run {weights}: {reason}", "use --engine paddle")

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
        """
        check_batch(batch, self.artifact)
        self._input.copy_from_cpu(np.ascontiguousarray(batch))
        self._predictor.run()
        return tuple(np.asarray(handle.copy_to_cpu(), np.float32) for handle in self._outputs)

    def _load(self, prefix: Path, threads: int, onednn: bool, batch: Array, expected: tuple[Array, ...]) -> str | None:
        """Loads the static graph; returns why it cannot be used, None where it can."""
        config = inference.Config(f"{prefix}.json", f"{prefix}.pdiparams")
        config.disable_gpu()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(threads)
        if onednn:
            config.enable_onednn()
        else:
            config.disable_onednn()
        try:
            with silenced():
                self._predictor: Any = inference.create_predictor(config)
                names = self._predictor.get_output_names()[: len(self.artifact.outputs)]
                self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
                self._outputs = [self._predictor.get_output_handle(name) for name in names]
                found = self.predict(batch)
        except (RuntimeError, ValueError, NotImplementedError, OSError) as error:  # its errors are of these kinds
            return last_line(str(error))
        for ours, theirs in zip(expected, found, strict=True):
            limit = _TOLERANCE * float(np.abs(ours).max())
            if ours.shape != theirs.shape or not float(np.abs(ours - theirs).max()) <= limit:
                return f"its output differs by more than {limit:.1e} from the network's"
        return None


@contextmanager
def _tiled_upsampling() -> Iterator[None]:
    """Traces enlargement by nearest neighbour as repetition of the pixels, which gives the same bits.

    Paddle 3.3.1's oneDNN kernel of ``nearest_interp`` cannot run in a static graph (PaddlePaddle/Paddle#79749), and
    single operators cannot be kept from oneDNN there; without oneDNN a PicoDet-S takes four times as long.
    """
    functional = paddle.nn.functional
    original = functional.interpolate

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator, unused-ignore]
    def enlarge(x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **other: Any) -> Any:
        channels, height, width = (int(side) for side in x.shape[1:])
        factors = _whole_factors(size, (height, width)) if mode == "nearest" and scale_factor is None else None
        if factors is None or other:
            return original(x, size=size, scale_factor=scale_factor, mode=mode, **other)
        tall, wide = factors
        apart = paddle.reshape(x, [-1, channels, height, 1, width, 1])
        repeated = paddle.expand(apart, [-1, channels, height, tall, width, wide])
        return paddle.reshape(repeated, [-1, channels, height * tall, width * wide])

    functional.interpolate = enlarge
    try:
        yield
    finally:
        functional.interpolate = original


def _whole_factors(size: Any, given: tuple[int, int]) -> tuple[int, int] | None:
    """Returns the factors by which both sides grow, None where they are unknown or no whole numbers."""
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        return None
    if min(given) < 1 or any(wanted % side for wanted, side in zip(size, given, strict=True)):
        return None
    return size[0] // given[0], size[1] // given[1]
