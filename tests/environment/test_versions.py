from __future__ import annotations

import json
import platform
import socket
import subprocess
from pathlib import Path

import pytest

from paddle_tk.environment.version_table import rules
from paddle_tk.environment.versions import check_versions, environment_report, git_state, installed_versions

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "python": "3.11.7", "paddlepaddle": "3.3.1", "numpy": "2.3.5", "paddle2onnx": "2.1.0", "onnx": "1.17.0",
    "onnxruntime": "1.32.0", "visualdl": "2.5.3", "torch": "2.6.0", "torchvision": "0.21.0", "torchaudio": "2.6.0",
}  # fmt: skip


def test_versions_are_accepted_when_they_are_known_to_work() -> None:
    assert check_versions(GOOD) == []
    assert check_versions({}) == []


@pytest.mark.parametrize(
    ("change", "package", "allowed"),
    [
        ({"python": "3.13.0"}, "python", ">=3.10,<3.13"),
        ({"python": "3.9.18"}, "python", ">=3.10,<3.13"),
        ({"numpy": "2.4.0"}, "numpy", "<2.4"),
        ({"paddlepaddle": "2.6.2"}, "paddlepaddle", ">=3.3,<4"),
        ({"paddle2onnx": "1.3.1"}, "paddle2onnx", ">=2.1,<3"),
        ({"onnx": "1.18.0"}, "onnx", ">=1.16.1,<=1.17.0"),
        ({"onnxruntime": "1.19.2"}, "onnxruntime", ">=1.20"),
        ({"torchvision": "0.15.0"}, "torchvision", "==0.21.*"),
        ({"torchaudio": "2.0.0"}, "torchaudio", "==2.6.*"),
    ],
)
def test_versions_are_refused_when_they_are_known_not_to_work(
    change: dict[str, str], package: str, allowed: str
) -> None:
    (problem,) = check_versions(GOOD | change)
    assert (problem.package, problem.allowed) == (package, allowed)
    assert change[package] in problem.found
    assert problem.why
    assert problem.source
    assert problem.fix


def test_versions_are_refused_when_paddle_was_never_built_for_the_cuda() -> None:
    problems = check_versions({"paddlepaddle-gpu": "2.6.2", "cuda": "12.6"})
    assert {p.package for p in problems} == {"cuda", "paddlepaddle-gpu"}
    assert all("packages/stable/cu126" in p.fix for p in problems)
    assert check_versions({"paddlepaddle-gpu": "3.3.1", "cuda": "12.6"}) == []


def test_versions_are_accepted_when_they_follow_no_standard() -> None:
    assert check_versions({"paddlepaddle": "3.3.1", "numpy": "custom-build"}) == []


def test_every_rule_has_a_reason_and_a_source_when_shipped() -> None:
    assert all(rule.why and rule.source for rule in rules())


def test_installed_versions_name_python_and_numpy_when_asked() -> None:
    import numpy

    found = installed_versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == numpy.__version__
    assert list(found) == sorted(found)


def test_environment_report_is_json_and_names_neither_folder_nor_host_when_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    report = environment_report()
    text = json.dumps(report, allow_nan=False)
    assert report["threads"]["OMP_NUM_THREADS"] == "2"
    assert report["hardware"]["cores"] >= 1
    assert report["hardware"]["memory_bytes"] > 0
    assert report["packages"]["paddlepaddle"] or report["packages"]["paddlepaddle-gpu"]
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert f'"{socket.gethostname()}"' not in text


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_git_state_tells_commit_and_changes_when_folder_is_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first", "--no-verify")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "modified": False}
    (tmp_path / "file").write_text("b")
    assert git_state(tmp_path) == {"commit": commit, "modified": True}


def test_git_state_is_unknown_when_folder_only_lies_inside_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "site-packages").mkdir()
    assert git_state(tmp_path / "site-packages") == {"commit": None, "modified": None}
    assert git_state(tmp_path) == {"commit": None, "modified": None}  # no commit yet
