"""What all commands share: the argument parser, errors as one line, exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from paddle_tk.console import Output
from paddle_tk.errors import BadInput, PaddleTkError, Stopped

EXIT_OK, EXIT_NO, EXIT_BAD_INPUT, EXIT_CRASH = 0, 1, 2, 70
__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_CRASH",
    "EXIT_NO",
    "EXIT_OK",
    "Output",
    "add_overrides",
    "all_overrides",
    "make_parser",
    "run_command",
]


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are one line with exit code 2, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(message, f"see '{self.prog} --help'")


def make_parser(prog: str, description: str, *, config: bool = False) -> argparse.ArgumentParser:
    """Returns a parser with the flags every command has.

    Args:
        prog: The name shown in help and errors ("tools/train.py").
        description: One paragraph, shown by --help.
        config: Adds ``-c``, ``-o`` and bare ``key=value`` overrides.
    """
    parser = _Parser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if config:
        parser.add_argument("-c", "--config", type=Path, help="YAML config (default: configs/config.yaml)")
        add_overrides(parser, "KEY=VALUE", "a config value or group, for instance data=cifar10 trainer.max_epochs=3")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the final result line")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    return parser


def add_overrides(parser: argparse.ArgumentParser, form: str, what: str) -> None:
    """Adds ``-o`` and bare overrides, which mean the same and accumulate; ``all_overrides`` reads them."""
    parser.add_argument("-o", "--override", action="append", default=[], nargs="+", metavar=form, help=what)
    parser.add_argument("overrides", nargs="*", default=[], metavar=form, help="the same as with -o")


def all_overrides(arguments: argparse.Namespace) -> list[str]:
    """Returns ``-o`` values and bare overrides in one list."""
    return [item for group in arguments.override for item in group] + list(arguments.overrides)


def run_command(
    parser: argparse.ArgumentParser,
    body: Callable[[argparse.Namespace, Output], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses, runs ``body`` and turns every failure into one line and an exit code.

    Returns:
        0 done, 1 a check or gate said no, 2 bad input, 70 an internal failure, 130 / 143 stopped by a signal.
    """
    output = Output()
    debug = "--debug" in (argv if argv is not None else sys.argv[1:])
    try:
        arguments = parser.parse_intermixed_args(argv)
        output.quiet = arguments.quiet
        logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
        return body(arguments, output)
    except Stopped as stopped:  # asked for, no failure
        output.errors.print(str(stopped))
        return stopped.exit_code
    except PaddleTkError as error:
        _report(output, f"error: {error}", debug)
        return error.exit_code
    except KeyboardInterrupt:
        output.errors.print("stopped by Ctrl-C")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_OK
    except Exception as error:
        _report(
            output,
            f"internal error: {type(error).__name__}: {error} (run with --debug for the traceback)",
            debug,
        )
        return EXIT_CRASH


def _report(output: Output, line: str, debug: bool) -> None:
    if debug:
        output.errors.print(traceback.format_exc())
    output.errors.print(" ".join(line.split()), style="red")
