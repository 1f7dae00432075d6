from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk import files
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.training.checkpoint import CheckpointStore, load_checkpoint

TENSORS = {"model": {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float32)}}


def _store(folder: Path, **settings: Any) -> tuple[CheckpointStore, list[str]]:
    said: list[str] = []
    return CheckpointStore(folder, warn=said.append, **settings), said


def _save(store: CheckpointStore, epoch: int, step: int = 0, rank: list[float] | None = None) -> Path:
    return store.save(TENSORS, {"epoch": epoch, "step": step}, epoch=epoch, step=step, rank=rank)


def test_newest_returns_what_was_saved(tmp_path: Path) -> None:
    store, _ = _store(tmp_path)
    _save(store, 1, 5)
    loaded = store.newest()
    assert loaded is not None
    np.testing.assert_array_equal(loaded.tensors["model"]["w"], TENSORS["model"]["w"])
    assert loaded.state == {"epoch": 1, "step": 5}


def test_newest_is_none_when_nothing_was_saved(tmp_path: Path) -> None:
    assert _store(tmp_path / "absent")[0].newest() is None


def test_newest_orders_positions_as_numbers_when_epochs_pass_9999(tmp_path: Path) -> None:
    store, _ = _store(tmp_path, keep_last=5)
    for epoch, step in ((9999, 3), (10000, 0), (10000, 12)):
        _save(store, epoch, step)
    newest = store.newest()
    assert newest is not None
    assert newest.state == {"epoch": 10000, "step": 12}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 2] ^= 1
    path.write_bytes(bytes(payload))


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink], ids=["truncated", "byte flipped", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_newest_falls_back_and_says_so_when_the_newest_is_damaged(tmp_path: Path, damage: Any, name: str) -> None:
    store, said = _store(tmp_path)
    _save(store, 1)
    damage(_save(store, 2) / name)
    loaded = store.newest()
    assert loaded is not None
    assert loaded.state["epoch"] == 1
    assert len(said) == 1
    assert "epoch-0002-step-000000 is damaged" in said[0]
    assert "epoch-0001-step-000000" in said[0]


def test_every_single_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = _save(_store(tmp_path)[0], 1, rank=[-0.5, 0.25])
    rng = np.random.default_rng(0)
    for name in ("model.safetensors", "state.json"):
        good = (folder / name).read_bytes()
        for position in rng.choice(len(good), size=60, replace=False):
            bad = bytearray(good)
            bad[position] ^= 1 << int(rng.integers(8))
            if name == "state.json" and _same_json(good, bytes(bad)):
                continue  # white space between tokens carries nothing
            (folder / name).write_bytes(bytes(bad))
            with pytest.raises(ArtifactError):
                load_checkpoint(folder)
        (folder / name).write_bytes(good)
    assert load_checkpoint(folder).state["epoch"] == 1


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_best_prefers_the_metric_then_the_loss_then_the_earlier_epoch(tmp_path: Path) -> None:
    store, _ = _store(tmp_path, keep_last=1, keep_top_k=4)
    for epoch, rank in ((1, [-0.9, 0.5]), (2, [-0.9, 0.3]), (3, [-0.9, 0.3]), (4, [-0.8, 0.1])):
        _save(store, epoch, rank=rank)
    best = store.best()
    assert best is not None
    assert best.state["epoch"] == 2


def test_prune_keeps_last_and_top_k_when_there_are_more(tmp_path: Path) -> None:
    store, _ = _store(tmp_path, keep_last=2, keep_top_k=2)
    for epoch, top1 in enumerate((0.9, 0.1, 0.8, 0.2, 0.3), start=1):
        _save(store, epoch, rank=[-top1, 0.0])
    assert [p.name[6:10] for p in store.folders()] == ["0001", "0003", "0004", "0005"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_newest_ignores_and_removes_leftovers_when_a_write_was_interrupted(tmp_path: Path) -> None:
    store, said = _store(tmp_path)
    _save(store, 1)
    half = tmp_path / ".tmp-epoch-0002-step-000000-abc"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    loaded = store.newest()
    assert loaded is not None
    assert loaded.state["epoch"] == 1
    assert not half.exists()
    assert not said


def test_save_leaves_earlier_checkpoints_whole_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = _store(tmp_path)
    _save(store, 1)

    def full(path: Path, payload: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInput, match="no disk space"):
        _save(store, 2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-0001-step-000000"]
    assert store.newest() is not None


def test_require_free_space_names_need_and_rest_when_the_disk_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not enough disk space for checkpoints: .* MiB free"):
        files.require_free_space(tmp_path / "not" / "there", 2**60, "checkpoints")
    files.require_free_space(tmp_path, 1, "checkpoints")
