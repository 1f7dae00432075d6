"""README.md of a bundle: what runs where, the commands, and every figure with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddle_tk.export.edge.build_script import NAME as BUILD_SCRIPT
from paddle_tk.export.edge.devices import KINDS, Cited, Device
from paddle_tk.export.edge.estimate import Estimate
from paddle_tk.export.edge.findings import Preflight
from paddle_tk.export.edge.plan import Run
from paddle_tk.files import MIB

_SHOWN = ("processor", "software", "python", "tensorrt", "cuda", "onnxruntime", "opset", "ir_version", "int8", "ram_gb")


@dataclass(frozen=True)
class Facts:
    """What a README tells.

    Attributes:
        device: The target.
        runs: Ways to run the model, the default first.
        statements: What the user must be told.
        models: Per file what the manifest says of it.
        estimates: Per way to run it, in their order, None where nothing is estimated.
        preflights: The checks of the files.
        task: "classification" or "detection".
        input_shape: (B, 3, H, W).
        selftest_origin: Where the self-test picture comes from.
    """

    device: Device
    runs: tuple[Run, ...]
    statements: tuple[str, ...]
    models: Sequence[Mapping[str, Any]]
    estimates: Sequence[Estimate | None]
    preflights: Sequence[Preflight]
    task: str
    input_shape: tuple[int, ...]
    selftest_origin: str


def readme(facts: Facts) -> str:
    """Returns the text of README.md."""
    parts = [
        _head(facts),
        _commands(facts),
        _runs(facts),
        _power(facts.device),
        _figures(facts),
        _device(facts.device),
        _checks(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(facts: Facts) -> str:
    shape = "x".join(str(side) for side in facts.input_shape)
    lines = [
        f"# A {facts.task} model for {facts.device.title}",
        "",
        f"Input {shape} (batch, channels, height, width). Made by paddle_tk; runs without Paddle. The runner checks "
        "every file against `manifest.json` before it runs anything.",
        "",
        *(f"- {statement}" for statement in facts.statements),
    ]
    return "\n".join(lines).rstrip()


def _commands(facts: Facts) -> str:
    tensorrt = any(run.engine == "tensorrt" for run in facts.runs)
    build = [f"./{BUILD_SCRIPT}                    # builds the engine, then runs the self-test"] if tensorrt else []
    python = "python3"
    lines = [
        "## Use",
        "",
        "```bash",
        *([] if tensorrt else [f"{python} -m pip install -r requirements.txt"]),
        *build,
        f"{python} runner.py --selftest            # exit code 0: this device computes what the toolkit computed",
        f"{python} runner.py --image photo.jpg --output results",
        f"{python} runner.py --folder photos --output results --async 2",
        f"{python} runner.py --benchmark 200 --warmup 20",
        "```",
        "",
        "`--engine`, `--precision` and `--threads` choose what runs; `--async N` works on N images at once, each with "
        "buffers allocated beforehand. Results are JSON on the standard output; with `--output` also "
        "`predictions.json` and the pictures. Exit codes: 0 done, 1 the self-test failed, 2 bad input.",
    ]
    if tensorrt:
        lines += [
            "",
            "TensorRT, its Python package, NumPy and OpenCV come with JetPack; `requirements.txt` is only needed for "
            "`--engine onnxruntime`, on the CPU. An engine fits the device it was built on and no other.",
        ]
    return "\n".join(lines)


def _runs(facts: Facts) -> str:
    sizes = {entry["file"]: f"{entry['bytes'] / MIB:.1f}" for entry in facts.models}
    lines = ["## What runs where", "", "| options of the runner | file | MiB | where |", "|---|---|---|---|"]
    for place, run in enumerate(facts.runs):
        where = f"GPU, from the engine `{run.engine_file}`" if run.engine == "tensorrt" else "CPU"
        default = " (default)" if place == 0 else ""
        lines.append(f"| `{run.told()}`{default} | `{run.model}` | {sizes[run.model]} | {where} |")
    return "\n".join(lines)


def _power(device: Device) -> str:
    if not device.power_modes:
        return ""
    modes = ", ".join(f"{m.name} ({f'{m.watts:g} W' if m.watts else 'not limited'})" for m in device.power_modes)
    return "\n".join(
        [
            "## Power mode",
            "",
            f"Modes of {device.title}: {modes}. Figures depend on it; recommended: {device.recommended_power_mode}. "
            "`nvpmodel -q` tells the present one. The numbers of modes differ between JetPack versions, so the script "
            "looks a mode up by its name:",
            "",
            "```bash",
            f"./{BUILD_SCRIPT} --power-mode {device.recommended_power_mode}    # sudo nvpmodel, sudo jetson_clocks",
            "```",
            "",
            "Build the engine in the mode it will run in: TensorRT chooses its kernels by timing them.",
        ]
    )


def _figures(facts: Facts) -> str:
    lines = [
        "## Figures",
        "",
        "*Estimated* figures come from the device's peak figures, in ranges; *cited* ones were published by others for "
        "the models named; *measured* are those that `--benchmark` prints on the device. The toolkit has measured "
        "nothing on such a device.",
        "",
        "| run | latency, one batch | memory, MiB | origin |",
        "|---|---|---|---|",
    ]
    for run, estimate in zip(facts.runs, facts.estimates, strict=True):
        if estimate is None:
            lines.append(f"| {run.engine} {run.precision} | measure it | measure it | - |")
            continue
        latency = "; ".join(f"{e.low_ms:.3g} to {e.high_ms:.3g} ms ({e.state})" for e in estimate.latency)
        memory = told_memory(estimate)
        lines.append(f"| {run.engine} {run.precision} | {latency or estimate.reason} | {memory} | estimated |")
    flops = next((e.flops for e in facts.estimates if e is not None), None)
    if flops is not None:
        lines += [
            "",
            f"One batch is {flops / 1e9:.3g} x 10^9 operations (a multiply-add counts as two). Memory is that of "
            "weights, activations and the engine's workspace; Python, libraries and CUDA come on top.",
        ]
    if facts.device.cited:
        lines += ["", "| published | precision | figure | by | origin |", "|---|---|---|---|---|"]
        lines += [_cited(entry) for entry in facts.device.cited]
    return "\n".join(lines)


def told_memory(found: Estimate) -> str:
    """Returns the range of memory in MiB, in words."""
    workspace = f", of it workspace up to {found.workspace_mib:.0f}" if found.workspace_mib else ""
    return f"{found.low_mib:.3g} to {found.high_mib:.4g}{workspace}"


def _cited(entry: Cited) -> str:
    low, high = entry.value
    figure = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    note = f" ({entry.note})" if entry.note else ""
    model = f"{entry.model} {entry.input}".strip()
    by = f"[{entry.source.title}]({entry.source.url})"
    return f"| {model} | {entry.precision or 'not stated'} | {figure} {entry.unit}{note} | {by} | cited |"


def _device(device: Device) -> str:
    lines = ["## What is known of the device", "", "| fact | value | kind | source |", "|---|---|---|---|"]
    for key in _SHOWN:
        value, told = getattr(device, key), device.provenance[key]
        if value is None:
            continue
        if isinstance(value, tuple):
            value = f"{value[0]:g}" if value[0] == value[1] else f"{value[0]:g} to {value[1]:g}"
        note = f" ({told.note})" if told.note else ""
        lines.append(f"| {key} | {value}{note} | {told.kind} | {told.source.title} |")
    for state in device.performance:
        for key, told in state.provenance.items():
            value = getattr(state, key)
            if value is not None:
                note = f" ({told.note})" if told.note else ""
                lines.append(f"| {key}, {state.name} | {value:g}{note} | {told.kind} | {told.source.title} |")
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    return "\n".join([*lines, "", f"{kinds}."])


def _checks(facts: Facts) -> str:
    lines = [
        "## Checks",
        "",
        "Before the bundle was written its files were checked against the device (`preflight.json`):",
        "",
    ]
    lines += [f"- {report.line()}" for report in facts.preflights]
    for entry in facts.models:
        parity = entry["metrics"].get("parity")
        if parity:
            lines.append(
                f"- `{entry['file']}` computes what the Paddle model computes (measured, n={parity['n']}, "
                f"{parity['samples']})."
            )
        lines += _accuracy(entry)
    lines.append(f"- Self-test picture: {facts.selftest_origin}.")
    return "\n".join(lines)


def _accuracy(entry: Mapping[str, Any]) -> list[str]:
    metrics = entry["metrics"]
    if metrics.get("accuracy_int8") is None or metrics.get("accuracy_fp32") is None:
        return []
    return [
        f"- `{entry['file']}`: accuracy {metrics['accuracy_int8']:.4f}, FP32 {metrics['accuracy_fp32']:.4f} (measured "
        f"in ONNX Runtime where it was quantized, n={metrics['n']})."
    ]
