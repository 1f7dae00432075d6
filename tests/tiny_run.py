"""One small training and its exports, made once per test session and shared by all tests that need a model."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

from paddle_tk.commands.export import main as export
from paddle_tk.commands.train import main as train
from paddle_tk.files import sha256_file

SETTINGS = [
    *("model=lenet", "data.image_size=28", "data.batch_size=64"),
    *("trainer.max_epochs=3", "trainer.optimizer=adamw", "trainer.learning_rate=0.002", "trainer.warmup_epochs=0"),
    *("trainer.limit_val_batches=1", "trainer.max_retries=0", "trainer.loggers=[]"),
]


@lru_cache(maxsize=1)
def _make(base: Path) -> Path:
    assert train(["--quiet", "--run-dir", str(base / "run"), *SETTINGS]) == 0
    for name, flags in (("onnx", []), ("onnx-dynamic", ["--dynamic-batch"])):
        assert export(["--quiet", "--model", str(base / "run"), "--output", str(base / name), *flags]) == 0
    return base


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``run`` (LeNet on the digits), ``onnx`` (batch 1) and ``onnx-dynamic``; read only."""
    base = tmp_path_factory.getbasetemp() / "tiny"
    return _make(base)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Changes entries of a manifest and takes the hashes anew, as a careless or hostile hand would."""
    path = folder / "manifest.json"
    raw = {**json.loads(path.read_text()), **changes}
    raw["sha256"] = {name: sha256_file(folder / name) for name in raw["sha256"]}
    path.write_text(json.dumps(raw))


def flip_byte(file: Path, offset: int = -100) -> None:
    """Damages one byte of a file."""
    payload = bytearray(file.read_bytes())
    payload[offset] ^= 0xFF
    file.write_bytes(payload)
