from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddle_tk.environment.devices import choose_device, cpu_model, hardware, has_vnni, memory_bytes, resolve_device
from paddle_tk.errors import BadInput


@pytest.mark.parametrize(
    ("accelerator", "devices", "cuda", "gpus", "expected"),
    [
        ("auto", "auto", False, 0, "cpu"),
        ("auto", "auto", True, 0, "cpu"),
        ("auto", "auto", True, 2, "gpu:0"),
        ("auto", 1, True, 1, "gpu:0"),
        ("auto", "1", False, 0, "cpu"),
        ("cpu", "auto", True, 2, "cpu"),
        ("cpu", 1, True, 2, "cpu"),
        ("auto", "cpu", True, 2, "cpu"),
        ("gpu", "auto", True, 2, "gpu:0"),
        ("auto", "gpu:1", True, 2, "gpu:1"),
        ("gpu", "gpu:0", True, 1, "gpu:0"),
    ],
)
def test_device_is_chosen_when_the_request_can_be_met(
    accelerator: str, devices: int | str, cuda: bool, gpus: int, expected: str
) -> None:
    assert choose_device(accelerator, devices, compiled_with_cuda=cuda, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("accelerator", "devices", "cuda", "gpus", "message"),
    [
        ("gpu", "auto", False, 0, "CPU wheel.*https://www.paddlepaddle.org.cn/packages/stable/cu126/"),
        ("auto", "gpu:0", False, 0, "CPU wheel"),
        ("gpu", "auto", True, 0, "sees no GPU"),
        ("auto", "gpu:2", True, 2, "gpu:0, gpu:1"),
        ("cpu", "gpu:0", True, 1, "contradicts"),
        ("gpu", "cpu", True, 1, "contradicts"),
        ("auto", 2, True, 2, "devices=1"),
        ("cpu", "2", False, 0, "not available yet"),
        ("auto", 0, True, 2, "devices is 0"),
        ("auto", "gpu:x", True, 2, "devices is 'gpu:x'"),
        ("tpu", "auto", True, 2, "accelerator is 'tpu'"),
    ],
)
def test_device_raises_when_the_request_cannot_be_met(
    accelerator: str, devices: int | str, cuda: bool, gpus: int, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        choose_device(accelerator, devices, compiled_with_cuda=cuda, gpus=gpus)


def test_resolve_device_gives_what_this_machine_has_when_auto() -> None:
    gpus = hardware()["gpus"]
    assert resolve_device("auto", "auto") == ("gpu:0" if gpus else "cpu")
    assert resolve_device("cpu", "auto") == "cpu"
    with pytest.raises(BadInput, match="gpu:99"):
        resolve_device("auto", "gpu:99")


def test_memory_is_the_containers_limit_when_that_is_lower(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    total = memory_bytes(())
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for text, expected in (("1048576", 1048576), ("max", total), (str(2**62), total)):
        limit.write_text(text + "\n")
        assert memory_bytes((limit, tmp_path / "absent")) == expected


def test_cpu_model_is_found_when_the_kernel_names_it(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_model(file) == "Some CPU @ 2 GHz"
    assert cpu_model(tmp_path / "absent")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: sse avx512_vnni avx2", True),
        ("flags\t\t: sse avx_vnni", True),
        ("flags\t\t: sse avx2", False),
        ("", None),
    ],
)
def test_vnni_is_read_from_the_processors_flags(
    flags: str, expected: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")

    assert has_vnni(tmp_path / "cpuinfo") is expected
    assert has_vnni(tmp_path / "missing") is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert has_vnni(tmp_path / "cpuinfo") is None
