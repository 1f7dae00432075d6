from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from paddle_tk.config.load import load_config
from paddle_tk.errors import BadInput
from paddle_tk.files import write_json
from paddle_tk.training import run_folder
from paddle_tk.training.run_folder import open_run


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_open_run_never_overwrites_when_the_name_is_taken() -> None:
    loaded = load_config(None)
    assert [str(open_run(loaded, None, None).folder) for _ in range(3)] == [
        "runs/config",
        "runs/config-2",
        "runs/config-3",
    ]


def test_open_run_takes_the_newest_of_the_same_config_when_resumed_automatically() -> None:
    loaded, other = load_config(None), load_config(None, ["seed=5"])
    for number, config in enumerate((loaded, loaded, other)):
        folder = open_run(config, None, None).folder
        os.utime(folder / "config.yaml", (1000 + number, 1000 + number))
    run = open_run(loaded, None, "auto")
    assert (str(run.folder), run.fresh, run.finished) == ("runs/config-2", False, False)


def test_open_run_starts_afresh_when_no_run_has_the_config() -> None:
    open_run(load_config(None, ["seed=5"]), None, None)
    run = open_run(load_config(None), None, "auto")
    assert (str(run.folder), run.fresh) == ("runs/config-2", True)


def test_open_run_says_finished_when_a_result_is_there() -> None:
    loaded = load_config(None)
    write_json(open_run(loaded, None, None).folder / "result.json", {})
    assert open_run(loaded, None, "auto").finished


def test_open_run_names_the_difference_when_the_folder_holds_another_config() -> None:
    open_run(load_config(None), Path("mine"), None)
    other = load_config(None, ["data.batch_size=31"])
    for resume in (None, "auto", "mine"):
        with pytest.raises(BadInput, match=r"mine holds a run of another config \(data.batch_size: 32 -> 31\)"):
            open_run(other, Path("mine"), resume)
    assert load_config(Path("mine/config.yaml")).config.data.batch_size == 32


def test_open_run_asks_for_resume_when_the_folder_holds_the_same_config() -> None:
    loaded = load_config(None)
    open_run(loaded, Path("mine"), None)
    with pytest.raises(BadInput, match="--resume mine"):
        open_run(loaded, Path("mine"), None)


def test_open_run_takes_new_values_that_do_not_change_the_training_when_resumed() -> None:
    open_run(load_config(None), Path("mine"), None)
    open_run(load_config(None, ["data.num_workers=2"]), Path("mine"), "auto")
    assert load_config(Path("mine/config.yaml")).config.data.num_workers == 2


def test_open_run_refuses_a_folder_with_other_things_in_it() -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="not an empty folder"):
        open_run(load_config(None), Path("mine"), None)
    assert sorted(p.name for p in Path("mine").iterdir()) == ["thesis.txt"]


def test_open_run_says_so_when_there_is_nothing_to_resume() -> None:
    with pytest.raises(BadInput, match="no run is there"):
        open_run(load_config(None), None, "elsewhere")


def _hold(folder: str, ready: "multiprocessing.synchronize.Event") -> None:  # type: ignore[name-defined]  # noqa: UP037
    with run_folder.locked(Path(folder)):
        ready.set()
        import time

        time.sleep(30)


def test_locked_refuses_a_second_process_and_is_free_when_the_first_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_LOCK_WAIT_SECONDS", 0.3)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(".", ready))
    process.start()
    assert ready.wait(10)
    with pytest.raises(BadInput, match="another process is training"), run_folder.locked(Path(".")):
        pass
    process.kill()
    process.join()
    with run_folder.locked(Path(".")):
        pass
