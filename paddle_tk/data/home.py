"""Where datasets and caches lie: under ``$PADDLE_TK_HOME``, by default ``~/.paddle_tk``."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder() -> Path:
    """Returns ``$PADDLE_TK_HOME``, or ``~/.paddle_tk`` where it is unset or empty."""
    return Path(os.environ.get("PADDLE_TK_HOME") or "~/.paddle_tk").expanduser()


def dataset_folder(name: str, root: str | None) -> Path:
    """Returns where a dataset is looked for: ``data.root`` where that is given, else its place under the home."""
    return Path(root).expanduser() if root is not None else home_folder() / "datasets" / name


def cache_folder() -> Path:
    """Returns where results that can be computed again are kept."""
    return home_folder() / "cache"
