from __future__ import annotations

import json
from pathlib import Path

from paddle_tk.training.callbacks.history import read_history, truncate_history


def _records() -> list[dict[str, object]]:
    steps = [{"kind": "step", "step": n, "epoch": 1 + (n - 1) // 4} for n in range(1, 9)]
    epochs = [{"kind": "epoch", "step": 4, "epoch": 1}, {"kind": "epoch", "step": 8, "epoch": 2}]
    return [*steps[:4], epochs[0], *steps[4:], epochs[1]]


def _write(path: Path, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in _records()) + tail)
    return path


def test_read_history_drops_a_line_torn_by_a_kill(tmp_path: Path) -> None:
    path = _write(tmp_path / "history.jsonl", '{"kind": "step", "st')
    assert read_history(path) == _records()


def test_read_history_is_empty_when_there_is_no_file(tmp_path: Path) -> None:
    assert read_history(tmp_path / "absent.jsonl") == []


def test_truncate_history_keeps_what_the_checkpoint_knows(tmp_path: Path) -> None:
    path = _write(tmp_path / "history.jsonl", "{torn")
    kept = truncate_history(path, updates=6, epochs=1)
    assert [(r["kind"], r["step"]) for r in kept] == [
        ("step", 1), ("step", 2), ("step", 3), ("step", 4), ("epoch", 4), ("step", 5), ("step", 6),
    ]  # fmt: skip
    assert read_history(path) == kept


def test_truncate_history_keeps_the_epoch_out_when_its_evaluation_was_not_finished(tmp_path: Path) -> None:
    kept = truncate_history(_write(tmp_path / "history.jsonl"), updates=4, epochs=0)
    assert [r["kind"] for r in kept] == ["step"] * 4
