"""Paddle's MKL is told of AVX2 on processors where it does not look for it, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_tk.environment.matrix_kernels import KERNELS, choose_matrix_kernels

PROCESSOR = "processor\t: {n}\nvendor_id\t: {maker}\nmodel name\t: a name\nflags\t\t: {flags}\nbugs\t\t:\n\n"
NEW = "fpu sse4_2 avx avx2 fma bmi2"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS, "1")  # so that it is put back afterwards
    monkeypatch.delenv(KERNELS)


def _cpuinfo(folder: Path, *processors: tuple[str, str]) -> Path:
    file = folder / "cpuinfo"
    file.write_text("".join(PROCESSOR.format(n=n, maker=m, flags=f) for n, (m, f) in enumerate(processors)))
    return file


@pytest.mark.parametrize("maker", ["AuthenticAMD", "HygonGenuine"])
def test_kernels_are_avx2_on_processors_of_other_makers_that_have_it(maker: str, tmp_path: Path) -> None:
    assert choose_matrix_kernels(_cpuinfo(tmp_path, (maker, NEW), (maker, NEW))) == "5"
    assert os.environ[KERNELS] == "5"


@pytest.mark.parametrize(
    "processors",
    [
        [("GenuineIntel", NEW)],
        [("AuthenticAMD", "fpu sse4_2 avx fma4")],
        [("AuthenticAMD", "fpu avx2")],
        [("AuthenticAMD", NEW), ("AuthenticAMD", "fpu avx")],
        [("AuthenticAMD", NEW), ("GenuineIntel", NEW)],
        [],
    ],
)
def test_kernels_are_left_to_mkl_elsewhere(processors: list[tuple[str, str]], tmp_path: Path) -> None:
    assert choose_matrix_kernels(_cpuinfo(tmp_path, *processors)) is None
    assert KERNELS not in os.environ


def test_kernels_are_left_to_mkl_where_nothing_describes_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Processor : ARMv8\n\nno colon here\n")
    assert choose_matrix_kernels(tmp_path / "cpuinfo") is None
    assert choose_matrix_kernels(tmp_path / "missing") is None
    assert KERNELS not in os.environ


@pytest.mark.parametrize(("set_to", "in_effect"), [("", None), ("4", "4")])
def test_kernels_of_the_user_stay(
    set_to: str, in_effect: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS, set_to)
    assert choose_matrix_kernels(_cpuinfo(tmp_path, ("AuthenticAMD", NEW))) == in_effect
    assert os.environ[KERNELS] == set_to


def test_kernels_give_the_same_product_whoever_chooses() -> None:
    """With AVX2 kernels forced where there are any, a product agrees with NumPy's."""
    program = (
        "from paddle_tk.environment.start import start_paddle; start_paddle(1)\n"
        "import numpy as np, paddle\n"
        "a, b = np.random.default_rng(0).random((2, 257, 257), np.float32)\n"
        "print(float(np.abs(paddle.matmul(paddle.to_tensor(a), paddle.to_tensor(b)).numpy() - a @ b).max()))"
    )
    for value in (None, ""):
        environment = {k: v for k, v in os.environ.items() if k != KERNELS} | (
            {} if value is None else {KERNELS: value}
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
        )
        assert float(done.stdout.splitlines()[-1]) < 1e-3
