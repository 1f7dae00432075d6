from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.models.weights import network_arrays
from paddle_tk.training.callbacks.checkpointing import Checkpointing
from paddle_tk.training.callbacks.early_stopping import EarlyStopping
from paddle_tk.training.checkpoint import CheckpointStore
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.mixup import Mixup
from paddle_tk.training.state import capture_state, restore_state

from . import small


class _Stop(Exception):
    pass


class _StopAfter(paddle.callbacks.Callback):
    """Ends a fit the hard way after some batches, as a crash would."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Stop


def _weights(model: FitModel) -> dict[str, np.ndarray]:
    return network_arrays(model.network)


def _assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def _store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, keep_last=2, warn=lambda line: None)


def _saver(model: FitModel, store: CheckpointStore, callbacks: list[Any]) -> Any:
    def save(rank: list[float] | None) -> None:
        tensors, state = capture_state(model, callbacks)
        store.save(tensors, state, epoch=model.progress.epoch, step=model.progress.step, rank=rank)

    return save


def test_fit_returns_one_entry_per_epoch_with_averaged_loss() -> None:
    model = small.model()
    history = model.fit(small.train_loader(), small.eval_loader(), epochs=3)
    assert [h["epoch"] for h in history] == [1, 2, 3]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["val_n"] == 20
    assert history[-1]["step"] == 15
    assert {"train_top1", "val_top1", "val_loss", "learning_rate", "images_per_second"} <= history[-1].keys()


def test_fit_learns_the_small_task() -> None:
    model = small.model(epochs=12)
    history = model.fit(small.train_loader(), small.eval_loader(), epochs=12)
    assert max(h["val_top1"] for h in history) >= 0.9


def test_train_loss_is_the_mean_over_images_when_the_last_batch_is_smaller() -> None:
    model = small.model(batch_norm=False, dropout=0.0)
    seen: list[tuple[float, int]] = []

    class Watch(paddle.callbacks.Callback):
        def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
            assert logs is not None
            seen.append((float(logs["loss"][0]), int(logs["batch_size"])))

    history = model.fit(small.train_loader(20, 8), small.eval_loader(), epochs=1, callbacks=[Watch()])
    assert [n for _, n in seen] == [8, 8, 4]
    assert history[0]["train_loss"] == pytest.approx(sum(loss * n for loss, n in seen) / 20, rel=1e-6)


@pytest.mark.parametrize("count", [32, 29])
def test_accumulated_gradient_equals_the_big_batch_when_there_is_no_batch_norm(count: int) -> None:
    gradients = []
    for batch_size, accumulate in ((8, 4), (32, 1)):
        model = small.model(batch_norm=False, dropout=0.0)
        taken: dict[str, np.ndarray] = {}
        step = model._update

        def update(model: FitModel = model, taken: dict[str, np.ndarray] = taken, step: Any = step) -> None:
            taken.update({n: p.grad.numpy() for n, p in model.network.named_parameters()})
            step()

        model._update = update  # type: ignore[method-assign]
        model.fit(
            small.train_loader(count, batch_size), small.eval_loader(), epochs=1, accumulate_grad_batches=accumulate
        )
        assert model.progress.updates == 1
        gradients.append(taken)
    for name, value in gradients[0].items():
        np.testing.assert_allclose(value, gradients[1][name], atol=1e-6, rtol=0)


def test_accumulation_flushes_a_short_window_when_the_epoch_ends() -> None:
    model = small.model()
    model.fit(small.train_loader(40, 8), small.eval_loader(), epochs=2, accumulate_grad_batches=2)
    assert model.progress.updates == 6  # 5 batches: two full windows and one of a single batch, twice


RUNS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, ema, accumulation, clipping": {"optimizer": "adamw", "ema": 0.9, "accumulate": 2, "clip": 1.0},
    "mixup": {"mixup": 0.4},
    "balanced": {"balanced": True, "mixup": 0.4},
}


@pytest.mark.parametrize("crash_after", [1, 4, 5, 8, 14])
@pytest.mark.parametrize("name", RUNS)
def test_resumed_weights_equal_the_uninterrupted_ones_when_a_run_crashes(
    name: str, crash_after: int, tmp_path: Path
) -> None:
    settings = dict(RUNS[name])
    accumulate = settings.pop("accumulate", 1)

    def fit(model: FitModel, *extra: paddle.callbacks.Callback, store: CheckpointStore | None = None) -> None:
        callbacks: list[Any] = [EarlyStopping(50)]
        if store is not None:
            newest = store.newest()
            if newest is not None:
                restore_state(model, callbacks, newest)
            extra = (Checkpointing(_saver(model, store, callbacks), every=1), *extra)
        order = small.balanced_order() if settings.get("balanced") else None
        model.fit(
            small.train_loader(order=order), small.eval_loader(), epochs=3, callbacks=[*callbacks, *extra],
            accumulate_grad_batches=accumulate,
        )  # fmt: skip

    whole = small.model(**settings)
    fit(whole)
    store = _store(tmp_path)
    with pytest.raises(_Stop):
        fit(small.model(**settings), _StopAfter(crash_after), store=store)
    paddle.seed(12345)  # what a fresh process would not share either
    np.random.seed(9)
    resumed = small.model(**settings)
    fit(resumed, store=store)
    _assert_same(_weights(whole), _weights(resumed))
    if whole.ema is not None and resumed.ema is not None:
        _assert_same(whole.ema.arrays(), resumed.ema.arrays())
    assert resumed.progress.best_rank == whole.progress.best_rank
    assert resumed.progress.updates == whole.progress.updates


def test_fit_saves_and_ends_at_an_update_when_asked_to_stop(tmp_path: Path) -> None:
    store = _store(tmp_path)
    model = small.model()

    class Ask(paddle.callbacks.Callback):
        def on_train_batch_begin(self, step: int, logs: dict[str, Any] | None = None) -> None:
            if model.progress.epoch == 1 and step == 2:
                model.stop_signal = 15

    callbacks: list[Any] = []
    saver = Checkpointing(_saver(model, store, callbacks), every=None)
    model.fit(small.train_loader(), small.eval_loader(), epochs=3, callbacks=[Ask(), saver], accumulate_grad_batches=2)
    newest = store.newest()
    assert newest is not None
    assert (newest.state["progress"]["epoch"], newest.state["progress"]["step"]) == (1, 4)


def test_fit_repeats_the_evaluation_when_stopped_within_it(tmp_path: Path) -> None:
    store = _store(tmp_path)
    whole = small.model()
    whole.fit(small.train_loader(), small.eval_loader(), epochs=2)
    model = small.model()

    class Ask(paddle.callbacks.Callback):
        def on_eval_batch_begin(self, step: int, logs: dict[str, Any] | None = None) -> None:
            model.stop_signal = 15

    model.fit(
        small.train_loader(), small.eval_loader(), epochs=2,
        callbacks=[Ask(), Checkpointing(_saver(model, store, []), every=None)],
    )  # fmt: skip
    assert model.history == []
    resumed = small.model()
    newest = store.newest()
    assert newest is not None
    restore_state(resumed, [], newest)
    history = resumed.fit(small.train_loader(), small.eval_loader(), epochs=2)
    _assert_same(_weights(whole), _weights(resumed))
    assert [h["val_top1"] for h in history] == [h["val_top1"] for h in whole.history]
    assert history[0]["train_loss"] == whole.history[0]["train_loss"]
    assert history[0]["train_top1"] == whole.history[0]["train_top1"]


def test_early_stopping_ends_the_run_and_stays_ended_when_resumed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    model = small.model(epochs=30)
    stopper = EarlyStopping(2, min_delta=1.0)  # nothing improves by more than 100 points
    model.fit(
        small.train_loader(), small.eval_loader(), epochs=30,
        callbacks=[stopper, Checkpointing(_saver(model, store, [stopper]), None)],
    )  # fmt: skip
    assert model.progress.epoch == 3
    newest = store.newest()
    assert newest is not None
    again, stopper = small.model(epochs=30), EarlyStopping(2, min_delta=1.0)
    restore_state(again, [stopper], newest)
    again.fit(small.train_loader(), small.eval_loader(), epochs=30, callbacks=[stopper])
    assert again.progress.epoch == 3
    assert stopper.state()["waited"] == 2


def test_fit_names_epoch_and_batch_when_the_loss_is_not_finite() -> None:
    model = small.model()
    model.network[-1].bias.set_value(np.full(small.CLASSES, np.nan, np.float32))
    with pytest.raises(CheckFailed, match=r"loss is nan in epoch 1, batch 1"):
        model.fit(small.train_loader(), small.eval_loader(), epochs=1)


def test_evaluation_uses_the_averaged_weights_and_gives_the_trained_ones_back() -> None:
    model = small.model(ema=0.999)
    model.fit(small.train_loader(), small.eval_loader(), epochs=1)
    assert model.ema is not None
    trained = _weights(model)
    with model.ema.applied():
        averaged = _weights(model)
        inside = model.network(paddle.ones([1, 3, 8, 8]))
    assert inside.shape == [1, small.CLASSES]
    _assert_same(trained, _weights(model))
    assert any(not np.array_equal(trained[k], averaged[k]) for k in trained)


def test_mixup_depends_on_seed_epoch_and_step_alone() -> None:
    mix = Mixup(0.4, small.CLASSES, 0)
    images, labels = paddle.rand([6, 3, 8, 8]), paddle.to_tensor([0, 1, 2, 0, 1, 2])
    paddle.seed(1)
    first = [t.numpy() for t in mix(images, labels, 3, 4)]
    paddle.seed(2)
    second = [t.numpy() for t in mix(images, labels, 3, 4)]
    other = [t.numpy() for t in mix(images, labels, 3, 5)]
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_allclose(first[1].sum(axis=1), 1, atol=1e-6)


def test_fit_ends_after_the_epoch_when_a_paddle_callback_says_so() -> None:
    model = small.model()
    stopper = paddle.callbacks.EarlyStopping("val_loss", mode="max", patience=0, verbose=0, save_best_model=False)
    stopper.on_train_begin = lambda logs=None: setattr(stopper, "best_value", float("inf"))
    model.fit(small.train_loader(), small.eval_loader(), epochs=3, callbacks=[stopper])
    assert model.progress.epoch == 1
