from __future__ import annotations

import pytest

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.convert import NEWEST_OPSET
from paddle_tk.export.edge.devices import device_names, load_device
from paddle_tk.export.graph import ir_version_for
from paddle_tk.export.target import OnnxTarget, resolve_target


@pytest.mark.parametrize(
    ("device", "opset", "ir_version", "expected"),
    [
        (None, None, None, (17, None)),
        (None, 13, 8, (13, 8)),
        ("jetson-nano", None, None, (13, None)),
        ("jetson-nano", 11, None, (11, None)),
        ("jetson-orin-nano", None, None, (17, None)),
        ("x86-cpu", None, None, (17, None)),
    ],
)
def test_resolve_target_takes_what_is_asked_for_or_what_the_device_takes(
    device: str | None, opset: int | None, ir_version: int | None, expected: tuple[int, int | None]
) -> None:
    found = resolve_target(device, opset, ir_version)
    assert (found.opset, found.ir_version) == expected
    assert found.splits_hardswish == found.avoids_int64 == (device == "jetson-nano")


@pytest.mark.parametrize(
    ("device", "opset", "ir_version", "expected"),
    [
        (None, 8, None, "from 9 to 21"),
        (None, 22, None, "from 9 to 21"),
        (None, 13, 6, "does not go with opset 13"),
        ("jetson-nano", 17, None, "takes opset 13 at most"),
        ("jetson-nano", None, 8, "takes IR version 7 at most"),
        ("jetson-nanoo", None, None, "unknown device"),
    ],
)
def test_resolve_target_refuses_when_versions_do_not_fit(
    device: str | None, opset: int | None, ir_version: int | None, expected: str
) -> None:
    with pytest.raises(BadInput) as caught:
        resolve_target(device, opset, ir_version)
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", device_names())
def test_resolve_target_never_asks_for_more_than_a_device_takes(name: str) -> None:
    device, target = load_device(name), resolve_target(name, None, None)
    assert (target.name, target.tensorrt) == (name, device.tensorrt)
    assert (target.newest_opset, target.newest_ir) == (device.opset, device.ir_version)
    assert target.opset == min(17, device.opset)
    assert ir_version_for(target.opset) <= device.ir_version
    newest = resolve_target(name, min(device.opset, NEWEST_OPSET), None)
    assert newest.opset == min(device.opset, NEWEST_OPSET)


def test_resolve_target_names_the_closest_device_when_it_is_unknown() -> None:
    with pytest.raises(BadInput) as caught:
        resolve_target("raspberry-pi5", None, None)
    assert caught.value.problem == "unknown device 'raspberry-pi5'"
    assert "did you mean 'raspberry-pi-5'?" in caught.value.fix
    assert all(name in caught.value.fix for name in device_names())


@pytest.mark.parametrize(
    ("tensorrt", "splits_hardswish", "avoids_int64"),
    [
        (None, False, False),
        ("8.2.1", True, True),
        ("8.5.2", True, True),
        ("8.6", False, True),
        ("9.3.0", False, True),
        ("10.0.1", False, False),
        ("10.3", False, False),
    ],
)
def test_target_avoids_what_a_tensorrt_release_does_not_take(
    tensorrt: str | None, splits_hardswish: bool, avoids_int64: bool
) -> None:
    target = OnnxTarget(tensorrt=tensorrt)
    assert (target.splits_hardswish, target.avoids_int64) == (splits_hardswish, avoids_int64)


def test_require_passes_what_the_device_takes_and_refuses_what_is_newer() -> None:
    target = OnnxTarget(11, name="old-device", newest_opset=13, newest_ir=7)
    target.require(13, 7)
    with pytest.raises(CheckFailed) as opset:
        target.require(14, 7)
    assert opset.value.problem == "the network needs opset 14, old-device takes at most 13"
    assert "--target-device" in opset.value.fix
    with pytest.raises(CheckFailed) as version:
        target.require(13, 8)
    assert version.value.problem == "opset 13 needs IR version 8, old-device takes at most 7"
    assert "--ir-version" in version.value.fix
    OnnxTarget().require(NEWEST_OPSET, 10)
