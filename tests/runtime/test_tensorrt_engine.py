from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.runtime import tensorrt_engine
from paddle_tk.runtime.tensorrt_engine import Cuda, TensorRTEngine, TensorRTError, TensorRTMissing, build_engine
from tests.runtime import fake_tensorrt
from tests.runtime.fake_tensorrt import FakeCudart, serialized

VERSIONS = ["8.2.1", "8.5.2", "10.3.0"]


def _install(monkeypatch: pytest.MonkeyPatch, version: str, cudart: FakeCudart, **behaviour: Any) -> Any:
    trt = fake_tensorrt.make(cudart, version, **behaviour)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt


def _batch(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 3, 4, 4), dtype=np.float32)


def _expected(batch: np.ndarray) -> np.ndarray:
    flat = batch.reshape(len(batch), -1)
    return np.stack([flat.mean(axis=1), flat.max(axis=1)], axis=1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("free", [False, True])
def test_run_returns_its_own_arrays_and_calls_in_order_when_api_and_batch_differ(
    version: str, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = FakeCudart()
    _install(monkeypatch, version, cudart)
    (tmp_path / "m.engine").write_bytes(serialized(version, 2, free=free))
    engine = TensorRTEngine(str(tmp_path / "m.engine"), cuda=Cuda(cudart))
    assert (engine.input_shape, engine.output_names, engine.output_shapes) == ((2, 3, 4, 4), ["logits"], [(2, 2)])
    assert cudart.log == ["cudaStreamCreate", "cudaMalloc", "cudaMalloc"]
    cudart.log.clear()
    first, second = _batch(2), _batch(2) + 1
    (one,) = engine.run(first)
    (two,) = engine.run(second)
    np.testing.assert_allclose(one, _expected(first), rtol=1e-6)
    np.testing.assert_allclose(two, _expected(second), rtol=1e-6)
    assert cudart.log == ["to device", "execute", "to host", "cudaStreamSynchronize"] * 2
    engine.close()
    assert not cudart.memory
    assert not cudart.streams


def test_run_refuses_when_the_batch_has_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cudart = FakeCudart()
    _install(monkeypatch, "10.3.0", cudart)
    (tmp_path / "m.engine").write_bytes(serialized("10.3.0", 2))
    engine = TensorRTEngine(str(tmp_path / "m.engine"), cuda=Cuda(cudart))
    with pytest.raises(ValueError, match=r"expected a batch of shape \(2, 3, 4, 4\), got \(1, 3, 4, 4\)"):
        engine.run(_batch(1))


def test_loading_says_how_to_mend_it_when_the_engine_is_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = FakeCudart()
    _install(monkeypatch, "10.3.0", cudart)
    (tmp_path / "m.engine").write_bytes(serialized("8.2.1", 1))
    with pytest.raises(TensorRTError, match=r"10\.3\.0 cannot load .*m\.engine.*build it again on this device"):
        TensorRTEngine(str(tmp_path / "m.engine"), cuda=Cuda(cudart))


def test_loading_gives_memory_back_when_the_device_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cudart = FakeCudart(failing="cudaMalloc")
    _install(monkeypatch, "8.2.1", cudart)
    (tmp_path / "m.engine").write_bytes(serialized("8.2.1", 1))
    with pytest.raises(TensorRTError, match=r"cudaMalloc failed: out of memory \(error 2\)"):
        TensorRTEngine(str(tmp_path / "m.engine"), cuda=Cuda(cudart))
    assert not cudart.streams


@pytest.mark.parametrize("version", VERSIONS)
def test_build_sets_what_the_version_knows_and_the_engine_runs_when_batch_is_free(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = FakeCudart()
    trt = _install(monkeypatch, version, cudart, batch=-1)
    target = tmp_path / "m.engine"
    build_engine("m.onnx", str(target), fp16=True, int8=True, workspace_mb=64, batch=3)
    assert trt.built.flags == ["FP16", "INT8"]
    assert trt.built.workspace == (("workspace", 64 * 2**20) if version.startswith("10") else 64 * 2**20)
    assert trt.built.network_flags == 1
    assert trt.built.profiles[0].shapes == ("image", ((3, 3, 4, 4),) * 3)
    assert [path.name for path in tmp_path.iterdir()] == ["m.engine"]
    (found,) = TensorRTEngine(str(target), cuda=Cuda(cudart)).run(_batch(3))
    np.testing.assert_allclose(found, _expected(_batch(3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ({"fast": ("FP16",)}, "this GPU has no fast INT8"),
        ({"readable": False}, r"cannot read m\.onnx: In node 3: HardSwish unsupported"),
    ],
)
def test_build_writes_nothing_when_the_gpu_or_the_parser_cannot(
    behaviour: dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "8.2.1", FakeCudart(), **behaviour)
    with pytest.raises(TensorRTError, match=expected):
        build_engine("m.onnx", str(tmp_path / "m.engine"), int8=True)
    assert not list(tmp_path.iterdir())


def test_missing_tensorrt_or_cuda_is_told_when_they_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TensorRTMissing, match="TensorRT is not installed"):
        build_engine("m.onnx", str(tmp_path / "m.engine"))

    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(tensorrt_engine.ctypes, "CDLL", absent)
    with pytest.raises(TensorRTMissing, match="libcudart"):
        Cuda()


def test_module_works_when_it_is_copied_away_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(tensorrt_engine.__file__, tmp_path / "copied_engine.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    import copied_engine  # type: ignore[import-not-found]

    cudart = FakeCudart()
    _install(monkeypatch, "8.2.1", cudart)
    (tmp_path / "m.engine").write_bytes(serialized("8.2.1", 1))
    (found,) = copied_engine.TensorRTEngine(str(tmp_path / "m.engine"), cuda=copied_engine.Cuda(cudart)).run(_batch(1))
    np.testing.assert_allclose(found, _expected(_batch(1)), rtol=1e-6)
