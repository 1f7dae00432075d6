"""The model files that go into an edge bundle: the FP32 file, and an INT8 file that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.errors import BadInput
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.target import resolve_target
from paddle_tk.pipelines.export_model import export_model
from paddle_tk.runtime.load import ModelSource
from paddle_tk.runtime.paddle_predictor import FORMAT as PADDLE_FORMAT


@dataclass(frozen=True)
class Export:
    """How a Paddle model becomes an FP32 file.

    Attributes:
        input_size: (height, width) in pixels; None: that of the model.
        batch_size: Images per run.
        split: Images to prove it on; None: noise.
        split_name: What they are called.
        samples: How many of them.
        threads: CPU threads of ONNX Runtime.
        debug: Let the converter write to the terminal.
    """

    input_size: tuple[int, int] | None = None
    batch_size: int = 1
    split: ImageSplit | None = None
    split_name: str = ""
    samples: int = 64
    threads: int = 1
    debug: bool = False


def require_size(source: ModelSource, input_size: tuple[int, int] | None) -> None:
    """Refuses another input size for a file whose size is fixed.

    Raises:
        BadInput: It takes another one.
    """
    own = source.artifact.preprocessing.size
    if source.artifact.format != PADDLE_FORMAT and input_size not in (None, own):
        assert input_size is not None
        asked = f"{input_size[0]}x{input_size[1]}"
        raise BadInput(
            f"{source.file} takes images of {own[0]}x{own[1]} px, --input-size asks for {asked}",
            "leave --input-size out, or give the Paddle model",
        )


def fp32_model(source: ModelSource, folder: Path, device: Device, how: Export) -> ModelSource:
    """Returns the FP32 file: an ONNX model as it is, a Paddle model exported.

    Args:
        source: A Paddle model or an FP32 ONNX file.
        folder: A folder to be made for an export.
        device: From ``load_device``.
        how: Of an export.

    Raises:
        CheckFailed: The export computes something else.
    """
    if source.artifact.format != PADDLE_FORMAT:
        return source
    folder.mkdir()
    count = min(how.samples, len(how.split)) if how.split is not None else how.samples
    model, parity = export_model(
        source, folder, split=how.split, split_name=how.split_name, count=count, input_size=how.input_size,
        target=resolve_target(device.name, None, None), dynamic_batch=how.batch_size > 1, threads=how.threads,
        debug=how.debug,
    )  # fmt: skip
    artifact = replace(model.artifact, metrics={**model.artifact.metrics, "parity": parity.to_dict()})
    return ModelSource(artifact, model.file, None)


def int8_model(made: ModelSource, source: ModelSource, fp32: ModelSource | None, device: Device) -> ModelSource:
    """Returns the INT8 model where it fits the device and the FP32 file beside it.

    Args:
        made: The INT8 model.
        source: The model that the bundle is made of.
        fp32: The FP32 file of the bundle, None where there is none.
        device: From ``load_device``.

    Raises:
        BadInput: It is of another form, of another model, or takes another size.
    """
    artifact = made.artifact
    if artifact.precision != "int8" or artifact.format == PADDLE_FORMAT:
        raise BadInput(f"{made.file} is no INT8 ONNX model but {artifact.precision}", "make one with tools/quantize.py")
    if artifact.variant != device.int8_variant:
        raise BadInput(
            f"{made.file} is in the form for '{artifact.variant}', {device.name} takes '{device.int8_variant}'",
            f"make it with tools/quantize.py --target {device.int8_variant}",
        )
    if fp32 is None:
        return made
    other = fp32.artifact
    relatives = {source.sha256, fp32.sha256, source.artifact.parent_sha256, other.parent_sha256}
    if artifact.parent_sha256 not in relatives - {None} or artifact.task != other.task:
        raise BadInput(f"{made.file} was not made from {source.file}", "quantize this very model")
    if artifact.preprocessing != other.preprocessing:
        raise BadInput(
            f"{made.file} takes images of {artifact.preprocessing.size}, the FP32 model of {other.preprocessing.size}, "
            "or prepares them in another way",
            "quantize the model at this input size",
        )
    return made
