"""Resolves ``data=auto`` to a dataset, before anything else is decided, so that a run's config names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.console import Output
from paddle_tk.data.catalog import Entry, catalog
from paddle_tk.data.fetch import look
from paddle_tk.data.fetching.http import Probe
from paddle_tk.data.forecast import Forecast, decoding_rate, forecast, last_speed
from paddle_tk.data.select import Machine, Pick, careful_settings, pick
from paddle_tk.data.setup import Options, set_up
from paddle_tk.data.states import DatasetState, datasets_folder, state_of
from paddle_tk.environment.devices import hardware
from paddle_tk.errors import BadInput
from paddle_tk.files import existing_parent
from paddle_tk.models.detectors import task_of

AUTO = "auto"
_CHOICES = ("data", "data.name")
_ALIASES = {
    "batch_size": ("data.batch_size", "trainer.batch_size"),
    "num_workers": ("data.num_workers", "trainer.num_workers"),
}


def machine(*, cpu_only: bool = False) -> Machine:
    """Returns what counts of this machine. Imports Paddle: set threads first.

    Args:
        cpu_only: A GPU is not to be used.
    """
    found = hardware()
    free = shutil.disk_usage(existing_parent(datasets_folder())).free
    return Machine.of({**found, "gpus": []} if cpu_only else found, free)


def first_look(entry: Entry) -> Probe | None:
    """Looks at the server of a dataset's largest file."""
    files = sorted(entry.files, key=lambda file: file.size_bytes or 0)
    return look(files[-1]) if files and files[-1].urls else None


def forecast_of(entry: Entry, state: DatasetState, cores: int, probe: Probe | None) -> Forecast:
    """Forecasts with the speed just measured, else that of the last download."""
    speed, basis = None, ""
    if probe is not None and probe.bytes_per_second:
        speed = probe.bytes_per_second
        basis = f"{speed / 1e6:.1f} MB/s, measured on the file's first {len(probe.head) // 1024} KiB (n=1)"
    elif (last := last_speed(datasets_folder(), catalog())) is not None:
        speed, basis = last, f"{last / 1e6:.1f} MB/s, measured at the last download (n=1)"
    if entry.download_bytes is None and len(entry.files) == 1 and probe is not None and probe.origin.size is not None:
        stated = [entry.files[0].model_copy(update={"size_bytes": probe.origin.size})]  # by its server, just now
        entry = entry.model_copy(update={"files": stated})
    size = (entry.image.width, entry.image.height) if entry.image is not None else (32, 32)
    return forecast(
        entry, state, cores=cores, bytes_per_second=speed, speed_basis=basis, images_rate=decoding_rate(*size)
    )


def resolve_auto(
    loaded: LoadedConfig, path: Path | None, overrides: Sequence[str], output: Output, *, may_fetch: bool
) -> LoadedConfig:
    """Returns the config with a dataset in place of ``auto``, or ``loaded`` itself where it names one.

    Args:
        loaded: What ``path`` and ``overrides`` give.
        path: The config file; None: the default one.
        overrides: ``group=name`` and ``section.key=value`` items.
        output: Told what was picked and why.
        may_fetch: Whether a dataset may be downloaded.

    Raises:
        BadInput: ``data.root`` was given: it belongs to one dataset.
        DataError: The download failed.
    """
    if loaded.config.data.name != AUTO:
        return loaded
    if loaded.config.data.root is not None:
        raise BadInput(
            f"data=auto with data.root={loaded.config.data.root}", "name the dataset that lies there: data=NAME"
        )
    from paddle_tk.environment.start import start_paddle

    start_paddle(loaded.config.trainer.cpu_threads)
    trainer = loaded.config.trainer
    here = machine(cpu_only=trainer.accelerator == "cpu" or trainer.devices == "cpu")
    root, known = datasets_folder(), catalog()
    states = {name: state_of(entry, root) for name, entry in known.items()}
    kind = task_of(loaded.config.model.name)
    chosen = pick(kind, here, states, known, first_look if may_fetch else _nobody)
    _tell(chosen, known[chosen.name], states[chosen.name], here, output)
    if chosen.download:
        set_up(known[chosen.name], root, shown=output.transfer, warn=output.warn, options=Options())
    return _reload(path, overrides, chosen, here.cores)


def _nobody(_: Entry) -> Probe | None:
    return None


def _tell(chosen: Pick, entry: Entry, state: DatasetState, here: Machine, output: Output) -> None:
    output.say(f"data=auto: {chosen.name} ({'; '.join(chosen.reasons)})")
    output.say(forecast_of(entry, state, here.cores, chosen.probe).text())


def _reload(path: Path | None, overrides: Sequence[str], chosen: Pick, cores: int) -> LoadedConfig:
    """Loads again with the dataset's own group file, over which everything goes that the user has said."""
    own = _said_in_file(path)
    kept = [item for item in overrides if item.partition("=")[0].strip() not in _CHOICES]
    said = [*(f"{key}={json.dumps(value)}" for key, value in own.items()), *kept]
    group = [f"data={chosen.name}"]
    if not chosen.careful:
        return load_config(path, [*group, *said])
    plain = load_config(path, [*group, *said])
    given = {item.partition("=")[0].strip() for item in said}
    values = careful_settings(plain.config.data.plain_batch_size, cores)
    careful = [f"data.{key}={value}" for key, value in values.items() if given.isdisjoint(_ALIASES[key])]
    return load_config(path, [*group, *careful, *said])


def _said_in_file(path: Path | None) -> dict[str, Any]:
    """Returns what the config file itself says of the data; a group on the command line would overrule it."""
    if path is None:
        return {}
    raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    said = {f"data.{key}": value for key, value in (raw.get("data") or {}).items() if key not in ("name", "root")}
    trainer = {f"trainer.{key}": value for key, value in (raw.get("trainer") or {}).items() if key in _ALIASES}
    return {**said, **trainer}
