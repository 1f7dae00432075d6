from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_tk.commands.train import main as train
from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.files import sha256_file
from paddle_tk.training.build import build_trainer
from paddle_tk.training.run_folder import open_run

SETTINGS = [
    *("model=shufflenet_v2_x0_25", "data=digits", "data.image_size=16", "data.batch_size=8", "data.num_workers=0"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=8", "trainer.limit_val_batches=1", "trainer.loggers=[]"),
    *("trainer.max_retries=0", "trainer.ema_decay=0.9", "trainer.accumulate_grad_batches=2"),
]
WITH = "trainer.recompute=true"


def _weights(folder: Path) -> str:
    return sha256_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the weights of a training without recompute."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert train(["--quiet", "--run-dir", str(folder), *SETTINGS]) == 0
    return _weights(folder)


def test_trained_weights_are_the_same_bytes_when_recomputing(plain: str, tmp_path: Path) -> None:
    assert train(["--quiet", "--run-dir", str(tmp_path / "run"), *SETTINGS, WITH]) == 0
    assert _weights(tmp_path / "run") == plain


class Interrupt(paddle.callbacks.Callback):
    """Asks to stop after some batches, as Ctrl-C does."""

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        if step == 3:
            self.model.stop_signal = signal.SIGINT


def test_trained_weights_are_the_same_bytes_when_recomputing_and_resumed(plain: str, tmp_path: Path) -> None:
    folder, loaded = tmp_path / "run", load_config(None, [*SETTINGS, WITH])
    open_run(loaded, folder, None)
    trainer = build_trainer(loaded.config, folder, loaded.sha256, "cpu", Output(quiet=True))
    make = trainer.make_callbacks
    trainer.make_callbacks = lambda records: [Interrupt(), *make(records)]
    assert trainer.run() is None
    assert train(["--quiet", "--resume", str(folder)]) == 0
    assert _weights(folder) == plain


def test_a_layer_that_does_not_exist_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train(["--quiet", "--run-dir", str(folder), *SETTINGS, "trainer.recompute=['2_9']"]) == 2
    told = capsys.readouterr().err.strip()
    assert "no layer '2_9'. Fix: did you mean '2_" in told
    assert "\n" not in told
    assert not folder.exists()
