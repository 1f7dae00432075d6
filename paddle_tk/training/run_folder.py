"""A run's folder: created whole, locked while it is trained in, found again for a resume."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paddle_tk.config.load import LoadedConfig, differences, load_config, to_yaml
from paddle_tk.config.schema import Config
from paddle_tk.errors import BadInput
from paddle_tk.files import next_free_folder, write_bytes_atomic

CONFIG, ENVIRONMENT, HISTORY, RESULT = "config.yaml", "environment.json", "history.jsonl", "result.json"
CHECKPOINTS, MODEL, LOCK = "checkpoints", "model", ".lock"
_LOCK_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Run:
    """A run folder and what is to be done in it.

    Attributes:
        folder: The run folder.
        fresh: It was made by this command.
        finished: It already holds a result.
    """

    folder: Path
    fresh: bool
    finished: bool


def open_run(loaded: LoadedConfig, run_dir: Path | None, resume: str | None) -> Run:
    """Finds or makes the folder to train in.

    Args:
        loaded: The config.
        run_dir: The folder asked for; None: runs/<config name>, or the next free one.
        resume: None: a new run; "auto": the newest run of the same config, a new one where there is none; else a
            run folder.

    Raises:
        BadInput: The folder holds another config, or a run while no resume was asked for.
    """
    base = run_dir if run_dir is not None else Path("runs") / loaded.name
    if resume is None:
        if run_dir is not None:
            _require_unused(run_dir, loaded)
            return _create(run_dir, loaded.config)
        return _create(next_free_folder(base), loaded.config)
    folder = _find(base, run_dir is not None, loaded, resume)
    if folder is None:
        return _create(base if run_dir is not None else next_free_folder(base), loaded.config)
    _require_same(folder, loaded.config)
    # Values that do not change what is computed (folders, workers, logging) may be new.
    write_bytes_atomic(folder / CONFIG, to_yaml(loaded.config).encode())
    return Run(folder, fresh=False, finished=(folder / RESULT).is_file())


def _find(base: Path, explicit: bool, loaded: LoadedConfig, resume: str) -> Path | None:
    if resume != "auto":
        return require_run(Path(resume))
    if explicit:
        return base if (base / CONFIG).is_file() else None
    same = [p.parent for p in base.parent.glob(f"*/{CONFIG}") if _saved_hash(p) == loaded.sha256]
    return max(same, key=_newest_mtime, default=None)


def require_run(folder: Path) -> Path:
    """Returns ``folder``; raises BadInput where it holds no run."""
    if not (folder / CONFIG).is_file():
        raise BadInput(f"--resume {folder}: no run is there (no {CONFIG})", "give a run folder or --resume auto")
    return folder


def _newest_mtime(folder: Path) -> float:
    return max(p.stat().st_mtime for p in (folder / CONFIG, folder / CHECKPOINTS, folder / HISTORY) if p.exists())


def _saved_hash(path: Path) -> str:
    try:
        return load_config(path).sha256
    except BadInput:
        return ""


def _require_unused(folder: Path, loaded: LoadedConfig) -> None:
    if (folder / CONFIG).is_file():
        _require_same(folder, loaded.config)
        raise BadInput(
            f"{folder} already holds a run of this config", f"add --resume {folder} or choose another folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is not an empty folder", "choose another --run-dir")


def _require_same(folder: Path, config: Config) -> None:
    try:
        saved = load_config(folder / CONFIG)
    except BadInput as error:
        raise BadInput(f"{folder / CONFIG} cannot be read: {error.problem}", "choose another --run-dir") from error
    changed = differences(saved.config, config)
    if changed:
        raise BadInput(
            f"{folder} holds a run of another config ({'; '.join(changed)})",
            "choose another --run-dir, or resume with the run's own config",
        )


def _create(folder: Path, config: Config) -> Run:
    write_bytes_atomic(folder / CONFIG, to_yaml(config).encode())
    return Run(folder, fresh=True, finished=False)


def discard_unstarted(folder: Path) -> None:
    """Removes the folder of a run that never started, so that bad input leaves nothing behind."""
    if not any((folder / CHECKPOINTS).glob("epoch-*")):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder for this process; the lock ends with the process, however that ends.

    Raises:
        BadInput: Another process keeps it for longer than a finishing save takes.
    """
    import fcntl

    with (folder / LOCK).open("a") as stream:
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise BadInput(
                        f"another process is training in {folder}",
                        "wait for it, stop it or choose another --run-dir",
                    ) from error
                time.sleep(0.2)
        yield


def read_result(folder: Path) -> dict[str, object]:
    """Returns result.json of a finished run."""
    return dict(json.loads((folder / RESULT).read_text(encoding="utf-8")))
