from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paddle_tk.data.locks import exclusive
from paddle_tk.errors import BadInput


def test_exclusive_leaves_nothing_behind_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "new" / "lock", "x"):
            assert (tmp_path / "new" / "lock").is_file()
        assert not (tmp_path / "new" / "lock").exists()


def test_exclusive_names_the_process_that_holds_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from paddle_tk.data.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'x'):\n    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BadInput, match=f"another process .pid {holder.pid}. is downloading x"),
            exclusive(tmp_path / "lock", "downloading x"),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with exclusive(tmp_path / "lock", "downloading x"):  # a killed process holds nothing
        pass
