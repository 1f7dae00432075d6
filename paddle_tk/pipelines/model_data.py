"""Which images a trained model is evaluated on: those of its own run, split as they were, unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.config.schema import Config
from paddle_tk.data.bundle import DatasetBundle, ImageSplit
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.loader import choose_workers
from paddle_tk.environment.threads import available_cores
from paddle_tk.errors import BadInput
from paddle_tk.runtime.load import ModelSource

_SPLIT_KEYS = ("val_fraction", "test_fraction", "split_seed")


@dataclass(frozen=True)
class ModelData:
    """A dataset chosen for a model.

    Attributes:
        config: Where the settings come from.
        bundle: The dataset.
        own: It is the dataset of the model's training, split in the same way, so "test" was never trained on.
        label_smoothing: The training's, 0 where that is not known; the loss is comparable only with the same.
    """

    config: Config
    bundle: DatasetBundle
    own: bool
    label_smoothing: float

    def workers(self, split: ImageSplit) -> tuple[int, int]:
        """Returns (num_workers, prefetch_factor) for a split, chosen for the machine where they are "auto"."""
        workers, prefetch = choose_workers(len(split), split.on_disk, available_cores())
        data = self.config.data
        return (
            workers if data.num_workers == "auto" else data.num_workers,
            prefetch if data.prefetch_factor == "auto" else data.prefetch_factor,
        )


def load_model_data(source: ModelSource, name: str | None, overrides: Sequence[str] = ()) -> ModelData:
    """Loads the dataset a model is to be evaluated on.

    Args:
        source: The model.
        name: A registered dataset; None: that of the model's own run.
        overrides: "data.KEY=VALUE" items.

    Raises:
        BadInput: No dataset is known, an unknown one, an override of something else, or one that would mix training
            images into the test split.
        DataError: The dataset is missing or damaged.
    """
    wrong = [item for item in overrides if not item.strip().startswith("data.")]
    if wrong:
        raise BadInput(f"'{wrong[0]}' is no setting of the data", "only data.KEY=VALUE has a meaning here")
    own = load_config(source.config) if source.config is not None else None
    if name is None and own is None:
        raise BadInput(
            f"the dataset of {source.file} is unknown: the config it was trained with is not at hand",
            "name the dataset with --data NAME, or give the run folder",
        )
    loaded = _choose(own, source, name, overrides)
    same = own is not None and _same_images(own.config, loaded.config)
    if own is not None and same:
        _refuse_other_splits(own.config, loaded.config)
    data = loaded.config.data
    bundle = load_dataset(data.name, **data.dataset_arguments)
    smoothing = own.config.trainer.label_smoothing if own is not None else 0.0
    return ModelData(loaded.config, bundle, same, smoothing)


def _choose(own: LoadedConfig | None, source: ModelSource, name: str | None, overrides: Sequence[str]) -> LoadedConfig:
    if own is not None and name in (None, own.config.data.name):
        return load_config(source.config, overrides)
    # Another dataset starts from its own defaults: the run's folder and splits are of no meaning to it.
    return load_config(None, [f"data={name}", *overrides])


def _same_images(own: Config, wanted: Config) -> bool:
    return (own.data.name, own.data.root) == (wanted.data.name, wanted.data.root)


def _refuse_other_splits(own: Config, wanted: Config) -> None:
    for key in _SPLIT_KEYS:
        before, after = getattr(own.data, key), getattr(wanted.data, key)
        if before != after:
            raise BadInput(
                f"data.{key}={after} differs from the training's {before}: its training images would be tested on",
                f"leave data.{key} out",
            )
