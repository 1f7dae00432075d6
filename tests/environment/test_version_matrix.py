from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from paddle_tk.environment.version_matrix import version_matrix
from paddle_tk.environment.version_table import build_rules, load_table, rules, within
from paddle_tk.environment.versions import check_versions, check_wanted, live_versions, nvidia_driver, torch_cuda

ROOT = Path(__file__).resolve().parents[2]


def names(wanted: dict[str, str]) -> set[str]:
    return {problem.package for problem in check_wanted(wanted)}


@pytest.mark.parametrize(
    ("wanted", "package", "why"),
    [
        ({"torch": "2.6.0", "torchvision": "0.15.0"}, "torchvision", "built for torch 2.6"),
        ({"torch": "2.6.0", "torchaudio": "2.0.0"}, "torchaudio", "built for torch 2.6"),
        ({"torch": "2.13.0", "torchvision": "0.27.0"}, "torchvision", "built for torch 2.13"),
        ({"paddlepaddle-gpu": "2.6.2", "cuda": "12.6"}, "cuda", "never for 12.6"),
        ({"paddlepaddle-gpu": "3.3.1", "cuda": "12.4"}, "cuda", "published for CUDA 11.8, 12.6, 12.9, 13.0"),
        ({"torch": "2.13.0", "cuda": "11.8"}, "torch-cuda", "published for CUDA 12.6, 13.0, 13.2"),
        ({"cuda": "12.6", "driver": "520.61.05"}, "driver", "any CUDA 12"),
        ({"cuda": "11.8", "driver": "440.33"}, "driver", "any CUDA 11"),
        ({"cuda": "12.6", "driver": "535.1", "paddlepaddle-gpu": "3.3.1"}, "driver", "Paddle's wheels"),
        ({"torch": "2.6.0", "python": "3.14"}, "python", "torch 2.6"),
        ({"paddlepaddle": "3.3.1", "python": "3.13"}, "python", "3.10 to 3.12"),
    ],
)  # fmt: skip
def test_plan_is_refused_when_versions_contradict_each_other(wanted: dict[str, str], package: str, why: str) -> None:
    problem = next(p for p in check_wanted(wanted) if p.package == package)
    assert why in problem.why
    assert problem.source
    assert problem.fix


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"torch": "2.6.0", "torchvision": "0.21.0", "torchaudio": "2.6.0", "cuda": "12.6", "driver": "560.28.03"},
        {"torch": "2.13.0+cpu", "torchvision": "0.28.0", "torchaudio": "2.11.0"},
        {"torch": "2.12.0", "torchaudio": "2.11.0"},
        {"paddlepaddle-gpu": "3.3.1", "cuda": "13.0", "driver": "580.65.06", "python": "3.11"},
        {"cuda": "12.6", "driver": "525.60.13"},
    ],
)
def test_plan_is_accepted_when_versions_go_together(wanted: dict[str, str]) -> None:
    assert check_wanted(wanted) == []


def test_cuda_of_a_plan_counts_for_torch_only_when_torch_is_in_it() -> None:
    assert names({"paddlepaddle-gpu": "3.3.1", "cuda": "12.9"}) == set()
    assert names({"paddlepaddle-gpu": "3.3.1", "torch": "2.13.0", "cuda": "12.9"}) == {"torch-cuda"}


def test_installed_build_is_not_called_unpublished_when_it_runs() -> None:
    assert check_versions({"torch": "2.13.0", "torch-cuda": "13.3"}) == []
    assert [p.package for p in check_versions({"torch": "2.13.0", "torch-cuda": "13.0", "driver": "560.35"})] == [
        "driver"
    ]


def test_every_row_has_a_source_when_shipped() -> None:
    table = load_table()
    cited = {row.source for row in table.rules} | {r.pair for r in table.torch} | {r.published for r in table.torch}
    cited |= {r.published for r in table.paddle} | {r.source for r in (*table.cuda.minor, *table.cuda.full)}
    pins = [p for s in table.stages.values() for p in (*s.shared, *s.paddle, *s.torch)]
    cited |= {pin.source for pin in pins}
    assert cited <= set(table.sources)
    assert all(s.title and (not s.url or s.url.startswith("https://")) for s in table.sources.values())
    assert all(rule.source and rule.why for rule in (*rules(), *build_rules()))


