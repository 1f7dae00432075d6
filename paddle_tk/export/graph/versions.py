"""Which version of the ONNX file format (IR) goes with which operator set."""

from __future__ import annotations

import onnx
import onnx.version_converter

from paddle_tk.errors import BadInput
from paddle_tk.export.graph.edit import copied, opset_of

# The format that the onnx release which brought the operator set wrote (its Versioning.md).
_IR_OF_OPSET = {9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, **dict.fromkeys(range(15, 19), 8), 19: 9, 20: 9, 21: 10}
OLDEST_IR, NEWEST_IR = 4, 10


def ir_version_for(opset: int) -> int:
    """Returns the oldest IR version that goes with an operator set from 9 to 21.

    Raises:
        BadInput: Any other operator set.
    """
    if opset not in _IR_OF_OPSET:
        raise BadInput(f"no IR version is known for opset {opset}", f"choose an opset from 9 to {max(_IR_OF_OPSET)}")
    return _IR_OF_OPSET[opset]


def check_versions(opset: int, ir_version: int | None) -> int:
    """Returns the IR version of a file.

    Args:
        opset: 9 to 21.
        ir_version: What was asked for; None: the oldest that goes with the operator set.

    Raises:
        BadInput: An unknown operator set, or an IR version older than it or unknown.
    """
    least = ir_version_for(opset)
    if ir_version is None:
        return least
    if not least <= ir_version <= NEWEST_IR:
        raise BadInput(
            f"IR version {ir_version} does not go with opset {opset}", f"choose one from {least} to {NEWEST_IR}"
        )
    return ir_version


def stamp(model: onnx.ModelProto, ir_version: int | None = None) -> onnx.ModelProto:
    """Returns a copy with an IR version; a modern onnx package writes its own newest into whatever it edits.

    Args:
        model: Its operator set decides which versions can be.
        ir_version: None: the oldest that goes with the operator set (6 at opset 11, 7 at 12 to 14, 8 at 15 to 18, 9 at
            19 and 20, 10 at 21).

    Raises:
        BadInput: The IR version does not go with the operator set.
    """
    result = copied(model)
    result.ir_version = check_versions(opset_of(model), ir_version)
    return result


def at_least(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Returns a model in an operator set, or the model itself where it is written in that or a newer one.

    A converted model has an IR version that goes with the operator set.

    Raises:
        BadInput: It cannot be brought there.
    """
    found = opset_of(model)
    if found >= opset:
        return model
    try:
        result = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # its converters raise whatever they meet
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"the model has opset {found} and cannot be brought to {opset}: {reason}",
            f"export it with opset {opset} or higher",
        ) from error
    result.ir_version = max(int(model.ir_version), ir_version_for(opset))
    return result
