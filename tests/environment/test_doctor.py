from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paddle_tk.environment import doctor
from paddle_tk.environment.doctor import Check
from paddle_tk.environment.versions import check_versions

WORKING = {"version": "3.3.1", "cuda": None, "error": 0.0, "gpus": []}


def assert_failed(check: Check, found: str, fix: str) -> None:
    assert check.status == "failed"
    assert found in check.found
    assert fix in check.fix


def test_python_fails_when_version_is_not_supported() -> None:
    assert doctor.check_python({"python": "3.11.7"}).status == "ok"
    assert_failed(doctor.check_python({"python": "3.9.1"}), "3.9.1", "make setup")
    assert_failed(doctor.check_python({"python": "3.13.0"}), "3.13.0", "make setup")


def test_virtual_environment_fails_only_outside_an_image_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert_failed(doctor.check_virtual_environment("venv"), "system's Python", "make setup")
    assert doctor.check_virtual_environment("docker").status == "info"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'No module named paddle' >&2; exit 1", "No module named paddle"),
        ("kill -SEGV $$", "signal 11"),
        ("exit 3", "no output"),
        ("exec sleep 30", "no answer within 0"),
    ],
)
def test_paddle_fails_when_its_process_does_not_answer(script: str, reason: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/bash\n{script}\n")
    python.chmod(0o755)
    probe = doctor.probe_paddle(str(python), timeout_seconds=0.4 if "sleep" in script else 30)
    assert_failed(doctor.check_paddle(probe), reason, "pip install")


def test_paddle_fails_when_it_computes_wrongly() -> None:
    assert_failed(doctor.check_paddle(WORKING | {"error": 0.5}), "wrong by 0.5", "reinstall")
    assert "CUDA 12.6" in doctor.check_paddle(WORKING | {"cuda": "12.6"}).found


def test_import_fails_when_package_is_missing() -> None:
    numpy, missing = doctor.check_imports({"numpy": "numpy", "nothing": "no_such_module_here"})
    assert numpy.status == "ok"
    assert_failed(missing, "no_such_module_here", "requirements.txt")


def test_combination_fails_when_versions_do_not_fit() -> None:
    (check,) = doctor.check_combinations(check_versions({"paddlepaddle": "3.3.1", "numpy": "2.4.0"}))
    assert_failed(check, "numpy 2.4.0", "pip install 'numpy<2.4'")
    assert [c.status for c in doctor.check_combinations([])] == ["ok"]


def test_optional_packages_are_named_when_they_are_missing() -> None:
    assert "wandb (the W&B logger)" in doctor.check_optional({}).found
    assert doctor.check_optional(dict.fromkeys(doctor.OPTIONAL, "1")).found == "all installed"


@pytest.mark.parametrize(("text", "status"), [("", "ok"), ("4", "ok"), ("1", "warning"), ("64", "warning")])
def test_threads_warn_when_they_do_not_fit_the_cores(text: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert doctor.check_threads().status == status


def test_memory_and_disk_fail_when_there_is_too_little(tmp_path: Path) -> None:
    assert_failed(doctor.check_memory(doctor.GIB), "1.0 GiB", "memory limit")
    assert doctor.check_memory(4 * doctor.GIB).status == "ok"
    assert_failed(doctor.check_disk(tmp_path / "runs", needed_bytes=2**62), "GiB free", "--run-dir")
    assert doctor.check_disk(tmp_path / "not" / "there", needed_bytes=1).status == "ok"


def test_writing_fails_when_the_folder_cannot_be_written(tmp_path: Path) -> None:
    assert doctor.check_writing(tmp_path / "runs").status == "ok"
    assert not list(tmp_path.iterdir())
    file = tmp_path / "runs"
    file.write_text("a file where the folder should be")
    assert_failed(doctor.check_writing(file), "cannot be written", "--run-dir")


def test_gpu_fails_only_in_the_image_when_there_is_none() -> None:
    assert doctor.check_gpu(WORKING, "venv").status == "info"
    assert_failed(doctor.check_gpu(WORKING, "docker"), "CPU wheel", "paddlepaddle-gpu")
    assert_failed(doctor.check_gpu(WORKING | {"cuda": "12.6"}, "docker"), "sees none", "--gpus all")
    assert doctor.check_gpu(WORKING | {"gpus": ["A GPU"]}, "docker").found == "A GPU"


@pytest.mark.parametrize(
    ("programs", "found"), [(["chromium", "chromedriver"], "chromium with"), (["chromium"], "skipped")]
)
def test_browser_is_only_told_when_looked_for(
    programs: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in programs:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor.check_browser()
    assert check.status == "info"
    assert found in check.found


def test_driver_and_builds_are_told_when_there_are_any() -> None:
    assert doctor.check_driver({}).found == "no NVIDIA driver"
    found = doctor.check_driver({"driver": "560.35.03", "cuda": "12.6", "torch-cuda": "13.0"}).found
    assert found == "NVIDIA 560.35.03, Paddle for CUDA 12.6, torch for CUDA 13.0"
