"""How a measured figure becomes a score from 0 to 5, and how much it counts: the table behind two of the criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TOP = 5.0
# Largest difference of outputs, logits of the order of 1 to 10, at which an exported file still says the same.
PARITY_BOUND = 1e-4

Rule = Literal["higher", "lower", "share", "yes", "exported", "int8_latency", "int8_accuracy"]

IN_WORDS: Mapping[Rule, str] = {
    "higher": "5 - log2(best / own): 5 at the best option, one point less for every factor of 2, at least 0",
    "lower": "5 - log2(own / best): 5 at the best option, one point less for every factor of 2, at least 0",
    "share": "5 - 100 (best - own): one point less for every percentage point below the best option, at least 0",
    "yes": "5 if there is one, else 0",
    "exported": f"5 if the export succeeds and its outputs differ by at most {PARITY_BOUND:g}, else 0",
    "int8_latency": "5 log2(1 / ratio) of INT8 to FP32: 0 where INT8 is no faster, 5 at half the time or less",
    "int8_accuracy": "5 - 100 (FP32 - INT8): one point less for every percentage point lost to INT8, at least 0",
}


@dataclass(frozen=True)
class SubFigure:
    """A figure that a criterion is made of.

    Attributes:
        name: Of the measurement.
        weight: Its share of the criterion, 0..1.
        rule: How it becomes a score; ``IN_WORDS`` says it.
        needs: A yes-or-no figure without which there is nothing to measure: where that one is 0, this scores 0.
    """

    name: str
    weight: float
    rule: Rule
    needs: str = ""


TABLES: Mapping[str, tuple[SubFigure, ...]] = {
    "performance": (
        SubFigure("training_throughput", 0.20, "higher"),
        SubFigure("time_to_target", 0.10, "lower"),
        SubFigure("final_accuracy", 0.20, "share"),
        SubFigure("inference_latency", 0.15, "lower"),
        SubFigure("inference_throughput", 0.15, "higher"),
        SubFigure("onnx_latency", 0.10, "lower", needs="onnx_export"),
        SubFigure("peak_memory_training", 0.05, "lower"),
        SubFigure("peak_memory_inference", 0.05, "lower"),
    ),
    "deployment_ease": (
        SubFigure("onnx_export", 0.25, "exported"),
        SubFigure("int8_available", 0.15, "yes"),
        SubFigure("int8_latency_ratio", 0.10, "int8_latency", needs="int8_available"),
        SubFigure("int8_accuracy", 0.10, "int8_accuracy", needs="int8_available"),
        SubFigure("installed_size", 0.15, "lower"),
        SubFigure("cold_start", 0.10, "lower"),
        SubFigure("import_time", 0.05, "lower"),
        SubFigure("recipe_lines", 0.10, "lower"),
    ),
}


def clipped(score: float) -> float:
    """Returns the score held within 0..5."""
    return min(TOP, max(0.0, score))


def factor_score(own: float, best: float, *, higher: bool, per_point: float = 2.0) -> float:
    """Scores a figure by the factor that it is worse than the best, 0..5.

    Args:
        own: The option's figure, above 0.
        best: The best one, above 0.
        higher: Whether more is better.
        per_point: The factor that costs a point, above 1.
    """
    worse = best / own if higher else own / best
    return clipped(TOP - math.log(worse) / math.log(per_point))


def share_score(own: float, best: float) -> float:
    """Scores a share by the percentage points that it lies below the best, 0..5."""
    return clipped(TOP - 100 * (best - own))


def int8_latency_score(ratio: float) -> float:
    """Scores the latency of INT8 / FP32 by what it gains, 0..5."""
    return clipped(-TOP * math.log2(ratio))
