"""The model files that the latency mode chooses from: the given one, exports at its input sizes, INT8 forms of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.data.bundle import ImageSplit
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.onnx import resized
from paddle_tk.export.qdq.plan import Target
from paddle_tk.export.qdq.ranges_file import NAME as CALIBRATION
from paddle_tk.export.target import resolve_target
from paddle_tk.pipelines.edge_bundle import export_opset, fit_model
from paddle_tk.pipelines.export_model import export_model
from paddle_tk.pipelines.latency_candidates import BATCHES, ONNXRUNTIME, TENSORRT, Candidate, ModelFile, Settings
from paddle_tk.pipelines.quantize import Request, quantize
from paddle_tk.runtime.engines import ENGINES, PADDLE, available_engines, engines_for
from paddle_tk.runtime.load import ModelSource
from paddle_tk.types import ModelArtifact

Size = tuple[int, int]
_COMPARED = 64  # images that an export is proven on


@dataclass(frozen=True)
class Recipe:
    """How model files are made.

    Attributes:
        device: Whose operator set, IR version and INT8 form the files get.
        quantization: The config's section.
        engines: Engines that may be used; None: all that are installed.
        precisions: Of "fp32" and "int8", what may be used.
        int8_model: An INT8 model of the same weights; None: made here.
        data: A registered dataset; None: that of the model's own run.
        overrides: "data.KEY=VALUE" items.
        calibration: As in tools/quantize.py.
        batches: Also make files for larger batches.
        split: Labelled test images; None: none are known.
        split_name: What they are called.
        threads: CPU threads.
        debug: Let the converter write to the terminal.
    """

    device: Device
    quantization: QuantizeConfig
    engines: Sequence[str] | None = None
    precisions: Sequence[str] = ("fp32", "int8")
    int8_model: ModelSource | None = None
    data: str | None = None
    overrides: Sequence[str] = ()
    calibration: str | None = None
    batches: bool = False
    split: ImageSplit | None = None
    split_name: str = ""
    threads: int = 1
    debug: bool = False


@dataclass
class Models:
    """What there is to choose from.

    Attributes:
        reference: The given model as others are held against it.
        float_file: The FP32 ONNX file at the trained size; None: there is none.
        files: All of them; those that differ in their batch size only share a function.
        left_out: What was not made or cannot be used, and why.
    """

    reference: Candidate
    float_file: ModelSource | None
    files: list[ModelFile] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


class ModelMaker:
    """Makes the files in a folder of its own.

    Args:
        source: The given model: Paddle, or an ONNX file.
        work: An existing folder.
        recipe: How.
        output: Shows what is done.
    """

    def __init__(self, source: ModelSource, work: Path, recipe: Recipe, output: Output) -> None:
        self._source, self._work, self._recipe, self._output = source, work, recipe, output
        self._trained = source.artifact.preprocessing.size
        self._folders = 0

    def base(self) -> Models:
        """Returns the given model and, of a Paddle model, its FP32 ONNX file, without other batch sizes.

        Raises:
            BadInput: None of the engines that may be used is installed.
            CheckFailed: The export computes something else.
        """
        left_out = self._missing_engines()
        exported = self._float(None) if self._source.artifact.format == PADDLE else self._source
        own = self._file(exported) if exported.artifact.precision in self._recipe.precisions else None
        reference = self._reference(exported)
        models = Models(reference, exported if exported.artifact.precision == "fp32" else None, left_out=left_out)
        if self._source.artifact.format == PADDLE and "fp32" in self._recipe.precisions:
            models.files += self._used(replace(self._file(self._source), batch_size=None))
        if own is not None:
            models.files += self._batches(own)
        return models

    def add_size(self, models: Models, size: Size, accept: Callable[[Candidate], str]) -> None:
        """Adds the model at another input size where it is accepted.

        Args:
            models: Is added to.
            size: (height, width) in pixels.
            accept: Told the export in its reference engine; returns why it is not accepted, "" where it is.
        """
        name = f"{size[0]}x{size[1]}"
        if self._source.artifact.format != PADDLE:
            models.left_out[name] = "the file takes one size; only a Paddle model is exported at another"
            return
        try:
            exported = self._float(size)
        except (BadInput, CheckFailed) as error:
            models.left_out[name] = error.problem
            return
        reason = accept(self._reference(exported))
        if reason:
            models.left_out[name] = reason
            return
        if "fp32" in self._recipe.precisions:
            artifact = resized(self._source.artifact, size)
            models.files += self._used(replace(self._file(replace(self._source, artifact=artifact)), batch_size=None))
            models.files += self._batches(self._file(exported))
        self.add_int8(models, exported)

    def add_int8(self, models: Models, exported: ModelSource | None) -> None:
        """Adds the INT8 forms of an FP32 ONNX file, as far as the gate lets them pass.

        Args:
            models: Is added to.
            exported: The FP32 file; None: nothing can be quantized.
        """
        if "int8" not in self._recipe.precisions or exported is None:
            return
        size = exported.artifact.preprocessing.size
        name = f"int8 {size[0]}x{size[1]}"
        given = self._recipe.int8_model
        try:
            if given is not None and given.artifact.preprocessing == exported.artifact.preprocessing:
                models.files += self._batches(self._file(given))
                return
            variant = self._recipe.device.int8_variant if TENSORRT in self._installed() else self._cpu_variant()
            made = self._int8(exported, variant, None)
            models.files += self._batches(self._file(made))
            if variant == "tensorrt":
                other = self._int8(exported, self._cpu_variant(), made.file.parent / CALIBRATION)
                models.files += self._batches(self._file(other))
        except (BadInput, CheckFailed) as error:
            models.left_out[name] = error.problem

    def _missing_engines(self) -> dict[str, str]:
        asked = self._recipe.engines
        left_out = {
            name: f"not installed: {engine.install}"
            for name, engine in ENGINES.items()
            if not engine.installed and (asked is None or name in asked)
        }
        left_out.update({name: "not asked for" for name in ENGINES if asked is not None and name not in asked})
        return left_out

    def _installed(self) -> list[str]:
        asked = self._recipe.engines
        return [name for name, engine in ENGINES.items() if engine.installed and (asked is None or name in asked)]

    def _cpu_variant(self) -> Target:
        variant = self._recipe.device.int8_variant
        return "x86" if variant == "tensorrt" else variant

    def _reference(self, exported: ModelSource) -> Candidate:
        """Returns a float model in ONNX Runtime where that is installed, whatever engines may be chosen."""
        names = available_engines(exported.artifact)
        if not names:
            own = ENGINES[engines_for(exported.artifact)[0]]
            raise BadInput(f"no engine for {exported.artifact.format} models is installed", own.install)
        artifact = exported.artifact
        level = "all" if names[0] == ONNXRUNTIME else ""
        settings = Settings(
            names[0], artifact.precision, artifact.preprocessing.size, self._recipe.threads, graph_optimization=level
        )
        return Candidate(self._file(exported), settings)

    def _file(self, source: ModelSource) -> ModelFile:
        artifact = source.artifact
        names = [name for name in available_engines(artifact) if name in self._installed() and _fits(name, artifact)]
        return ModelFile(source, tuple(names), artifact.inputs[0].shape[0], source.sha256)

    @staticmethod
    def _used(*files: ModelFile) -> list[ModelFile]:
        return [file for file in files if file.engines]

    def _folder(self, name: str) -> Path:
        self._folders += 1
        folder = self._work / f"{self._folders}-{name}"
        folder.mkdir()
        return folder

    def _float(self, size: Size | None) -> ModelSource:
        recipe = self._recipe
        folder = self._folder("fp32")
        shown = size or self._trained
        self._output.say(f"exporting at {shown[0]}x{shown[1]} px")
        model, _ = export_model(
            self._source, folder, split=recipe.split, split_name=recipe.split_name,
            count=_COMPARED if recipe.split is None else min(_COMPARED, len(recipe.split)), input_size=size,
            target=resolve_target(recipe.device.name, None, None), dynamic_batch=recipe.batches,
            threads=recipe.threads, debug=recipe.debug,
        )  # fmt: skip
        return ModelSource(model.artifact, model.file, self._source.config)

    def _int8(self, exported: ModelSource, variant: Target, calibration: Path | None) -> ModelSource:
        """Quantizes the Paddle model itself where the file is at its size and for one image, else the ONNX file."""
        recipe = self._recipe
        plain = exported.artifact.preprocessing.size == self._trained and not recipe.batches
        parent = self._source if plain else exported
        # Every candidate's latency is measured by the search, in its engine; the gate's own measurement is left out.
        settings = recipe.quantization.model_copy(update={"latency_rounds": 0})
        request = Request(
            settings=settings,
            target=variant,
            data=recipe.data,
            overrides=recipe.overrides,
            calibration=recipe.calibration if calibration is None else str(calibration),
            opset=export_opset(recipe.device),
            threads=recipe.threads,
            debug=recipe.debug,
        )
        size = exported.artifact.preprocessing.size
        self._output.say(f"quantizing for {variant} at {size[0]}x{size[1]} px")
        folder = self._folder("int8")
        found = quantize(parent, folder, request, self._output)
        return ModelSource(found.model.artifact, found.model.file, self._source.config)

    def _batches(self, file: ModelFile) -> list[ModelFile]:
        """Returns a file for each batch size: one whose batch is free is slower than one whose batch is fixed."""
        if file.batch_size is not None or not self._recipe.batches:
            return self._used(file)
        made = []
        for batch in (1, *BATCHES):
            self._folders += 1
            work = self._work / f"{self._folders}-batch{batch}"
            fitted = fit_model(file.source, work, self._recipe.device, batch_size=batch, threads=self._recipe.threads)
            made.append(replace(file, source=fitted, batch_size=batch))
        return self._used(*made)


def _fits(engine: str, artifact: ModelArtifact) -> bool:
    """Returns whether an INT8 file is in the engine's form; a float file is in every engine's."""
    return artifact.precision != "int8" or (engine == TENSORRT) == (artifact.variant == "tensorrt")
