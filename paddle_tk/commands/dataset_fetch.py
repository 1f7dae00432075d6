"""``tools/dataset.py info | setup | clean``: what there is, getting it, removing it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.data.catalog import Entry, catalog, entry_of
from paddle_tk.data.home import cache_folder
from paddle_tk.data.states import READY, DatasetState, datasets_folder, state_of
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import MIB

if TYPE_CHECKING:
    from paddle_tk.data.forecast import Forecast
    from paddle_tk.data.select import Machine

TIERS = ("debug", "production")
_ASK_ABOVE_BYTES = 10**9
_ROOT_HELP = "folder of the datasets, each in one of its name (default: $PADDLE_TK_HOME/datasets)"
_INFO = """Show this machine, the tier that suits it, and every dataset of the catalog with its state.

  python tools/dataset.py info
  python tools/dataset.py info --json info.json"""
_SETUP = """Download, check and unpack datasets; what is there already is kept, what was begun goes on.

  python tools/dataset.py setup                       the tier that suits this machine
  python tools/dataset.py setup debug
  python tools/dataset.py setup coco2017 --yes

Files that must be downloaded by hand are expected in the dataset's folder and are checked and unpacked from there."""
_CLEAN = """Show what would go, ask, and remove it.

  python tools/dataset.py clean                       everything that setup has put there
  python tools/dataset.py clean coco128 --yes"""


def info_action(argv: Sequence[str]) -> int:
    """``info``: returns the exit code."""
    parser = make_parser("tools/dataset.py info", _INFO)
    _add_common(parser)
    return run_command(parser, _info, argv)


