from __future__ import annotations

import dataclasses

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.export.edge.devices import assumptions_of, device_names, load_device
from paddle_tk.export.edge.tensorrt_rules import operators_of

NAMES = [
    "jetson-nano", "jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin", "raspberry-pi-4", "raspberry-pi-5",
    "x86-cpu",
]  # fmt: skip
_PLAIN = {"name", "title", "engine", "int8_variant", "performance", "power_modes", "recommended_power_mode", "cited",
          "remarks", "provenance"}  # fmt: skip


def test_device_names_lists_all_targets() -> None:
    assert device_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_load_device_gives_every_figure_a_source(name: str) -> None:
    device = load_device(name)
    figures = {field.name for field in dataclasses.fields(device)} - _PLAIN
    assert figures <= set(device.provenance)
    for told in [*device.provenance.values(), *(p for state in device.performance for p in state.provenance.values())]:
        assert told.source.title
    assert all(entry.source.url.startswith("https://") for entry in device.cited)
    assert bool(device.power_modes) == device.name.startswith("jetson")
    if device.power_modes:
        assert device.recommended_power_mode in {mode.name for mode in device.power_modes}
        assert "power_modes" in device.provenance


@pytest.mark.parametrize("name", NAMES)
def test_load_device_names_operators_and_assumptions_of_its_engine(name: str) -> None:
    device = load_device(name)
    assert (device.tensorrt is not None) == (device.engine == "tensorrt")
    if device.tensorrt_release is not None:
        assert "Conv" in operators_of(device.tensorrt_release).supported
    assumed = assumptions_of(device.engine)
    for low, high in (assumed.compute_share, assumed.bandwidth_share, assumed.kernel_start_us):
        assert 0 < low < high


def test_load_device_knows_the_facts_that_decide_what_runs_there() -> None:
    nano, xavier, orin = (load_device(name) for name in NAMES[:3])
    assert (nano.opset, nano.ir_version, nano.tensorrt_release, nano.int8, nano.python) == (13, 7, "8.2", False, "3.6")
    assert (nano.onnxruntime, nano.limits("onnxruntime"), nano.limits("tensorrt")) == ("1.10.0", (15, 8), (13, 7))
    assert (xavier.opset, xavier.int8, orin.opset, orin.int8_variant) == (17, True, 20, "tensorrt")
    assert [state.int8_tops for state in orin.performance] == [20, 33]


@pytest.mark.parametrize(("given", "hint"), [("jetson-nan", "did you mean 'jetson-nano'?"), ("toaster", "known: ")])
def test_load_device_names_the_known_ones_when_it_is_unknown(given: str, hint: str) -> None:
    with pytest.raises(BadInput, match=r"unknown device") as caught:
        load_device(given)
    assert hint in caught.value.fix
    assert "x86-cpu" in caught.value.fix
