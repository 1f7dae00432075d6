from __future__ import annotations

import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.environment.threads import available_cores, cgroup_cores, configure_threads
from paddle_tk.errors import BadInput


@pytest.fixture(autouse=True)
def _no_paddle_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "1")  # so that it is put back afterwards
        monkeypatch.delenv(name)


def test_threads_are_all_cores_when_auto_and_nothing_is_set() -> None:
    assert configure_threads("auto") == available_cores()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == str(available_cores())


def test_idle_threads_let_go_of_their_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_threads("auto")
    assert os.environ["KMP_BLOCKTIME"] == "1"
    monkeypatch.setenv("KMP_BLOCKTIME", "50")
    configure_threads("auto")
    assert os.environ["KMP_BLOCKTIME"] == "50"


@pytest.mark.parametrize(("text", "threads"), [("3", 3), (" 5 ", 5), ("4,2", 4)])
def test_threads_are_the_users_when_auto_and_variable_is_set(
    text: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert configure_threads("auto") == threads
    assert os.environ["MKL_NUM_THREADS"] == str(threads)


def test_threads_keep_the_users_mkl_variable_when_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    configure_threads("auto")
    assert os.environ["MKL_NUM_THREADS"] == "7"


def test_threads_are_the_requested_when_a_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    assert configure_threads(2) == 2
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"


@pytest.mark.parametrize("text", ["many", "0", "-1", "2.5"])
def test_threads_raise_when_the_users_variable_is_no_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(BadInput, match=f"OMP_NUM_THREADS is '{text}'"):
        configure_threads("auto")


@pytest.mark.parametrize("requested", [0, -2, True, "2"])
def test_threads_raise_when_request_is_no_number_from_one_on(requested: Any) -> None:
    with pytest.raises(BadInput, match="cpu_threads"):
        configure_threads(requested)


def test_threads_warn_and_stay_when_paddle_is_already_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle", types.ModuleType("paddle"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.warns(UserWarning, match="already loaded with 1 CPU"):
        assert configure_threads(2) == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_threads_do_not_warn_when_paddle_has_the_requested_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle", types.ModuleType("paddle"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert configure_threads(2) == configure_threads("auto") == 2


def test_cores_follow_the_affinity_when_it_is_narrowed() -> None:
    code = (
        "import os\nfrom paddle_tk.environment.threads import available_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(available_cores())"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "1"


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    file = tmp_path / "membership"
    file.write_text("0::/jobs/mine\n")
    return file


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "400000 100000", "jobs/cpu.max": "200000 100000", "jobs/mine/cpu.max": "max 100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_cgroup_quota_is_the_lowest_when_several_groups_limit(
    limits: dict[str, str], cores: float | None, tmp_path: Path, membership: Path
) -> None:
    root = tmp_path / "cgroup"
    for name, text in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    assert cgroup_cores(root, membership) == cores


def test_available_cores_are_at_least_one_when_the_quota_is_below(tmp_path: Path, membership: Path) -> None:
    (tmp_path / "cpu.max").write_text("20000 100000\n")
    assert available_cores(tmp_path, membership) == 1
