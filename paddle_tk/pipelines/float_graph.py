"""The float ONNX graph of a model: exported from Paddle and proven, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.errors import BadInput
from paddle_tk.export.convert import DEFAULT_OPSET
from paddle_tk.export.edge.model_file import read_model
from paddle_tk.export.graph import Model, at_least, node_counts
from paddle_tk.export.graph.edit import opset_of
from paddle_tk.export.onnx import OnnxModel, write_onnx
from paddle_tk.pipelines.export_model import load_parent, prove
from paddle_tk.runtime.load import ModelSource
from paddle_tk.runtime.onnx_io import FORMAT
from paddle_tk.runtime.paddle_predictor import PaddlePredictor

# Scales for each channel of a weight came with this operator set.
OLDEST_INT8_OPSET = 13
_COMPARED = 32  # images that the exported file is proven on
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"})


@dataclass(frozen=True)
class FloatGraph:
    """A float ONNX file.

    Attributes:
        exported: The file and its manifest.
        model: Its graph.
        predictor: The Paddle network it was made from; None for an ONNX file.
        sha256: Of the weights: the Paddle model's file, or the ONNX file.
    """

    exported: OnnxModel
    model: Model
    predictor: PaddlePredictor | None
    sha256: str


def float_graph(
    source: ModelSource,
    folder: Path,
    *,
    opset: int = DEFAULT_OPSET,
    input_size: tuple[int, int] | None = None,
    split: ImageSplit | None = None,
    split_name: str = "",
    threads: int = 1,
    debug: bool = False,
) -> FloatGraph:
    """Exports a Paddle model, or reads an ONNX file.

    Args:
        source: The model.
        folder: An existing folder for the exported file.
        opset: ONNX operator set of an exported file, at least 13.
        input_size: (height, width) in pixels; None: as trained.
        split: Images to prove an exported file on; None: seeded noise.
        split_name: What they are called.
        threads: CPU threads of ONNX Runtime.
        debug: Let the converter write to the terminal.

    Raises:
        BadInput: An operator set below 13; another input size for an ONNX file; a file that is INT8 already.
        ArtifactError: The ONNX file cannot be read.
        CheckFailed: The network cannot be converted, or the file computes something else.
    """
    if opset < OLDEST_INT8_OPSET:
        raise BadInput(
            f"opset {opset} has no scales for each channel of a weight", f"choose {OLDEST_INT8_OPSET} or higher"
        )
    if source.artifact.format == FORMAT:
        return _read(source, input_size)
    predictor = load_parent(source, input_size)
    written = write_onnx(predictor, folder, opset=opset, dynamic_batch=False, debug=debug)
    prove(predictor, written, split, split_name=split_name, count=_COMPARED, threads=threads).require()
    return FloatGraph(written, read_model(written.file), predictor, source.sha256)


def _read(source: ModelSource, input_size: tuple[int, int] | None) -> FloatGraph:
    artifact = source.artifact
    if artifact.precision == "int8":
        raise BadInput(f"{source.file} is INT8 already", "give the float model it was made from")
    if input_size is not None and input_size != artifact.preprocessing.size:
        height, width = artifact.preprocessing.size
        raise BadInput(
            f"{source.file} takes images of {height}x{width} px, --input-size asks for {input_size[0]}x{input_size[1]}",
            "leave --input-size out, or give the Paddle model",
        )
    model = at_least(read_model(source.file), OLDEST_INT8_OPSET)
    integer = sorted(set(node_counts(model)) & _QUANTIZED)
    if integer:
        raise BadInput(
            f"{source.file} is quantized already: it holds {integer[0]}", "give the float model it was made from"
        )
    return FloatGraph(OnnxModel(artifact, source.file, opset_of(model)), model, None, source.sha256)
