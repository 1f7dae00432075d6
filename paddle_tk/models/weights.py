"""Weights in and out of a network: files, what of them fits, and a report of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from paddle_tk.errors import ArtifactError, some
from paddle_tk.files import write_bytes_atomic
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.manifest import load_manifest
from paddle_tk.unpickle import restricted_load

Array = np.ndarray[Any, Any]
FILE_NAME = "model.safetensors"
_FORMATS = "give a .safetensors or .pdparams file, or the folder of a finished run"
# paddle.save notes its internal parameter names under this key.
_PADDLE_EXTRA = "StructuredToParameterName@@"
_SAFETENSORS_TYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32},
    **{"I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_},
}
_SHOWN = 4  # names per group in a report
_FOREIGN = 0.1  # share of tensors that a file may hold besides a network's own


@dataclass(frozen=True)
class WrongShape:
    """A tensor whose shape in the file is not the network's."""

    name: str
    in_file: tuple[int, ...]
    in_network: tuple[int, ...]


@dataclass(frozen=True)
class WeightReport:
    """What became of a file's tensors. Names are sorted.

    Attributes:
        source: Where the weights came from.
        matched: Tensors that were set.
        missing: The network's tensors that the file lacks; left as initialised.
        unexpected: The file's tensors that the network lacks; ignored.
        wrong_shape: Left as initialised.
        head: Tensors of the classifier, whether matched or not.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[WrongShape, ...]
    head: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many tensors the network has."""
        return len(self.matched) + len(self.missing) + len(self.wrong_shape)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was set."""
        return len(self.matched) == self.total

    def lines(self) -> list[str]:
        """Returns the report in words, counts first, a few names of each group."""
        found = [f"weights from {self.source}: {len(self.matched)} of {self.total} tensors set"]
        head = [item for item in self.wrong_shape if item.name in self.head]
        other = [item for item in self.wrong_shape if item.name not in self.head]
        if head:
            found.append(f"classifier left as initialised, the file has another class count: {_shapes(head)}")
        if other:
            found.append(f"left as initialised, the file has another shape: {_shapes(other)}")
        if self.missing:
            found.append(f"left as initialised, not in the file: {some(self.missing, _SHOWN)}")
        if self.unexpected:
            found.append(f"in the file but not in the network, ignored: {some(self.unexpected, _SHOWN)}")
        return found


def _shapes(items: Sequence[WrongShape]) -> str:
    return some([f"{item.name} {list(item.in_file)}, needed {list(item.in_network)}" for item in items], _SHOWN)


def read_weights(path: Path | str) -> dict[str, Array]:
    """Reads the tensors of a weights file by name.

    Args:
        path: A ``.safetensors`` or ``.pdparams`` file, a run folder or a model folder. In a folder with a
            manifest the hashes are checked.

    Returns:
        Arrays by name; bfloat16 is widened to float32.

    Raises:
        ArtifactError: The file is missing, damaged, of another kind, or a pickle of more than arrays.
    """
    file = _resolve(Path(path))
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    if file.suffix == ".pdparams":
        return _read_pdparams(file)
    raise ArtifactError(f"{file} is not a weights file that can be read", _FORMATS)


def _resolve(path: Path) -> Path:
    if not path.exists():
        raise ArtifactError(f"no weights at {path}", _FORMATS)
    if not path.is_dir():
        return path
    for folder in (path / "model", path):
        if (folder / MANIFEST).is_file():
            return folder / load_manifest(folder).path
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ArtifactError(f"{path} holds no {FILE_NAME}, nor does {path / 'model'}", _FORMATS)


def _read_safetensors(file: Path) -> dict[str, Array]:
    try:
        entries = deserialize(file.read_bytes())  # type: ignore[no-untyped-call, unused-ignore]
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror or error}", "check the file") from error
    except SafetensorError as error:
        raise ArtifactError(f"{file} is damaged or not a safetensors file: {error}", "get the file again") from error
    arrays = {}
    for name, entry in entries:
        kind, shape = entry["dtype"], entry["shape"]
        if kind == "BF16":
            arrays[name] = _widen_bfloat16(np.frombuffer(entry["data"], np.uint16)).reshape(shape)
        elif kind in _SAFETENSORS_TYPES:
            arrays[name] = np.frombuffer(entry["data"], _SAFETENSORS_TYPES[kind]).reshape(shape)
        else:
            raise ArtifactError(f"{file}: {name} has the type {kind}", "convert the weights to float32")
    return arrays


def _read_pdparams(file: Path) -> dict[str, Array]:
    loaded = restricted_load(file)
    if not isinstance(loaded, Mapping):
        raise ArtifactError(f"{file} holds a {type(loaded).__name__} where tensors by name are expected", _FORMATS)
    arrays = {}
    for key, value in loaded.items():
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        if name == _PADDLE_EXTRA:
            continue
        # A single tensor is pickled by Paddle as (its internal name, its array).
        array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise ArtifactError(f"{file}: {name!r} is a {type(value).__name__}, not a tensor", _FORMATS)
        # NumPy has no bfloat16: Paddle stores its bits as uint16.
        arrays[name] = _widen_bfloat16(array) if array.dtype == np.uint16 else array
    return arrays


def _widen_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_array(tensor: paddle.Tensor) -> Array:
    """Returns a copy of a tensor as an array; half precision widens to float32, which loses nothing."""
    low = tensor.dtype in (paddle.float16, paddle.bfloat16)
    return np.asarray((tensor.astype("float32") if low else tensor).numpy())


def network_arrays(network: Any) -> dict[str, Array]:
    """Returns copies of a network's parameters and buffers by name, as ``to_array`` gives them."""
    return {name: to_array(value) for name, value in network.state_dict().items()}


