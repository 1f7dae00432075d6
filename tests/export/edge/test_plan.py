from __future__ import annotations

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.export.edge.devices import load_device
from paddle_tk.export.edge.plan import FP32_FILE, INT8_FILE, Plan, Quantization, make_plan


def _plan(device: str, quantization: Quantization, **settings: bool) -> Plan:
    return make_plan(load_device(device), quantization, **settings)


def _told(plan: Plan) -> list[str]:
    return [f"{run.engine} {run.precision}" for run in plan.runs]


def test_plan_builds_fp16_and_keeps_int8_for_the_cpu_when_the_gpu_has_none() -> None:
    plan = _plan("jetson-nano", "int8")
    assert _told(plan) == ["tensorrt fp16", "tensorrt fp32", "onnxruntime int8", "onnxruntime fp32"]
    assert {run.model for run in plan.runs if run.engine == "tensorrt"} == {FP32_FILE}
    assert plan.files == (FP32_FILE, INT8_FILE)
    assert "INT8 does not run on the GPU of NVIDIA Jetson Nano" in plan.statements[0]


@pytest.mark.parametrize("device", ["jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin"])
def test_plan_builds_int8_first_when_the_gpu_has_it(device: str) -> None:
    plan = _plan(device, "auto")
    assert (plan.quantization, _told(plan)[0]) == ("int8", "tensorrt int8")
    assert plan.files == (INT8_FILE, FP32_FILE)
    assert not any("does not run" in statement for statement in plan.statements)


def test_plan_defaults_to_fp32_on_a_raspberry_pi_4_and_to_int8_on_a_5() -> None:
    assert _told(_plan("raspberry-pi-4", "auto")) == ["onnxruntime fp32"]
    asked = _plan("raspberry-pi-4", "int8")
    assert _told(asked) == ["onnxruntime fp32", "onnxruntime int8"]
    assert "is the default" in asked.statements[0]
    assert _told(_plan("raspberry-pi-5", "auto")) == ["onnxruntime int8", "onnxruntime fp32"]


def test_plan_offers_openvino_only_when_the_device_is_x86() -> None:
    assert _told(_plan("x86-cpu", "int8")) == ["onnxruntime int8", "onnxruntime fp32", "openvino int8", "openvino fp32"]
    assert _told(_plan("x86-cpu", "fp32")) == ["onnxruntime fp32", "openvino fp32"]


def test_plan_holds_no_int8_when_none_was_asked_for() -> None:
    for device, quantization in (("jetson-nano", "auto"), ("jetson-orin-nano", "fp16"), ("raspberry-pi-5", "fp32")):
        assert _plan(device, quantization).files == (FP32_FILE,)  # type: ignore[arg-type]


def test_plan_refuses_fp16_when_only_the_cpu_computes() -> None:
    with pytest.raises(BadInput, match="no FP16 engine"):
        _plan("raspberry-pi-5", "fp16")


def test_plan_of_an_int8_file_alone_refuses_what_needs_the_other() -> None:
    assert _plan("jetson-orin-nano", "auto", has_fp32=False).files == (INT8_FILE,)
    assert _told(_plan("raspberry-pi-4", "int8", has_fp32=False)) == ["onnxruntime int8"]
    with pytest.raises(BadInput, match="has no INT8, and the model given is INT8 only"):
        _plan("jetson-nano", "int8", has_fp32=False)
    with pytest.raises(BadInput, match="INT8 only, fp32 was asked for"):
        _plan("x86-cpu", "fp32", has_fp32=False)
