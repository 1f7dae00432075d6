"""What the kernel says of the processors is read in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_tk.environment.processor import cpu_model, has_vnni


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
