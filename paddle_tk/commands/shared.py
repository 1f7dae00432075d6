"""Options and checks that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path

from paddle_tk.cli import add_overrides
from paddle_tk.errors import BadInput


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="X", help="a run folder, a model folder or an ONNX file"
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default: auto)")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data``, ``-o`` and bare overrides."""
    parser.add_argument("--data", metavar="NAME", help="a registered dataset (default: that of the model's own run)")
    add_overrides(parser, "data.KEY=VALUE", "a data setting, for instance data.root=FOLDER; may be repeated")


def start(device: str) -> tuple[str, int]:
    """Starts Paddle with all threads the user allows.

    Args:
        device: "auto", "cpu", "gpu" or "gpu:N".

    Returns:
        Paddle's device string and the number of CPU threads.

    Raises:
        BadInput: A device that is not there.
    """
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    from paddle_tk.environment.devices import resolve_device

    accelerator, devices = (device, "auto") if device in ("auto", "cpu", "gpu") else ("auto", device)
    return resolve_device(accelerator, devices), threads


def at_least_one(text: str) -> int:
    """Parses an option's value as an integer >= 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got '{text}'")
    return value


def require_replaceable(folder: Path, earlier: Collection[str] | None, what: str) -> bool:
    """Allows an output folder only where nothing of the user's own would be lost.

    Args:
        folder: Where the output is to go.
        earlier: Relative paths of the files that the same command wrote there before; None: it did not.
        what: What the command writes, for the message.

    Returns:
        Whether an earlier output will be replaced.

    Raises:
        BadInput: The folder holds anything else.
    """
    if not folder.exists():
        parent = next(path for path in folder.absolute().parents if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise BadInput(f"{folder} cannot be made in {parent}", "choose another --output")
        return False
    if not folder.is_dir():
        raise BadInput(f"{folder} exists and is not a folder", "choose another --output")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    foreign = sorted(found - set(earlier or ()))
    if foreign:
        raise BadInput(
            f"{folder} is not empty and holds what is no earlier {what}: {foreign[0]}"
            + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""),
            "choose another --output, or remove it yourself",
        )
    return bool(found)
