from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.evidence import (
    NAME,
    Comparison,
    Curve,
    Evidence,
    Figure,
    NotMeasured,
    Option,
    read_evidence,
    write_evidence,
)
from paddle_tk.types import Measurement

EVIDENCE = Evidence(
    options=(Option("paddle", "PaddlePaddle 3.3.1", "paddle", "3.3.1"),),
    figures=(Figure("paddle", Measurement("inference_latency", 1.5, "ms", 2, "measured", (1.0, 2.0))),),
    not_measured=(NotMeasured("paddle", "gpu_utilisation", "no GPU"),),
    curves=(Curve("paddle", "train_loss", (1.0, 2.0), (0.5, 0.25), "update", "loss"),),
    comparisons=(Comparison("x", "paddle", "torch", 1.0, 0.9, 1.1, 0.95, 5, "no difference"),),
    parity={"passed": True},
    settings={"seed": 0},
    command="python tools/compare.py",
    created="2026-11-24T00:00:00+00:00",
)


def test_evidence_is_read_back_unchanged(tmp_path: Path) -> None:
    write_evidence(tmp_path / NAME, EVIDENCE)
    assert read_evidence(tmp_path / NAME) == EVIDENCE


def test_evidence_tells_its_figures_and_why_one_is_missing() -> None:
    found = EVIDENCE.find("paddle", "inference_latency")
    assert found is not None
    assert found.value == 1.5
    assert EVIDENCE.find("paddle", "gpu_utilisation") is None
    assert EVIDENCE.reason("paddle", "gpu_utilisation") == "no GPU"


@pytest.mark.parametrize("change", ["value", "samples", "reason"])
def test_evidence_is_refused_when_it_was_changed(tmp_path: Path, change: str) -> None:
    path = tmp_path / NAME
    write_evidence(path, EVIDENCE)
    raw = json.loads(path.read_text())
    if change == "reason":
        raw["not_measured"][0]["reason"] = "forgot"
    else:
        raw["figures"][0]["measurement"][change] = 1.0 if change == "value" else [1.0, 1.9]
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="was changed after it was measured"):
        read_evidence(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 99, "sha256": ""}', "\x00"])
def test_evidence_is_refused_when_the_file_is_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / NAME
    path.write_text(text)
    with pytest.raises(ArtifactError, match="measurements"):
        read_evidence(path)
    with pytest.raises(ArtifactError, match="no measurements at"):
        read_evidence(tmp_path / "missing.json")
