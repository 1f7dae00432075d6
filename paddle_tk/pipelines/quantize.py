"""A model and what the user asked for -> an INT8 model: images, float graph, fine-tuning, quantization."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.errors import BadInput
from paddle_tk.export.convert import DEFAULT_OPSET
from paddle_tk.export.gate import Limits
from paddle_tk.export.qdq.plan import Target
from paddle_tk.export.qdq.ranges_file import NAME as CALIBRATION
from paddle_tk.export.qdq.write import MODEL
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.pipelines.float_graph import float_graph
from paddle_tk.pipelines.quantization_data import Wanted, load_images
from paddle_tk.pipelines.quantize_model import REPORT, Quantized, Settings, quantize_model
from paddle_tk.runtime.load import EXPORTED_CONFIG, ModelSource
from paddle_tk.runtime.paddle_predictor import FORMAT as PADDLE

FILES = frozenset({MODEL, MANIFEST, REPORT, CALIBRATION, EXPORTED_CONFIG})


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        settings: The config's section.
        target: Whose integer form.
        data: A registered dataset; None: that of the model's own run.
        overrides: "data.KEY=VALUE" items, and "trainer.KEY=VALUE" items for a fine-tuning.
        calibration: A folder of images, a registered dataset, an earlier calibration.json; None: the dataset's
            training images.
        keep: Names of nodes that stay in float.
        input_size: (height, width) in pixels; None: as trained.
        validated: False: for latency only, no accuracy is measured.
        opset: ONNX operator set; None: 17.
        run_dir: Of a fine-tuning; None: beside the model's run.
        threads: CPU threads.
        debug: Let the converter write to the terminal.
        accuracy_hint: A known reason for lost accuracy and what helps; told where the gate refuses for accuracy.
    """

    settings: QuantizeConfig
    target: Target
    data: str | None = None
    overrides: Sequence[str] = ()
    calibration: str | None = None
    keep: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None
    validated: bool = True
    opset: int | None = None
    run_dir: Path | None = None
    threads: int = 1
    debug: bool = False
    accuracy_hint: str = ""


def quantize(source: ModelSource, folder: Path, request: Request, output: Output) -> Quantized:
    """Quantizes a model and writes ``FILES`` into an existing folder.

    Args:
        source: A float model.
        folder: Where to write.
        request: How.
        output: Shows progress and remarks.

    Raises:
        BadInput: Something cannot be done with this model; see the message.
        CheckFailed: The gate, a conversion or a parity check said no.
    """
    _check(source, request)
    settings = request.settings
    ranges_file = _ranges_file(request.calibration)
    data_items = [item for item in request.overrides if not item.startswith("trainer.")]
    wanted = Wanted(
        request.data, data_items, None if ranges_file else request.calibration, settings.samples,
        settings.batch_size, settings.seed, request.validated,
    )  # fmt: skip
    images = load_images(source, wanted, calibrate=ranges_file is None)
    with tempfile.TemporaryDirectory(prefix="paddle_tk-float-") as name:
        places = [Path(name) / "parent", Path(name) / "trained"]
        for place in places:
            place.mkdir()
        export = partial(
            float_graph, opset=request.opset or DEFAULT_OPSET, split=images.test, split_name=images.test_name,
            threads=request.threads, debug=request.debug,
        )  # fmt: skip
        parent = export(source, places[0], input_size=request.input_size)
        trained, learned = None, None
        if settings.method == "qat":
            from paddle_tk.pipelines.quantization_training import train_quantized

            tuned = train_quantized(
                source, request.run_dir or _run_dir(source), settings=settings, overrides=request.overrides,
                output=output,
            )  # fmt: skip
            trained = export(tuned.source, places[1])
            learned = tuned.ranges
        result = quantize_model(
            parent, folder, images, _quantization(request), trained=trained, learned=learned, ranges_file=ranges_file,
            say=output.say, progress=output.progress,
        )  # fmt: skip
    if source.config is not None:
        shutil.copyfile(source.config, folder / EXPORTED_CONFIG)
    return result


def _check(source: ModelSource, request: Request) -> None:
    trained = source.artifact.preprocessing.size
    other_size = request.input_size not in (None, trained)
    if request.settings.method == "qat" and source.artifact.format != PADDLE:
        raise BadInput(f"{source.file} is no Paddle model, it cannot be fine-tuned", "use --method ptq")
    training = [item for item in request.overrides if item.startswith("trainer.")]
    if training and request.settings.method != "qat":
        raise BadInput(f"'{training[0]}' has a meaning only for a fine-tuning", "leave it out, or use --method qat")
    if other_size and request.settings.method == "qat":
        raise BadInput("a model is fine-tuned at the size it was trained with", "leave --input-size out")
    if other_size and request.validated and source.artifact.format == PADDLE:
        height, width = request.input_size or trained
        raise BadInput(
            f"the model was trained at {trained[0]}x{trained[1]} px; at {height}x{width} its accuracy may be far lower "
            "and the gate would hold it against nothing",
            "train at that size, or add --allow-unvalidated for a file that only its latency is measured of",
        )


def _ranges_file(calibration: str | None) -> Path | None:
    if calibration is None:
        return None
    path = Path(calibration).expanduser()
    if path.is_dir() and (path / CALIBRATION).is_file():
        return path / CALIBRATION
    return path if path.is_file() else None


def _quantization(request: Request) -> Settings:
    settings = request.settings
    return Settings(
        target=request.target,
        method=settings.method,
        algorithm=settings.algorithm,
        limits=Limits(
            max_drop=settings.max_drop,
            min_agreement=settings.min_agreement if request.validated else 0.0,
            max_size_ratio=settings.max_size_ratio,
            max_latency_ratio=settings.max_latency_ratio,
            allow_slow=settings.allow_slow,
        ),
        weight_bits=settings.weight_bits,
        keep=request.keep,
        threads=request.threads,
        rounds=settings.latency_rounds,
        repeats=settings.latency_repeats,
        validated=request.validated,
        accuracy_hint=request.accuracy_hint,
    )


def _run_dir(source: ModelSource) -> Path:
    return (source.config.parent if source.config is not None else source.file.parent) / "qat"
