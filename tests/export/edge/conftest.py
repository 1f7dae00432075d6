from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.edge.built import make_bundles
from tests.tiny_detection import detectors  # noqa: F401
from tests.tiny_run import models  # noqa: F401


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, models: Path, detectors: Path) -> Path:  # noqa: F811
    """Folder of ``x86``, ``nano``, ``batch2`` and ``boxes``; read only."""
    base = tmp_path_factory.getbasetemp() / "bundles"
    base.mkdir(exist_ok=True)
    return make_bundles(base, models, detectors)
