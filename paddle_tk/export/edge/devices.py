"""The devices a bundle can be made for: what runs there, every figure with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from paddle_tk.errors import BadInput
from paddle_tk.export.edge.device_table import CitedEntry, Engine, Figure, Kind, State, Table, load_table
from paddle_tk.registry import closest

KINDS: Mapping[str, str] = {
    "V": "read in a primary source or tried on the artefact",
    "S": "from a secondary source",
    "D": "derived by arithmetic",
    "U": "taken over without a statement of its kind",
}


@dataclass(frozen=True)
class Source:
    """Where a figure was read.

    Attributes:
        title: The document.
        url: Its address; "" where there is none.
    """

    title: str
    url: str


@dataclass(frozen=True)
class Provenance:
    """How sure a figure is.

    Attributes:
        kind: One of ``KINDS``.
        source: Where it comes from.
        note: What restricts it.
    """

    kind: Kind
    source: Source
    note: str = ""


@dataclass(frozen=True)
class Performance:
    """Peak figures of a device in one of its states; None: no figure, so nothing is estimated from it.

    Attributes:
        name: The state ("25 W (Super)").
        bandwidth_gb_s: Memory bandwidth in 10^9 bytes per second.
        fp32_tflops: In 10^12 operations per second, a multiply-add counting as two.
        fp16_tflops: The same with 16-bit floats.
        int8_tops: The same with 8-bit integers, without sparsity.
        provenance: By attribute.
    """

    name: str
    bandwidth_gb_s: float
    fp32_tflops: float
    fp16_tflops: float | None
    int8_tops: float | None
    provenance: Mapping[str, Provenance]


@dataclass(frozen=True)
class PowerMode:
    """A mode of nvpmodel.

    Attributes:
        name: As in /etc/nvpmodel.conf; its number differs between JetPack versions.
        watts: The power budget; None: not limited.
    """

    name: str
    watts: float | None


@dataclass(frozen=True)
class Cited:
    """A latency or a rate that somebody published for the device; not ours.

    Attributes:
        model: The network.
        input: "HxW" in pixels, "" where the source does not say.
        precision: "fp32", "fp16", "int8", "" where the source does not say.
        value: Lowest and highest; equal where it is one figure.
        unit: "ms" or "FPS".
        note: What restricts it.
        source: Who published it.
    """

    model: str
    input: str
    precision: str
    value: tuple[float, float]
    unit: str
    note: str
    source: Source


@dataclass(frozen=True)
class Remark:
    """What a user of a device must know.

    Attributes:
        text: One or two sentences.
        about: "int8" where it only matters for a bundle with an INT8 file, else "all".
    """

    text: str
    about: Literal["all", "int8"]


@dataclass(frozen=True)
class Assumptions:
    """What an estimate of latency assumes of an engine, as (worst, best) or (least, most); chosen, not measured.

    Attributes:
        compute_share: Share of the peak arithmetic that a network reaches.
        bandwidth_share: Share of the memory bandwidth that it reaches.
        kernel_start_us: Least and most time to start one kernel, in microseconds.
    """

    compute_share: tuple[float, float]
    bandwidth_share: tuple[float, float]
    kernel_start_us: tuple[float, float]


@dataclass(frozen=True)
class Device:
    """What runs on a device.

    Attributes:
        name: As in --target-device.
        title: As its maker calls it.
        engine: The fast engine there: "tensorrt" on its GPU, or "onnxruntime" on its CPU.
        int8_variant: The form of INT8 file that is made for it: "x86", "arm" or "tensorrt".
        processor: What computes.
        software: Operating system or SDK.
        python: "3.6", ...: the Python that the runner meets.
        tensorrt: Version, None where there is none.
        cuda: Version, None where there is none.
        opset: Newest ONNX operator set that the fast engine takes.
        ir_version: Newest ONNX IR version that it takes.
        onnxruntime: Last version with a wheel for that Python; it runs on the CPU.
        onnxruntime_opset: Newest operator set that it takes.
        onnxruntime_ir: Newest IR version that it takes.
        int8: Whether the fast engine computes INT8 faster than FP32.
        ram_gb: Smallest and largest memory that it is sold with, in GB, shared by CPU and GPU; None: any.
        performance: Peak figures, the default state first; empty where none can be given.
        power_modes: Modes of nvpmodel, empty where there is no such thing.
        recommended_power_mode: The mode to measure and run in, "" where there are none.
        cited: Published latencies.
        remarks: What a user must know.
        provenance: By attribute.
    """

    name: str
    title: str
    engine: Engine
    int8_variant: Literal["x86", "arm", "tensorrt"]
    processor: str
    software: str
    python: str
    tensorrt: str | None
    cuda: str | None
    opset: int
    ir_version: int
    onnxruntime: str
    onnxruntime_opset: int
    onnxruntime_ir: int
    int8: bool
    ram_gb: tuple[float, float] | None
    performance: tuple[Performance, ...]
    power_modes: tuple[PowerMode, ...]
    recommended_power_mode: str
    cited: tuple[Cited, ...]
    remarks: tuple[Remark, ...]
    provenance: Mapping[str, Provenance]

    def limits(self, engine: Engine) -> tuple[int, int]:
        """Returns the newest (operator set, IR version) that an engine takes there."""
        if engine == "tensorrt":
            return self.opset, self.ir_version
        return self.onnxruntime_opset, self.onnxruntime_ir

    @property
    def tensorrt_release(self) -> str | None:
        """TensorRT's version as "major.minor"."""
        return ".".join(self.tensorrt.split(".")[:2]) if self.tensorrt else None


