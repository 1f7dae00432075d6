"""Shared fixtures. Paddle is started here, with its threads, before any test imports it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paddle_tk.environment.start import start_paddle  # noqa: E402
from paddle_tk.environment.threads import available_cores  # noqa: E402

# Several workers of pytest share the cores; what a test starts takes its threads from the environment.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
start_paddle("auto" if WORKERS == 1 else max(1, available_cores() // WORKERS))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps caches and datasets of the user's own home out of the tests."""
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on 127.0.0.1 that something listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


@pytest.fixture
def tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs tools/NAME.py as a user would: ``tool("train", "data=digits", cwd=folder)``."""

    def run(name: str, *arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ.copy()
        )

    return run
