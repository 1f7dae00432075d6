"""The ranges of a float graph's activations over real images: PaddleSlim's observers on the Paddle network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.errors import CheckFailed, some
from paddle_tk.export.graph import Model, expose
from paddle_tk.export.qdq.match import match_layers, require_agreement
from paddle_tk.export.qdq.plan import Target, make_plan
from paddle_tk.export.qdq.ranges_file import Calibration
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.quantize.calibrate import LayerInput, observe_network, observe_tensors
from paddle_tk.quantize.images import read_batches
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.onnx_predictor import TensorReader
from paddle_tk.runtime.paddle_predictor import PaddlePredictor
from paddle_tk.types import Preprocessing, TensorRange


@dataclass(frozen=True)
class CalibrationImages:
    """Images to calibrate on.

    Attributes:
        split: All of them; labels are not used.
        origin: What they are called in reports.
        batch_size: Images at once.
    """

    split: ImageSplit
    origin: str
    batch_size: int

    def batches(self, preprocessing: Preprocessing) -> Iterator[Array]:
        """Returns network inputs, float32 (B, 3, H, W), one batch after the other."""
        return read_batches(self.split, range(len(self.split)), preprocessing, self.batch_size)


def calibrate(
    graphs: Mapping[Target, Model],
    predictor: PaddlePredictor | None,
    images: CalibrationImages,
    preprocessing: Preprocessing,
    *,
    algorithm: str,
    model_sha256: str,
    threads: int = 1,
    observed: Sequence[LayerInput] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Calibration:
    """Finds the ranges that the plans of all targets need.

    The inputs of weighted layers are observed in the Paddle network. What its hooks cannot see (additions, poolings,
    functional operations), and everything in a file without a Paddle network, is read from ONNX Runtime and fed to the
    same observers.

    Args:
        graphs: The float graph of each target, from ``export.qdq.rewrite.forms``.
        predictor: The Paddle network it was exported from; None for a foreign file.
        images: At least one.
        preprocessing: Of the images.
        algorithm: One of ``quantize.observers.ALGORITHMS``.
        model_sha256: Of the float weights' file, kept with the ranges.
        threads: CPU threads of ONNX Runtime.
        observed: Ranges that a quantization-aware training has learned; None: they are observed here.
        advance: Called with the number of images done since the last call, twice for each image.

    Raises:
        CheckFailed: A layer has no node in the graph, or its range there is another one.
    """
    model = graphs["x86"]  # it has the tensors of all of them
    view = GraphView(model)
    plans = [make_plan(GraphView(graph), target) for target, graph in graphs.items()]
    needed = list(dict.fromkeys(name for plan in plans for name in plan.ranges))
    ranges: dict[str, TensorRange] = {}
    if predictor is not None:
        layers = observed
        if layers is None:
            layers = observe_network(
                predictor.network, images.batches(preprocessing), algorithm=algorithm, advance=advance
            )
        ranges, unmatched = match_layers(view, layers)
        if unmatched:
            raise CheckFailed(
                f"no node of the ONNX graph has the weights of {some(unmatched)}",
                "export the model to ONNX and quantize that file with --calibration",
            )
    read = _read(model, needed, images, preprocessing, algorithm, threads, advance)
    if observed is None:
        require_agreement(ranges, read)
    return Calibration(
        ranges={name: ranges.get(name, read[name]) for name in needed},
        algorithm=algorithm,
        images=len(images.split),
        origin=images.origin,
        model_sha256=model_sha256,
        size=preprocessing.size,
    )


def _read(
    model: Model,
    names: Sequence[str],
    images: CalibrationImages,
    preprocessing: Preprocessing,
    algorithm: str,
    threads: int,
    advance: Callable[[int], None],
) -> dict[str, TensorRange]:
    inputs = [value.name for value in model.graph.input]
    inner = [name for name in names if name not in inputs]
    reader = TensorReader(expose(model, inner).SerializeToString(), inner, threads=threads)

    def read(batch: Array) -> dict[str, Array]:
        return {**reader.read(batch), **{name: batch for name in names if name in inputs}}

    return dict(observe_tensors(read, images.batches(preprocessing), algorithm=algorithm, advance=advance))
