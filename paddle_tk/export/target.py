"""What an ONNX file is written for: operator set, IR version, and what an engine's parser does not take."""

from __future__ import annotations

from dataclasses import dataclass

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET

_HARDSWISH_SINCE, _INT64_SINCE = (8, 6), (10, 0)  # TensorRT releases


@dataclass(frozen=True)
class OnnxTarget:
    """The form of an ONNX file.

    Attributes:
        opset: The operator set to write.
        ir_version: The IR version to write; None: the oldest that goes with the operator set.
        name: The device it is for, "" for none in particular.
        newest_opset: The newest operator set that the device's engine takes.
        newest_ir: The newest IR version that it takes; None: any.
        tensorrt: The device's TensorRT ("8.2.1"), None where it has none.
    """

    opset: int = DEFAULT_OPSET
    ir_version: int | None = None
    name: str = ""
    newest_opset: int = NEWEST_OPSET
    newest_ir: int | None = None
    tensorrt: str | None = None

    @property
    def splits_hardswish(self) -> bool:
        """Whether HardSwish is written as other operators."""
        return self.tensorrt is not None and _release(self.tensorrt) < _HARDSWISH_SINCE

    @property
    def avoids_int64(self) -> bool:
        """Whether numbers that may be INT32 are written so."""
        return self.tensorrt is not None and _release(self.tensorrt) < _INT64_SINCE

    def require(self, opset: int, ir_version: int) -> None:
        """Refuses a file that the device cannot take.

        Raises:
            CheckFailed: Its operator set or its IR version is too new.
        """
        if opset > self.newest_opset:
            raise CheckFailed(
                f"the network needs opset {opset}, {self.name} takes at most {self.newest_opset}",
                "train another network for it, or leave --target-device out",
            )
        if self.newest_ir is not None and ir_version > self.newest_ir:
            raise CheckFailed(
                f"opset {opset} needs IR version {ir_version}, {self.name} takes at most {self.newest_ir}",
                "choose a lower --opset or --ir-version",
            )


def resolve_target(device: str | None, opset: int | None, ir_version: int | None) -> OnnxTarget:
    """Decides what is written.

    Args:
        device: A device's name; None: for no device in particular.
        opset: 9 to 21; None: 17, or the newest that the device takes where that is lower.
        ir_version: None: the oldest that goes with the operator set.

    Raises:
        BadInput: An unknown device, an operator set that cannot be written, or versions that do not fit each other or
            the device.
    """
    from paddle_tk.export.graph.versions import check_versions

    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise BadInput(f"opset {opset} cannot be written", f"choose one from {OLDEST_OPSET} to {NEWEST_OPSET}")
    target = OnnxTarget() if device is None else _for_device(device)
    chosen = opset if opset is not None else min(DEFAULT_OPSET, target.newest_opset)
    if chosen > target.newest_opset:
        raise BadInput(f"{device} takes opset {target.newest_opset} at most, not {chosen}", "leave --opset out")
    needed = check_versions(chosen, ir_version)
    if target.newest_ir is not None and needed > target.newest_ir:
        raise BadInput(f"{device} takes IR version {target.newest_ir} at most, not {needed}", "leave --ir-version out")
    return OnnxTarget(chosen, ir_version, target.name, target.newest_opset, target.newest_ir, target.tensorrt)


def _for_device(name: str) -> OnnxTarget:
    from paddle_tk.export.edge.devices import load_device

    device = load_device(name)
    return OnnxTarget(
        name=device.name,
        newest_opset=device.opset,
        newest_ir=device.ir_version,
        tensorrt=device.tensorrt,
    )


def _release(version: str) -> tuple[int, int]:
    major, minor = (int(part) for part in version.split(".")[:2])
    return major, minor
