"""A trained model -> the same model fine-tuned with fake quantizers, by the ordinary trainer, from its own config."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk import __version__
from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.environment.devices import resolve_device
from paddle_tk.environment.versions import environment_report
from paddle_tk.errors import BadInput, Stopped
from paddle_tk.files import write_json
from paddle_tk.models.weights import network_arrays, read_weights
from paddle_tk.pipelines.training_plan import plan_training
from paddle_tk.quantize.calibrate import LayerInput, observe_network
from paddle_tk.quantize.images import choose_calibration, read_batches
from paddle_tk.quantize.qat import insert_fake_quantizers, remove_fake_quantizers
from paddle_tk.quantize.ranges import read_ranges, read_settings, write_ranges
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.load import ModelSource, open_model
from paddle_tk.runtime.paddle_predictor import FORMAT
from paddle_tk.training.build import build_trainer
from paddle_tk.training.run_folder import CONFIG, ENVIRONMENT, Run, discard_unstarted, locked, open_run
from paddle_tk.training.trainer import Trainer

RANGES, START = "ranges.json", "calibration.json"
_MADE_BY = f"paddle_tk {__version__} train with fake quantizers"
_LEARNING_RATE_SHARE = 0.01
_TOLD = ("algorithm", "samples", "batch_size", "seed", "moving_rate", "freeze_norm")  # besides what the config decides
_EXTREMES = "abs_max"  # the extremes of a tensor are the same for every observer, this one is the quickest


@dataclass(frozen=True)
class FineTuned:
    """A model fine-tuned with fake quantizers.

    Attributes:
        source: The float model: the parent's architecture and names, new weights.
        ranges: The learned range of each weighted layer's input.
    """

    source: ModelSource
    ranges: list[LayerInput]


def train_quantized(
    source: ModelSource,
    run_dir: Path,
    *,
    settings: QuantizeConfig,
    overrides: Sequence[str] = (),
    skip: Sequence[str] = (),
    output: Output,
) -> FineTuned:
    """Fine-tunes a model with fake quantizers in a run folder of its own, or goes on with one that was interrupted.

    The config is the parent's, with its weights to start from, ``settings.epochs`` epochs of a cosine schedule without
    warm-up, float32 and no early stopping. Before the first step the parent's network is calibrated on training images,
    so that it starts where PTQ ends. Epochs are ranked by the evaluation of the network with its fake quantizers, and
    so are the figures of result.json and of the manifest; the weights in ``model/`` are float and have the parent's
    names, and ``model/ranges.json`` beside them, under the manifest's hashes, holds the learned ranges.

    Args:
        source: A Paddle model with its training's config.
        run_dir: The run folder; the same command goes on in it after a stop, and returns at once when it is finished.
        settings: The config's section: algorithm, samples, batch_size, seed, epochs, learning_rate, moving_rate.
        overrides: "section.KEY=VALUE" items, which win over all of the above.
        skip: Names of layers that stay in float.
        output: Where to print.

    Raises:
        BadInput: No Paddle model, no config, or a run folder of something else.
        CheckFailed: The training diverged.
        Stopped: Ctrl-C or SIGTERM came; everything is saved.
    """
    loaded = _config(source, settings, overrides)
    run = open_run(loaded, run_dir, "auto" if (run_dir / CONFIG).is_file() else None)
    if run.finished:
        output.say(f"{run.folder} is already finished")
        return load_fine_tuned(run.folder)
    told = {**{key: getattr(settings, key) for key in _TOLD}, "skip": list(skip)}
    calibration = _Calibration(run.folder, source, told, output)
    with _unstarted_discarded(run):
        _train(run, loaded, calibration)
    return load_fine_tuned(run.folder)


def load_fine_tuned(folder: Path) -> FineTuned:
    """Opens a finished run of ``train_quantized``.

    Raises:
        BadInput: The run is not finished.
        ArtifactError: A damaged file, or a run without learned ranges.
    """
    source = open_model(folder)
    return FineTuned(source, read_ranges(source.file.parent / RANGES, read_weights(source.file)))


def _config(source: ModelSource, settings: QuantizeConfig, overrides: Sequence[str]) -> LoadedConfig:
    if source.artifact.format != FORMAT:
        raise BadInput(
            f"{source.file} has the format {source.artifact.format}; only Paddle models can be fine-tuned",
            "give the run folder it was made from, or use --method ptq",
        )
    if source.config is None:
        raise BadInput(
            f"the config that {source.file} was trained with is not at hand", "give its run folder, or use --method ptq"
        )
    own = load_config(source.config).config.trainer
    rate = settings.learning_rate or own.learning_rate * _LEARNING_RATE_SHARE
    values = {
        "model.weights": str(source.file.absolute()),
        "trainer.max_epochs": settings.epochs,
        "trainer.learning_rate": rate,
        "trainer.schedule": "cosine",
        "trainer.warmup_epochs": 0.0,
        "trainer.precision": "fp32",
        "trainer.early_stopping_patience": None,
        **{f"quantize.{key}": value for key, value in settings.model_dump(mode="json").items()},
        "quantize.method": "qat",
    }
    return load_config(source.config, [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *overrides])


@contextmanager
def _unstarted_discarded(run: Run) -> Iterator[None]:
    try:
        yield
    except BadInput:
        if run.fresh:
            discard_unstarted(run.folder)
        raise


def _train(run: Run, loaded: LoadedConfig, calibration: _Calibration) -> None:
    config, output = loaded.config, calibration.output
    with locked(run.folder):
        device = resolve_device(config.trainer.accelerator, config.trainer.devices)
        write_json(run.folder / ENVIRONMENT, environment_report())
        config = plan_training(config, run.folder, device, None, output)
        trainer = build_trainer(config, run.folder, loaded.sha256, device, output, adapt=calibration.insert)
        trainer.artifact = replace(trainer.artifact, made_by=_MADE_BY, parent_sha256=calibration.source.sha256)
        trainer.ship = calibration.shipper(trainer)
        result = trainer.run()
    if result is None:
        raise Stopped(
            f"the fine-tuning was stopped after update {trainer.model.progress.updates}; everything is saved",
            "the same command goes on with it",
            int(trainer.model.stop_signal or 2),
        )
    output.say(f"fine-tuned with fake quantizers: {_figures(result.final)}, {result.seconds:.1f} s -> {run.folder}")


def _figures(final: Mapping[str, Any]) -> str:
    known = ", ".join(f"{key} {final[key]:.4f}" for key in ("top1", "map50_95", "map50") if key in final)
    return f"test {known} (n={final['n']})"


class _Calibration:
    """What the fine-tuning starts from, kept in the run folder, and what it leads to."""

    def __init__(self, folder: Path, source: ModelSource, settings: dict[str, Any], output: Output) -> None:
        self.source, self.output = source, output
        self._file, self._settings = folder / START, settings
        self._batches: Callable[[], Iterator[Array]] = lambda: iter(())
        self._count = 0

    def insert(self, network: Any, bundle: DatasetBundle) -> None:
        """Puts fake quantizers into the network, with the scales of the first calibration."""
        split, settings = bundle.splits["train"], self._settings
        chosen = choose_calibration(split, settings["samples"], settings["seed"])
        preprocessing = self.source.artifact.preprocessing
        self._batches = lambda: read_batches(split, chosen, preprocessing, settings["batch_size"])
        self._count = len(chosen)
        inputs = self._first(network)
        layers = insert_fake_quantizers(
            network, inputs, **{key: settings[key] for key in ("moving_rate", "freeze_norm", "skip")}
        )
        self.output.say(
            f"{layers} layers compute with 8-bit values, from {settings['algorithm']} over {self._count} images"
        )

    def _first(self, network: Any) -> list[LayerInput]:
        if not self._file.is_file():
            found = self._observe(network, self._settings["algorithm"])
            write_ranges(self._file, found, self._settings)
            return found
        before = read_settings(self._file)
        changed = [key for key, value in self._settings.items() if before.get(key) != value]
        if changed:
            told = "; ".join(f"{key}: {before.get(key)} -> {self._settings[key]}" for key in changed)
            raise BadInput(f"{self._file.parent} was begun with other settings ({told})", "choose another --run-dir")
        return read_ranges(self._file, network_arrays(network))

    def _observe(self, network: Any, algorithm: str) -> list[LayerInput]:
        with self.output.progress("calibrating", self._count) as advance:
            return observe_network(network, self._batches(), algorithm=algorithm, advance=advance)

    def shipper(self, trainer: Trainer) -> Callable[[Mapping[str, Array], Path], Mapping[str, Array]]:
        """Returns the trainer's last step: the float weights, and the learned ranges beside them."""

        def ship(weights: Mapping[str, Array], folder: Path) -> Mapping[str, Array]:
            network = trainer.model.network
            # A fake quanter keeps the scale only; the extremes are seen while all others still round.
            seen = {(item.name, item.call): item.range for item in self._observe(network, _EXTREMES)}
            state, learned = remove_fake_quantizers(network)
            whole = [_with_extremes(item, seen[item.name, item.call].low, seen[item.name, item.call].high)
                     for item in learned]  # fmt: skip
            write_ranges(folder / RANGES, whole, self._settings)
            return {name: np.asarray(weights[name]) for name in state}

        return ship


def _with_extremes(item: LayerInput, low: float, high: float) -> LayerInput:
    return replace(item, range=replace(item.range, low=low, high=high))
