"""Which model files a device can really run, on which engine, in which precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from paddle_tk.errors import BadInput
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.estimate import Precision

Quantization = Literal["auto", "fp32", "fp16", "int8"]
RunEngine = Literal["tensorrt", "onnxruntime", "openvino"]
FP32_FILE, INT8_FILE = "models/model.onnx", "models/model.int8.onnx"


@dataclass(frozen=True)
class Run:
    """One way to run a bundle's model.

    Attributes:
        engine: "tensorrt", "onnxruntime" or "openvino".
        precision: What it computes in.
        model: The ONNX file.
    """

    engine: RunEngine
    precision: Precision
    model: str

    @property
    def engine_file(self) -> str:
        """Where build_engine.sh puts the engine, "" for the engines that read ONNX."""
        return f"engines/model.{self.precision}.engine" if self.engine == "tensorrt" else ""

    def told(self) -> str:
        """Returns the runner's options for it."""
        return f"--engine {self.engine} --precision {self.precision}"


@dataclass(frozen=True)
class Plan:
    """What a bundle holds.

    Attributes:
        quantization: What was asked for; "auto" is resolved.
        runs: Ways to run it, the default first.
        statements: What the user must be told, in plain words.
    """

    quantization: Quantization
    runs: tuple[Run, ...]
    statements: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The model files it needs, each once."""
        return tuple(dict.fromkeys(run.model for run in self.runs))

    def saying(self, statement: str) -> Plan:
        """Returns the plan with one more statement."""
        return replace(self, statements=(*self.statements, statement))


def resolve(device: Device, quantization: Quantization) -> Quantization:
    """Returns what "auto" means for a device.

    Raises:
        BadInput: The device has no engine for what was asked for.
    """
    if quantization == "auto":
        fallback: Quantization = "fp16" if device.engine == "tensorrt" else "fp32"
        return "int8" if device.int8 else fallback
    if quantization == "fp16" and device.engine == "onnxruntime":
        raise BadInput(
            f"{device.name} has no FP16 engine: ONNX Runtime's CPU kernels compute in FP32 or INT8",
            "use --quantization fp32 or int8",
        )
    return quantization


def make_plan(device: Device, quantization: Quantization, *, has_fp32: bool = True) -> Plan:
    """Decides which files a bundle holds and what runs where.

    Args:
        device: From ``load_device``.
        quantization: What was asked for.
        has_fp32: Whether there is an FP32 model; else there is an INT8 file only.

    Raises:
        BadInput: The device has no engine for what was asked for.
    """
    chosen = resolve(device, quantization if has_fp32 else "int8")
    if not has_fp32 and quantization in ("fp32", "fp16"):
        raise BadInput(f"the model given is INT8 only, {quantization} was asked for", "give the model it was made from")
    if not has_fp32 and device.engine == "tensorrt" and not device.int8:
        raise BadInput(
            f"the GPU of {device.title} has no INT8, and the model given is INT8 only",
            "give the FP32 model it was made from; its INT8 file can be added with --int8-model",
        )
    runs = _gpu_runs(device, chosen) if device.engine == "tensorrt" else _cpu_runs(device, chosen)
    return Plan(chosen, tuple(r for r in runs if has_fp32 or r.model == INT8_FILE), tuple(_statements(device, chosen)))


def without_int8(device: Device, why: str) -> Plan:
    """Returns the plan for a device that would get INT8, where there is no INT8 model.

    Args:
        device: From ``load_device``.
        why: For the user, without a full stop.
    """
    plan = make_plan(device, "fp16" if device.engine == "tensorrt" else "fp32")
    return replace(plan, statements=(f"No INT8 model is in this bundle: {why}.", *plan.statements))


def _gpu_runs(device: Device, chosen: Quantization) -> list[Run]:
    fp16, fp32 = Run("tensorrt", "fp16", FP32_FILE), Run("tensorrt", "fp32", FP32_FILE)
    cpu = Run("onnxruntime", "fp32", FP32_FILE)
    if chosen == "fp32":
        return [fp32, cpu]
    if chosen == "fp16":
        return [fp16, fp32, cpu]
    if device.int8:
        return [Run("tensorrt", "int8", INT8_FILE), fp16, fp32, cpu]
    return [fp16, fp32, Run("onnxruntime", "int8", INT8_FILE), cpu]


def _cpu_runs(device: Device, chosen: Quantization) -> list[Run]:
    engines: list[RunEngine] = ["onnxruntime", "openvino"] if device.int8_variant == "x86" else ["onnxruntime"]
    fp32 = [Run(engine, "fp32", FP32_FILE) for engine in engines]
    if chosen != "int8":
        return fp32
    int8 = [Run(engine, "int8", INT8_FILE) for engine in engines]
    # Taken in turn, so that the first engine comes first in either precision.
    pairs = zip(int8, fp32, strict=True) if device.int8 else zip(fp32, int8, strict=True)
    return [run for pair in pairs for run in pair]


def _statements(device: Device, chosen: Quantization) -> list[str]:
    said = [remark.text for remark in device.remarks if remark.about in ("all", chosen)]
    if chosen != "int8" or device.int8:
        return said
    if device.engine == "tensorrt":
        said.insert(
            0,
            f"INT8 does not run on the GPU of {device.title}. The GPU runs an FP16 engine built from {FP32_FILE}; "
            f"{INT8_FILE} is for its CPU (--engine onnxruntime --precision int8) and for smaller storage.",
        )
    else:
        said.insert(0, f"INT8 is in {INT8_FILE} (--precision int8); {FP32_FILE} is the default on {device.title}.")
    return said
