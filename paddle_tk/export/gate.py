"""May an INT8 model ship? Its accuracy, size and speed against its float parent's, and the limits of the config."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from paddle_tk.errors import CheckFailed


@dataclass(frozen=True)
class Limits:
    """What an INT8 model must keep to.

    Attributes:
        max_drop: Largest loss of the main metric, a share in 0..1.
        min_agreement: Least share of images (of detections) for which both models say the same.
        max_size_ratio: INT8 file / FP32 file.
        max_latency_ratio: INT8 / FP32 latency in the target's runtime.
        allow_slow: A latency ratio above the limit is told and let through.
    """

    max_drop: float
    min_agreement: float
    max_size_ratio: float
    max_latency_ratio: float
    allow_slow: bool = False


@dataclass(frozen=True)
class Figures:
    """What was measured; None: it could not be.

    Attributes:
        metric: Name of the main metric.
        accuracy_fp32: Of the float model.
        accuracy_int8: Of the INT8 model, on the same images.
        n: Images of both.
        agreement: Share of images (of detections) for which both say the same.
        agreement_n: How many they are.
        size_ratio: INT8 file / FP32 file.
        latency_ratio: INT8 / FP32 latency, medians of interleaved runs.
    """

    metric: str
    accuracy_fp32: float | None
    accuracy_int8: float | None
    n: int
    agreement: float
    agreement_n: int
    size_ratio: float
    latency_ratio: float | None

    @property
    def drop(self) -> float | None:
        """FP32 minus INT8 accuracy."""
        if self.accuracy_fp32 is None or self.accuracy_int8 is None:
            return None
        return self.accuracy_fp32 - self.accuracy_int8


@dataclass(frozen=True)
class Finding:
    """One limit and what was found.

    Attributes:
        name: What is limited.
        value: What was measured; None: it was not.
        limit: The bound.
        passed: Whether it holds; None: not measured, or let through by ``allow_slow``.
        advice: What to try where it does not.
    """

    name: str
    value: float | None
    limit: float
    passed: bool | None
    advice: str

    def line(self) -> str:
        """Returns the finding in words."""
        if self.value is None:
            return f"{self.name} not measured"
        verdict = {True: "ok", False: "no", None: "let through"}[self.passed]
        return f"{self.name} {self.value:.4f} (limit {self.limit:g}: {verdict})"


@dataclass(frozen=True)
class GateReport:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no limit is broken; what was not measured breaks none."""
        return all(finding.passed is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {"passed": self.passed, "findings": [asdict(finding) for finding in self.findings]}

    def line(self) -> str:
        """Returns all findings in one line."""
        return ", ".join(finding.line() for finding in self.findings)

    def require(self) -> None:
        """Refuses a model that breaks a limit.

        Raises:
            CheckFailed: With the figures and what to try.
        """
        broken = [finding for finding in self.findings if finding.passed is False]
        if broken:
            raise CheckFailed(
                f"the INT8 model does not ship: {self.line()}",
                "; ".join(dict.fromkeys(finding.advice for finding in broken)),
            )


def judge(figures: Figures, limits: Limits, accuracy_hint: str = "") -> GateReport:
    """Holds the figures against the limits.

    Args:
        figures: What was measured.
        limits: What it is held against.
        accuracy_hint: A known reason for lost accuracy and what helps; "": none.
    """
    accurate = "; ".join(filter(None, ("try --method qat, another --algorithm or more --samples", accuracy_hint)))
    drop, ratio = figures.drop, figures.latency_ratio
    slow = ratio is not None and ratio > limits.max_latency_ratio
    return GateReport(
        (
            Finding(
                f"drop of {figures.metric}", drop, limits.max_drop, None if drop is None else drop <= limits.max_drop,
                accurate,
            ),
            Finding(
                "agreement with FP32", figures.agreement, limits.min_agreement,
                figures.agreement >= limits.min_agreement,
                accurate,
            ),
            Finding(
                "size ratio", figures.size_ratio, limits.max_size_ratio, figures.size_ratio <= limits.max_size_ratio,
                "leave fewer layers in float, or raise quantize.max_size_ratio",
            ),
            Finding(
                "latency ratio", ratio, limits.max_latency_ratio,
                None if ratio is None or (slow and limits.allow_slow) else not slow,
                "train with model.activation=relu6, which integer kernels compute for nothing, or --allow-slow",
            ),
        )
    )  # fmt: skip
