from __future__ import annotations

import argparse

import pytest

from paddle_tk.cli import Output, all_overrides, make_parser, run_command
from paddle_tk.commands import main
from paddle_tk.errors import BadInput, CheckFailed


def _run(error: BaseException | None, *argv: str) -> int:
    def body(arguments: argparse.Namespace, output: Output) -> int:
        output.say("working")
        output.result("done")
        if error is not None:
            raise error
        return 0

    return run_command(make_parser("tools/x.py", "x"), body, list(argv))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput("it was 3", "make it 4"), 2, "error: it was 3. Fix: make it 4"),
        (CheckFailed("drop 0.2", "train longer"), 1, "error: drop 0.2. Fix: train longer"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (RuntimeError("a\nb"), 70, "internal error: RuntimeError: a b (run with --debug for the traceback)"),
    ],
)
def test_run_command_turns_errors_into_one_line_and_a_code(
    error: BaseException, code: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _run(error) == code
    assert capfd.readouterr().err.strip() == line


def test_run_command_shows_the_traceback_when_debugging(capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(RuntimeError("x"), "--debug") == 70
    assert "Traceback" in capfd.readouterr().err


def test_run_command_prints_only_the_result_when_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(None, "--quiet") == 0
    assert capfd.readouterr().out == "done\n"


def test_overrides_mean_the_same_and_accumulate_when_given_both_ways() -> None:
    parser = make_parser("tools/x.py", "x", config=True)
    given = parser.parse_intermixed_args(["a=1", "-o", "b=2", "c=3", "--quiet", "-o", "d=4", "e=5"])
    assert sorted(all_overrides(given)) == ["a=1", "b=2", "c=3", "d=4", "e=5"]


def test_main_names_the_commands_when_unknown(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "unknown command 'fly'" in capfd.readouterr().err
    assert main([]) == 0
    assert "train" in capfd.readouterr().out
