from __future__ import annotations

import os
from pathlib import Path

import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.runtime.static_graph import last_line, save_static, silenced


def test_network_is_written_without_a_word_when_it_is_traced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 2, 3), paddle.nn.Flatten())
    network.eval()
    save_static(network, tmp_path / "model", (None, 3, 8, 8))
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "model.pdiparams"}
    assert capfd.readouterr() == ("", "")


def test_tracing_names_the_size_when_the_network_cannot_take_it(tmp_path: Path) -> None:
    network = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3 * 8 * 8, 2))
    network.eval()
    with pytest.raises(BadInput, match=r"cannot be traced with images of 9x9 px: \S"):
        save_static(network, tmp_path / "model", (1, 3, 9, 9))


@pytest.mark.parametrize("debug", [False, True])
def test_silence_ends_with_the_block_also_when_it_fails(debug: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"inside\n")
        raise KeyError

    with pytest.raises(KeyError), silenced(debug):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == ("inside\nafter\n" if debug else "after\n")


@pytest.mark.parametrize(("text", "expected"), [("a\n  b \n\n", "b"), ("", "no reason given")])
def test_last_line_is_the_one_that_says_something(text: str, expected: str) -> None:
    assert last_line(text) == expected