def write_safetensors(arrays: Mapping[str, Array], path: Path) -> None:
    """Writes arrays atomically; equal arrays give equal bytes, as no time, path or version is stored.

    Args:
        arrays: By name.
        path: Ends in ``.safetensors``.

    Raises:
        BadInput: The disk is full.
    """
    # The format takes memory as it lies, so a transposed view must be laid out anew.
    laid_out = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    write_bytes_atomic(path, save(laid_out))


def apply_weights(network: Any, arrays: Mapping[str, Array], *, source: str) -> WeightReport:
    """Sets a network's tensors from arrays of the same name and shape.

    The classifier (another class count) and the first convolution (another stem) may have another shape and
    are then left as initialised; the classifier may be missing. Anything else that does not fit means weights
    of another architecture. Nothing is set unless all checks pass.

    Args:
        network: Changed in place. Its ``head_layers`` name the classifier; without them it is the last linear
            layer.
        arrays: As ``read_weights`` returns them; cast to each parameter's type.
        source: Named in the report and in errors.

    Raises:
        ArtifactError: Weights of another architecture, of a type that is no float, or not finite.
    """
    state = network.state_dict()
    report = _compare(network, state, arrays, source)
    _refuse_other_architecture(network, report, arrays)
    for name in report.matched:
        _check_values(name, arrays[name], state[name], source)
    with paddle.no_grad():
        for name in report.matched:
            state[name].set_value(paddle.to_tensor(_native(arrays[name])).astype(state[name].dtype))
    return report


def _compare(network: Any, state: Mapping[str, Any], arrays: Mapping[str, Array], source: str) -> WeightReport:
    both = sorted(set(state) & set(arrays))
    wrong = [
        WrongShape(name, tuple(arrays[name].shape), tuple(state[name].shape))
        for name in both
        if tuple(arrays[name].shape) != tuple(state[name].shape)
    ]
    mismatched = {item.name for item in wrong}
    return WeightReport(
        source=source,
        matched=tuple(name for name in both if name not in mismatched),
        missing=tuple(sorted(set(state) - set(arrays))),
        unexpected=tuple(sorted(set(arrays) - set(state))),
        wrong_shape=tuple(wrong),
        head=_head_tensors(network, state),
    )


def _head_tensors(network: Any, state: Mapping[str, Any]) -> tuple[str, ...]:
    layers = getattr(network, "head_layers", None)
    if layers is None:
        linear = [path for path, layer in network.named_sublayers() if isinstance(layer, paddle.nn.Linear)]
        layers = tuple(linear[-1:])
    return tuple(
        sorted(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias") if f"{layer}.{kind}" in state)
    )


def _refuse_other_architecture(network: Any, report: WeightReport, arrays: Mapping[str, Array]) -> None:
    stem = next((name for name, value in network.state_dict().items() if len(value.shape) == 4), "")
    free = set(report.head)
    missing = [name for name in report.missing if name not in free]
    wrong = [
        item
        for item in report.wrong_shape
        # Another stem changes the kernel or the input channels, never the output channels.
        if item.name not in free and not (item.name == stem and item.in_file[:1] == item.in_network[:1])
    ]
    too_few = 2 * len(report.matched) < report.total
    if not (too_few or missing or wrong or len(report.unexpected) > _FOREIGN * report.total):
        return
    first = missing[:1] or [item.name for item in wrong[:1]] or list(report.unexpected[:1])
    example = f", for instance {first[0]}" if first else ""
    raise ArtifactError(
        f"{report.source} holds weights of another architecture: {len(report.matched)} of the network's "
        f"{report.total} tensors match the file's {len(arrays)}; {len(report.missing)} are missing, "
        f"{len(report.wrong_shape)} have another shape, {len(report.unexpected)} are unknown to it{example}",
        "set model.name to the network these weights were trained for, or give other weights",
    )


def _check_values(name: str, array: Array, parameter: Any, source: str) -> None:
    if parameter.is_floating_point() and array.dtype.kind != "f":
        raise ArtifactError(f"{source}: {name} is {array.dtype}, a float type is needed", "give unquantized weights")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ArtifactError(f"{source}: {name} holds NaN or infinite values", "give weights of a run that converged")


def _native(array: Array) -> Array:
    """Returns a writable array in the machine's byte order, which is what Paddle takes."""
    return np.array(array, dtype=array.dtype.newbyteorder("="))
