from __future__ import annotations

from pathlib import Path

import pytest

from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.data.fetch import OFFLINE
from paddle_tk.data.select import GIB, Machine
from paddle_tk.data.states import datasets_folder
from paddle_tk.errors import BadInput
from paddle_tk.pipelines import auto_data
from paddle_tk.pipelines.auto_data import resolve_auto


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(OFFLINE, "1")


def _resolve(overrides: list[str], path: Path | None = None) -> auto_data.LoadedConfig:
    return resolve_auto(load_config(path, overrides), path, overrides, Output(), may_fetch=True)


def _with_gpu(monkeypatch: pytest.MonkeyPatch, gib: int) -> None:
    """A GPU is the one thing these tests cannot have."""
    here = Machine((gib * GIB,), cores=8, memory_bytes=32 * GIB, free_bytes=GIB)
    monkeypatch.setattr(auto_data, "machine", lambda cpu_only=False: here)


def _voc() -> None:
    for name in ("VOC2007/ImageSets/Main/trainval", "VOC2007/ImageSets/Main/test", "VOC2012/ImageSets/Main/trainval"):
        path = datasets_folder() / "voc" / "VOCdevkit" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("000001\n")


def test_resolve_auto_gives_the_embedded_set_when_nothing_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = _resolve(["data=auto"])
    same = load_config(None, ["data=digits"])
    assert loaded.config == same.config
    assert loaded.sha256 == same.sha256
    said = capsys.readouterr().out
    assert "data=auto: digits (no GPU: debug tier; cifar10 is not on disk" in said
    assert "estimated: nothing to download, disk 0 kB" in said


def test_resolve_auto_follows_the_task_of_the_network() -> None:
    assert _resolve(["data=auto", "model=picodet_s"]).config.data.name == "digits_detection"


def test_resolve_auto_changes_nothing_when_a_dataset_is_named() -> None:
    loaded = load_config(None, ["data=cifar10"])
    assert resolve_auto(loaded, None, ["data=cifar10"], Output(), may_fetch=True) is loaded


@pytest.mark.parametrize("form", ["data=auto", "data.name=auto"])
def test_resolve_auto_keeps_what_the_user_has_said(form: str) -> None:
    loaded = _resolve([form, "data.image_size=24", "trainer.max_epochs=1"])
    assert (loaded.config.data.name, loaded.config.data.image_size, loaded.config.trainer.max_epochs) == (
        "digits",
        24,
        1,
    )
    assert loaded.config.data.flip == 0.0  # the rest is the group's own


def test_resolve_auto_keeps_what_the_file_has_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [config, override data: auto, _self_]\ndata: {crop_padding: 7, mean: [0.1, 0.2, 0.3]}\n")
    loaded = _resolve([], path)
    assert (loaded.config.data.name, loaded.config.data.crop_padding) == ("digits", 7)
    assert loaded.config.data.mean == [0.1, 0.2, 0.3]
    assert loaded.config.data.image_size == 16
    assert loaded.name == "mine"


@pytest.mark.parametrize(
    ("gib", "said", "batch", "workers"),
    [
        (12, [], 8, 4),
        (24, [], 16, "auto"),
        (12, ["data.batch_size=6"], 6, 4),
        (12, ["trainer.batch_size=6", "trainer.num_workers=0"], 6, 0),
    ],
)
def test_resolve_auto_is_careful_only_where_the_gpu_is_small_and_the_user_silent(
    gib: int, said: list[str], batch: int, workers: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_gpu(monkeypatch, gib)
    _voc()
    loaded = _resolve(["data=auto", "model=picodet_s", *said])
    data = loaded.config.data
    assert (data.name, data.batch_size, data.num_workers) == ("voc", batch, workers)


def test_resolve_auto_keeps_the_files_batch_when_it_is_careful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_gpu(monkeypatch, 12)
    _voc()
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [config, override model: picodet_s, override data: auto, _self_]\ntrainer: {batch_size: 3}\n"
    )
    assert _resolve([], path).config.data.batch_size == 3


def test_resolve_auto_refuses_a_root() -> None:
    with pytest.raises(BadInput, match=r"data=auto with data\.root=here"):
        _resolve(["data=auto", "data.root=here"])
