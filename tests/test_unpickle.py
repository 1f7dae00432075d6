import collections
import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paddle_tk.errors import ArtifactError
from paddle_tk.unpickle import restricted_load

DTYPES = ["u1", "i8", "f2", "f4", "f8", "?", "c8", "U3", "S4", ">f4", ">i2"]


def load(value: Any, protocol: int = 4) -> Any:
    return restricted_load(io.BytesIO(pickle.dumps(value, protocol=protocol)))


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_restricted_load_returns_the_same_array_when_the_type_is_plain(dtype: str, order: Any, protocol: int) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    loaded = load({"w": [array]}, protocol)["w"][0]
    assert type(loaded) is np.ndarray
    assert loaded.dtype == pickle.loads(pickle.dumps(array)).dtype  # NumPy reads into the machine's byte order
    np.testing.assert_array_equal(loaded, array)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(np.dtype("f4"), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)
def test_restricted_load_returns_equal_values_when_containers_are_nested(array: np.ndarray, other: Any) -> None:
    loaded = load({"array": array, "other": (other, [array])})
    np.testing.assert_array_equal(loaded["array"], array)
    assert loaded["other"][0] == other
    assert loaded["other"][1][0] is loaded["array"]


def test_restricted_load_returns_scalars_when_pickled_as_numpy_scalars() -> None:
    loaded = load({"a": np.float32(1.5), "b": np.int64(-3)})
    assert loaded == {"a": 1.5, "b": -3}
    assert loaded["a"].dtype == np.float32


def test_restricted_load_keeps_bytes_when_written_by_python_2() -> None:
    # {'data': 'abc\xff', 'labels': [3]} as Python 2 writes it with protocol 2.
    written = b"\x80\x02}q\x00(U\x04dataq\x01U\x04abc\xffq\x02U\x06labelsq\x03]q\x04K\x03au."
    assert restricted_load(io.BytesIO(written)) == {b"data": b"abc\xff", b"labels": [3]}


def test_restricted_load_runs_nothing_when_the_pickle_calls_a_shell(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    with pytest.raises(ArtifactError, match=r"asks for (posix|nt)\.system"):
        load(Call(os.system, f"touch {trace}"))
    assert not trace.exists()


@pytest.mark.parametrize(
    "payload",
    [
        Call(eval, "1"),
        Call(getattr, "text", "upper"),
        Call(print, "x"),
        collections.OrderedDict(a=1),
        np.array([object()], dtype=object),
        np.zeros(2, dtype=[("a", "i4")]),
        np.ma.masked_array([1, 2]),
        np.datetime64("2020-01-01"),
        complex(1, 2),
    ],
)
def test_restricted_load_refuses_when_more_than_plain_arrays_is_asked_for(payload: Any) -> None:
    with pytest.raises(ArtifactError, match="only plain arrays are read"):
        load(payload)


def opcodes(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(b"\x80\x02" + b"".join(parts) + b".")


GLOBAL_DTYPE, GLOBAL_ARRAY = b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    "stream",
    [
        opcodes(GLOBAL_ARRAY, b"K\x05\x85R"),  # ndarray(5): uninitialised memory
        opcodes(GLOBAL_DTYPE, b"X\x01\x00\x00\x00O\x85R"),  # dtype("O")
        opcodes(GLOBAL_DTYPE),  # the class itself
        opcodes(RECONSTRUCT, b"K\x01K\x02K\x03\x87R"),  # _reconstruct(1, 2, 3)
        opcodes(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R"),
    ],
    ids=["ndarray", "object dtype", "a class", "reconstruct of an int", "another codec"],
)
def test_restricted_load_refuses_when_numpy_is_misused(stream: io.BytesIO) -> None:
    with pytest.raises(ArtifactError):
        restricted_load(stream)


@pytest.mark.parametrize("shape", [(3,), (-1, -8), (2**40,), "ab"])
def test_restricted_load_refuses_when_bytes_do_not_fit_the_shape(shape: Any) -> None:
    array = np.zeros(2, np.float32)
    reduced = array.__reduce__()
    state = (1, shape, np.dtype("f4"), False, array.tobytes())
    with pytest.raises(ArtifactError, match=r"do not fit its shape|not a readable pickle"):
        load(Call(reduced[0], *reduced[1], state=state))


def test_restricted_load_refuses_when_a_dtype_state_claims_objects() -> None:
    state = (3, "|", None, None, None, -1, -1, 63)
    accepted = load(np.zeros(2, np.uint8))
    assert accepted.tolist() == [0, 0]
    fields = (3, "|", None, ("a",), {"a": (np.dtype("i4"), 0)}, 8, 1, 63)
    with pytest.raises(ArtifactError, match="array type"):
        load(Call(np.dtype, "u1", state=fields))
    with pytest.raises(ArtifactError):  # a dtype by itself is not data
        load(Call(np.dtype, "u1", state=state))


def test_restricted_load_leaves_the_next_reading_alone_when_a_pickle_sets_attributes() -> None:
    poison = opcodes(RECONSTRUCT, b"}(X\x08\x00\x00\x00__call__K\x01ub")
    with pytest.raises(ArtifactError):
        restricted_load(poison)
    assert load(np.arange(3)).tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_restricted_load_raises_nothing_but_artifact_errors_when_bytes_are_damaged(data: st.DataObject) -> None:
    whole = pickle.dumps({"w": np.arange(12, dtype=np.float32), "n": [1, "two", (3.0, None)]}, protocol=2)
    position = data.draw(st.integers(0, len(whole) - 1))
    flipped = data.draw(st.integers(1, 255))
    damaged = bytearray(whole)
    damaged[position] ^= flipped
    if data.draw(st.booleans()):
        damaged = damaged[:position]
    with contextlib.suppress(ArtifactError):  # a flipped bit inside a number still reads
        restricted_load(io.BytesIO(bytes(damaged)))


def test_restricted_load_raises_artifact_error_when_nesting_is_endless() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert load(cycle)[0] is not None
    stream = io.BytesIO(b"\x80\x02" + b")" + b"\x85" * 100_000 + b".")
    with pytest.raises(ArtifactError, match="not a readable pickle"):
        restricted_load(stream)


def test_restricted_load_names_the_file_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such weights\.pdparams cannot be read"):
        restricted_load(tmp_path / "no such weights.pdparams")


def test_restricted_load_reads_a_path_when_it_has_spaces_and_accents(tmp_path: Path) -> None:
    path = tmp_path / "gewichte größer.pdparams"
    path.write_bytes(pickle.dumps({"w": np.ones(3)}))
    loaded = restricted_load(path)
    assert isinstance(loaded, dict)
    np.testing.assert_array_equal(loaded["w"], np.ones(3))