def _pinned(python: str) -> dict[str, str]:
    found = {}
    for file in ("requirements.txt", "requirements-gpu.txt", "requirements-torch.txt", "requirements-nodeps.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if re.match(r"[A-Za-z]", line):
                pin = Requirement(line)
                if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                    found[pin.name.lower()] = str(pin.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize("framework", ["paddle", "torch"])
@pytest.mark.parametrize("stage", ["venv", "docker"])
def test_matrix_says_what_the_requirements_files_say_when_shipped(framework: str, stage: str) -> None:
    rows = {row.component: row.version for row in version_matrix(framework, stage)}  # type: ignore[arg-type]
    pinned = _pinned(rows["python"])
    apart = {"python", "cuda", "cudnn", "driver", "driver (full)"}
    assert {name: pinned[name] for name in rows if name not in apart} == {
        name: version for name, version in rows.items() if name not in apart
    }
    assert check_wanted({name: v for name, v in rows.items() if not v.startswith(">")}) == []


def test_image_has_the_cuda_of_the_dockerfile_when_shipped() -> None:
    note = next(row.note for row in version_matrix("paddle", "docker") if row.component == "cuda")
    assert f"FROM {note}\n" in (ROOT / "Dockerfile").read_text()


def test_matrix_has_drivers_only_where_there_is_a_gpu() -> None:
    assert not [row for row in version_matrix("torch", "venv") if "driver" in row.component or row.component == "cuda"]
    rows = {row.component: row for row in version_matrix("paddle", "docker", wanted={"cuda": "11.8", "driver": "530"})}
    assert (rows["cuda"].version, rows["cuda"].source) == ("11.8", "stated by the user")
    assert rows["driver"].version == ">=450.80.02"
    assert "530 is stated by the user" in rows["driver"].note
    assert rows["driver (full)"].version == ">=520.61.05"


def test_matrix_takes_stated_versions_when_they_belong_to_it() -> None:
    wanted = {"torch": "2.10.0", "torchvision": "0.25.0", "paddlepaddle": "3.3.0", "cuda": "12.8"}
    rows = {row.component: row.version for row in version_matrix("torch", "docker", wanted=wanted)}
    assert (rows["torch"], rows["torchvision"], rows["cudnn"]) == ("2.10.0", "0.25.0", "9.10.2.21")
    assert "paddlepaddle" not in rows
    paddle = {row.component: row.version for row in version_matrix("paddle", "docker", wanted=wanted)}
    assert paddle["paddlepaddle-gpu"] == "3.3.0"


def test_within_knows_alternatives_and_leaves_unknown_forms_alone() -> None:
    assert within("12.6.3", "==11.8.* | ==12.6.*")
    assert not within("12.4", "==11.8.* | ==12.6.*")
    assert within("custom", "==1.0")


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("script", "expected"),
    [("echo 560.35.03; echo 560.35.03", "560.35.03"), ("exit 9", None), ("true", None)],
)
def test_driver_is_what_nvidia_smi_says_when_there_is_one(
    script: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_smi(tmp_path, monkeypatch, script)
    assert nvidia_driver() == expected


def test_driver_is_unknown_when_there_is_no_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_driver() is None


@pytest.mark.parametrize(
    ("line", "expected"), [("cuda: Optional[str] = '13.0'", "13.0"), ("cuda: Optional[str] = None", None), ("", None)]
)
def test_torch_cuda_is_read_without_importing_torch(
    line: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip: Optional[str] = '6.1'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_cuda() == expected


def test_live_versions_add_builds_and_driver_when_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "echo 470.82.01")
    found = live_versions("12.6")
    assert (found["cuda"], found["driver"]) == ("12.6", "470.82.01")
    assert "driver" in {problem.package for problem in check_versions(found)}
    assert "cuda" not in live_versions(None)