def setup_action(argv: Sequence[str]) -> int:
    """``setup``: returns the exit code."""
    parser = make_parser("tools/dataset.py setup", _SETUP)
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets, or debug or production for a whole tier")
    _add_common(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before large downloads")
    parser.add_argument("--keep-archives", action="store_true", help="keep archives that were unpacked")
    parser.add_argument(
        "--repin", action="store_true", help="accept other files than the first download gave, where no checksum exists"
    )
    return run_command(parser, _setup, argv)


def clean_action(argv: Sequence[str]) -> int:
    """``clean``: returns the exit code."""
    parser = make_parser("tools/dataset.py clean", _CLEAN)
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets (default: all that setup has put there)")
    _add_common(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return run_command(parser, _clean, argv)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", help=_ROOT_HELP)
    parser.add_argument("--json", type=Path, metavar="F", help="also write it as JSON")


def _here() -> Machine:
    from paddle_tk.environment.start import start_paddle

    start_paddle()
    from paddle_tk.pipelines.auto_data import machine

    return machine()


def _info(arguments: argparse.Namespace, output: Output) -> int:
    from paddle_tk.data.select import choose_tier, pick
    from paddle_tk.environment.processor import cpu_model

    here, root, known = _here(), datasets_folder(arguments.root), catalog()
    choice = choose_tier(here)
    states = {name: state_of(entry, root) for name, entry in known.items()}
    picks = {kind: pick(kind, here, states, known, lambda entry: None) for kind in ("classification", "detection")}
    gpus = ", ".join(f"{count / 2**30:.1f} GiB" for count in here.gpu_bytes) or "none"
    output.say(
        f"{cpu_model()}, {here.cores} cores, {here.memory_bytes / 2**30:.1f} GiB RAM, GPUs: {gpus}, "
        f"{here.free_bytes / 2**30:.1f} GiB free for datasets in {root}"
    )
    output.say(choice.reason)
    table = Table("dataset", "task", "tier", "state", "on disk", "download", box=None, pad_edge=False)
    for name, entry in known.items():
        state = states[name]
        size = "-" if entry.embedded else "by hand" if entry.manual else _size(entry.download_bytes)
        table.add_row(name, entry.task, entry.tier, state.state, _size(state.size_bytes), size)
    output.say(table)
    for name, state in states.items():
        if state.note and state.state in ("partial", "unverified"):
            output.say(f"{name}: {state.note}")
    for kind, chosen in picks.items():
        output.say(f"data=auto without a download, {kind}: {chosen.name} ({'; '.join(chosen.reasons)})")
    forecasts = {name: _forecast(entry, states[name], here) for name, entry in known.items()}
    output.json(
        arguments.json,
        {
            "hardware": {"cpu": cpu_model(), **vars(here)},
            "tier": {"name": choice.tier, "careful": choice.careful, "reason": choice.reason},
            "auto": {kind: {"name": p.name, "reasons": list(p.reasons)} for kind, p in picks.items()},
            "root": str(root),
            "datasets": {n: _described(e, states[n], forecasts[n]) for n, e in known.items()},
        },
    )
    output.result(
        f"tier {choice.tier}; {sum(state.ready for state in states.values())} of {len(states)} datasets ready"
    )
    return EXIT_OK


def _forecast(entry: Entry, state: DatasetState, here: Machine) -> Forecast:
    from paddle_tk.pipelines.auto_data import forecast_of

    return forecast_of(entry, state, here.cores, None)


def _described(entry: Entry, state: DatasetState, forecast: Forecast) -> dict[str, Any]:
    return {
        "title": entry.title,
        "task": entry.task,
        "tier": entry.tier,
        "licence": entry.licence,
        "state": state.state,
        "note": state.note,
        "path": str(state.path) if state.path is not None else None,
        "size_bytes": state.size_bytes,
        "splits": entry.splits,
        "forecast": forecast.to_dict(),
    }


def _setup(arguments: argparse.Namespace, output: Output) -> int:
    from paddle_tk.data.setup import Options, set_up

    here, root = _here(), datasets_folder(arguments.root)
    entries, grouped = _wanted(arguments.names, here)
    states = {entry.name: state_of(entry, root) for entry in entries}
    _plan(entries, states, here, output)
    _ask_for_download(entries, states, arguments.yes, output)
    options = Options(keep_archives=arguments.keep_archives, repin=arguments.repin)
    done: dict[str, Any] = {}
    failed: list[str] = []
    for entry in entries:
        try:
            state = set_up(entry, root, shown=output.transfer, warn=output.warn, options=options)
        except DataError as error:
            if len(entries) == 1:
                raise
            output.warn(str(error))
            # In a tier, what only its owner can download is no failure.
            if entry.name not in grouped or entry.manual is None:
                failed.append(entry.name)
            state = state_of(entry, root)
        done[entry.name] = {"state": state.state, "path": str(state.path), "note": state.note}
        note = f" ({state.note})" if state.note else ""
        where = f" in {state.path}" if state.path is not None else ""
        output.say(f"{entry.name}: {state.state}{note}{where}")
    output.json(arguments.json, {"root": str(root), "datasets": done})
    ready = [name for name, told in done.items() if told["state"] in READY]
    output.result(f"{len(ready)} of {len(done)} ready: {', '.join(ready) or 'none'}")
    if failed:
        raise DataError(f"could not be set up: {', '.join(failed)}", "see the warnings; another try goes on from here")
    return EXIT_OK


def _wanted(names: Sequence[str], here: Machine) -> tuple[list[Entry], frozenset[str]]:
    """Returns the entries in the order of the request, each once, and which of them came with a tier."""
    from paddle_tk.data.select import choose_tier

    found: dict[str, Entry] = {}
    grouped: set[str] = set()
    for name in names or [choose_tier(here).tier]:
        group = [entry for entry in catalog().values() if entry.tier == name] if name in TIERS else [entry_of(name)]
        grouped |= {entry.name for entry in group} if name in TIERS else set()
        found.update({entry.name: entry for entry in group})
    return list(found.values()), frozenset(grouped - set(names))


def _plan(entries: Sequence[Entry], states: Mapping[str, DatasetState], here: Machine, output: Output) -> None:
    for entry in entries:
        state = states[entry.name]
        told = "" if state.ready else f"; {_forecast(entry, state, here).text()}"
        output.say(f"{entry.name}: {state.state}, licence: {entry.licence}{told}")


def _ask_for_download(entries: Sequence[Entry], states: Mapping[str, DatasetState], yes: bool, output: Output) -> None:
    coming = [e for e in entries if not states[e.name].ready and not e.manual]
    total = sum(entry.download_bytes or 0 for entry in coming)
    if total > _ASK_ABOVE_BYTES and not yes:
        _ask(f"download {total / 1e9:.1f} GB ({', '.join(entry.name for entry in coming)})?", output)


def _ask(question: str, output: Output) -> None:
    """Goes on only where a person says yes.

    Raises:
        BadInput: The answer is another, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise BadInput(f"{question} Nobody can be asked here", "add --yes")
    output.console.print(f"{question} [y/N] ", end="")
    if input().strip().lower() not in ("y", "yes"):
        raise BadInput("nothing was done: the answer was not yes", "answer y, or add --yes")


def _clean(arguments: argparse.Namespace, output: Output) -> int:
    from paddle_tk.data.setup import Removal, removal_of, remove

    root = datasets_folder(arguments.root)
    entries = [entry_of(name) for name in arguments.names] or list(catalog().values())
    found: list[Removal] = []
    for entry in entries:
        removal = removal_of(entry, root, cache_folder()) if entry.files else None
        # What its owner has put there goes only when it is named.
        if removal is not None and (removal.ours or arguments.names):
            found.append(removal)
    for removal in found:
        for path in removal.paths:
            output.say(f"{path}")
        by = "" if removal.ours else ", which setup has not put there"
        output.say(f"{removal.name}: {_size(removal.size_bytes)}{by}")
    total = sum(removal.size_bytes for removal in found)
    if found and not arguments.yes:
        _ask(f"remove {_size(total)} ({', '.join(removal.name for removal in found)})?", output)
    for removal in found:
        remove(removal, root)
    output.json(
        arguments.json,
        {"removed": {r.name: [str(path) for path in r.paths] for r in found}, "size_bytes": total},
    )
    output.result(f"removed {_size(total)}: {', '.join(r.name for r in found)}" if found else "nothing to remove")
    return EXIT_OK


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / MIB:.1f} MiB"