def device_names() -> list[str]:
    """Returns the names of all devices, in the order of the table."""
    return list(load_table().devices)


def assumptions_of(engine: Engine) -> Assumptions:
    """Returns what an estimate of latency assumes of an engine."""
    raw = load_table().assumptions[engine]
    return Assumptions(raw.compute_share, raw.bandwidth_share, raw.kernel_start_us)


@lru_cache(maxsize=16)
def load_device(name: str) -> Device:
    """Returns what is known of a device.

    Raises:
        BadInput: The name is unknown; the message lists the known ones.
    """
    table = load_table()
    if name not in table.devices:
        near = closest(name, device_names())
        hint = f"did you mean '{near}'? " if near else ""
        raise BadInput(f"unknown device '{name}'", f"{hint}known: {', '.join(device_names())}")
    raw = table.devices[name]
    figures: dict[str, Figure[object]] = dict(iter(raw.figures))
    modes = raw.power_modes
    provenance = {key: _provenance(table, figure) for key, figure in figures.items()}
    if modes is not None:
        provenance["power_modes"] = Provenance(modes.kind, _source(table, modes.source))
    return Device(
        name=name,
        title=raw.title,
        engine=raw.engine,
        int8_variant=raw.int8_variant,
        performance=tuple(_performance(table, state) for state in raw.performance),
        power_modes=tuple(PowerMode(mode.name, mode.watts) for mode in modes.modes) if modes else (),
        recommended_power_mode=modes.recommended if modes else "",
        cited=tuple(_cited(table, entry) for entry in raw.cited),
        remarks=tuple(Remark(entry.text, entry.about) for entry in raw.remarks),
        provenance=provenance,
        **{key: figure.value for key, figure in figures.items()},  # type: ignore[arg-type]
    )


def _performance(table: Table, state: State) -> Performance:
    figures: dict[str, Figure[object]] = dict(iter(state.figures))
    return Performance(
        name=state.name,
        provenance={key: _provenance(table, figure) for key, figure in figures.items()},
        **{key: figure.value for key, figure in figures.items()},  # type: ignore[arg-type]
    )


def _cited(table: Table, entry: CitedEntry) -> Cited:
    value = entry.value if isinstance(entry.value, tuple) else (entry.value, entry.value)
    return Cited(entry.model, entry.input, entry.precision, value, entry.unit, entry.note, _source(table, entry.source))


def _source(table: Table, key: str) -> Source:
    return Source(table.sources[key].title, table.sources[key].url)


def _provenance(table: Table, figure: Figure[object]) -> Provenance:
    return Provenance(figure.kind, _source(table, figure.source), figure.note)
