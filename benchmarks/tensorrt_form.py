"""INT8 files for TensorRT: do they keep to its rules, and are they as good as the x86 form in ONNX Runtime?

The rules are checked by reading the graph (paddle_tk/export/tensorrt_check.py); TensorRT itself was not at hand.
Violations are planted that the checker must find.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._int8 import TRAININGS, add_runs, quantized, trained_run
from benchmarks._report import Claim, finish, parser

_DROP = {"resnet18": 0.5, "mobilenet_v2": 0.7}
_DETECTOR_DROP = 2.0  # points of mAP50
_RELEASES = ("8.2", "8.5", "10.3")


def _initializer(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _pairs(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == "QuantizeLinear"]


def _set(model: Any, name: str, values: Any) -> None:
    from onnx import numpy_helper

    _initializer(model, name).CopyFrom(numpy_helper.from_array(values, name))


def _zero_point(model: Any) -> None:
    import numpy as np

    node = _pairs(model)[3]
    node.input[2] = "planted"
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(3, np.int8), "planted"))


def _no_zero_point(model: Any) -> None:
    del _pairs(model)[3].input[2]


def _negative_scale(model: Any) -> None:
    import numpy as np

    _set(model, _pairs(model)[3].input[1], np.asarray(-0.1, np.float32))


def _batch_norm(model: Any) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    back = next(node for node in model.graph.node if node.output[0] == conv.input[1])
    channels = _initializer(model, back.input[0]).dims[0]
    given, conv.output[0] = conv.output[0], "before norm"
    names = []
    for key, value in (("scale", 1), ("shift", 0), ("mean", 0), ("variance", 1)):
        names.append(f"norm {key}")
        model.graph.initializer.append(numpy_helper.from_array(np.full(channels, value, np.float32), names[-1]))
    model.graph.node.append(helper.make_node("BatchNormalization", ["before norm", *names], [given], name="norm"))


def _operator(kind: str) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        from onnx import helper

        model.graph.node.append(helper.make_node(kind, [model.graph.input[0].name], ["planted"], name="planted"))

    return plant


PLANTED: dict[str, Callable[[Any], None]] = {
    "a zero point that is not 0": _zero_point,
    "a Q without a zero point": _no_zero_point,
    "a negative scale": _negative_scale,
    "a batch norm behind a convolution": _batch_norm,
    "Unique": _operator("Unique"),
    "an integer product (ConvInteger)": _operator("ConvInteger"),
}


def _network(name: str, run: Path, work: Path) -> list[Claim]:
    import onnx

    from paddle_tk.export.tensorrt_check import check

    x86 = quantized(run, work / "x86", "quantize.latency_rounds=0")
    made = quantized(run, work / "tensorrt", "--target", "tensorrt", "--calibration", str(x86.folder))
    model = onnx.load(str(made.file))
    claims = []
    for release in _RELEASES[1:]:  # 8.2 is the Jetson Nano's, whose GPU has no INT8
        wrong = check(model, tensorrt=release)
        for violation in wrong:
            print(f"  {name}, TensorRT {release}: {violation}")
        claims.append(Claim(f"{name}: violations, TensorRT {release}", len(wrong), "", 0))
    missed = []
    for what, plant in PLANTED.items():
        spoiled = onnx.ModelProto()
        spoiled.CopyFrom(model)
        plant(spoiled)
        if not check(spoiled, tensorrt="8.5"):
            missed.append(what)
    claims.append(Claim(f"{name}: planted violations missed of {len(PLANTED)} {missed or ''}", len(missed), "", 0))
    metric = "map50" if made.report["metric"] == "map50_95" else "top1"
    figures = made.report["all_metrics"]
    drop = 100 * (figures["fp32"][metric] - figures["int8"][metric])
    print(
        f"{name}: {metric} FP32 {figures['fp32'][metric]:.4f}, TensorRT form {figures['int8'][metric]:.4f}, x86 form "
        f"{x86.report['all_metrics']['int8'][metric]:.4f} (n={figures['n']}, in ONNX Runtime), same answers "
        f"{figures['agreement']:.4f} of {figures['agreement_n']}, size {made.report['size_ratio']:.4f}",
        flush=True,
    )
    claims.append(Claim(f"{name}: drop of {metric}, TensorRT form", drop, "points", _DROP.get(name, _DETECTOR_DROP)))
    return claims


def main() -> int:
    """Makes the files, checks them and compares."""
    arguments = parser(__doc__ or "", "tensorrt_form")
    add_runs(arguments, tuple(TRAININGS))
    arguments.add_argument("--networks", nargs="+", choices=tuple(TRAININGS), default=list(TRAININGS))
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    start_paddle(1)
    claims: list[Claim] = []
    for name in given.networks:
        claims += _network(name, trained_run(name, given), given.work / name / "tensorrt_form")
    return finish(claims, {}, given.json, {"engine": "onnxruntime"})


if __name__ == "__main__":
    sys.exit(main())
