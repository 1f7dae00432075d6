"""A trained model -> ONNX, proven to compute the same on the images it is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.errors import BadInput
from paddle_tk.export.box_parity import BoxParity
from paddle_tk.export.compare import compare
from paddle_tk.export.onnx import MODEL, PARITY, OnnxModel, resized, write_export, write_onnx
from paddle_tk.export.parity import TOLERANCE, Parity
from paddle_tk.export.target import OnnxTarget
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.models.detectors import check_network_size
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.load import EXPORTED_CONFIG, ModelSource
from paddle_tk.runtime.onnx_predictor import OnnxPredictor
from paddle_tk.runtime.paddle_predictor import FORMAT, PaddlePredictor
from paddle_tk.types import Preprocessing

FILES = frozenset({MODEL, MANIFEST, PARITY, EXPORTED_CONFIG})
_NOISE_SEED = 0


def export_model(
    source: ModelSource,
    folder: Path,
    *,
    split: ImageSplit | None,
    split_name: str,
    count: int,
    input_size: tuple[int, int] | None = None,
    target: OnnxTarget | None = None,
    dynamic_batch: bool = False,
    latency_only: bool = False,
    tolerance: float = TOLERANCE,
    threads: int = 1,
    debug: bool = False,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[OnnxModel, Parity | BoxParity]:
    """Converts, compares on real images and, where both agree, writes the whole export into an existing folder.

    Args:
        source: A Paddle model.
        folder: Where to write ``FILES``.
        split: Images to compare on; None: seeded noise.
        split_name: What the split is called in the report.
        count: How many images to compare on, at most as many as the split has.
        input_size: (height, width) in pixels; None: that of the training.
        target: What the file is for; None: opset 17, for no device in particular.
        dynamic_batch: Leave the batch dimension free; else it is 1.
        latency_only: Say in manifest and parity.json that a file of another size than the trained one is for latency
            only.
        tolerance: Largest difference of a logit that passes, as a share of the largest logit.
        threads: CPU threads of ONNX Runtime.
        debug: Let the converter write to the terminal.
        advance: Called with the number of images compared since the last call.

    Raises:
        BadInput: The model is an ONNX file already; opset or input size cannot be.
        CheckFailed: The network cannot be converted, or the result computes something else.
    """
    predictor = load_parent(source, input_size)
    model = write_onnx(predictor, folder, target=target or OnnxTarget(), dynamic_batch=dynamic_batch, debug=debug)
    parity = prove(
        predictor, model, split, split_name=split_name, count=count, tolerance=tolerance, threads=threads,
        advance=advance,
    )  # fmt: skip
    parity.require()
    trained, exported = source.artifact.preprocessing.size, model.artifact.preprocessing.size
    write_export(folder, model, parity, _sizes(trained, exported, latency_only))
    if source.config is not None:
        shutil.copyfile(source.config, folder / EXPORTED_CONFIG)
    return model, parity


def _sizes(trained: tuple[int, int], exported: tuple[int, int], latency_only: bool) -> dict[str, object]:
    accuracy = "that of the trained model" if exported == trained else "not validated at this size"
    if latency_only and exported != trained:
        accuracy += ": for latency only"
    return {"trained_at": list(trained), "exported_at": list(exported), "accuracy": accuracy}


def refuse_onnx(file: Path) -> None:
    """Refuses an ONNX file, own or foreign, with what it is.

    Raises:
        BadInput: It is one.
        ArtifactError: It is none.
    """
    from paddle_tk.export.edge.model_file import read_model
    from paddle_tk.export.graph import opset_of

    model = read_model(file)
    raise BadInput(
        f"{file} is ONNX already (opset {opset_of(model)}, IR version {model.ir_version}) and cannot be written in "
        "another version: only Paddle models are exported",
        "give the run folder or the model folder it was made from",
    )


def require_paddle(source: ModelSource) -> None:
    """Refuses what is exported already.

    Raises:
        BadInput: The model is no Paddle model.
    """
    if source.artifact.format != FORMAT:
        raise BadInput(
            f"{source.file} has the format {source.artifact.format}; only Paddle models are exported",
            "give the run folder or the model folder it was made from",
        )


def load_parent(source: ModelSource, input_size: tuple[int, int] | None = None) -> PaddlePredictor:
    """Loads the Paddle model to export, on the CPU, for another input size where one is given.

    Raises:
        BadInput: The model is no Paddle model, or its network cannot take the size.
    """
    require_paddle(source)
    if input_size is not None:
        _require_fitting(source, input_size)
    return PaddlePredictor(resized(source.artifact, input_size), source.file, device="cpu")


def _require_fitting(source: ModelSource, input_size: tuple[int, int]) -> None:
    architecture = source.artifact.architecture
    if "name" not in architecture:
        return  # what is missing is said where the network is built
    try:
        check_network_size(str(architecture["name"]), str(architecture.get("stem", "auto")), input_size)
    except BadInput as error:  # its fix speaks of training
        raise BadInput(error.problem, "choose another --input-size, or leave it out") from error


def prove(
    predictor: PaddlePredictor,
    model: OnnxModel,
    split: ImageSplit | None,
    *,
    split_name: str,
    count: int,
    tolerance: float = TOLERANCE,
    threads: int = 1,
    advance: Callable[[int], None] = lambda n: None,
) -> Parity | BoxParity:
    """Compares an ONNX file with its parent on ``count`` images of a split, or on seeded noise where there is none."""
    images, origin = _samples(predictor.artifact.preprocessing, split, split_name, count)
    candidate = OnnxPredictor(model.artifact, model.file, threads=threads)
    return compare(predictor, candidate, images, samples=origin, tolerance=tolerance, advance=advance)


def _samples(preprocessing: Preprocessing, split: ImageSplit | None, name: str, count: int) -> tuple[Array, str]:
    transform = EvalTransform(preprocessing)
    if split is None:
        rng = np.random.default_rng(_NOISE_SEED)
        images = (rng.integers(0, 256, (*preprocessing.size, 3), dtype=np.uint8) for _ in range(count))
        return np.stack([transform(image) for image in images]), f"noise, seed {_NOISE_SEED}"
    # Spread over the split, which may be sorted by class.
    picked = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int))
    return np.stack([transform(split.image(int(i))) for i in picked]), name
