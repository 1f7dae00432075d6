"""What a check of a model against a device finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paddle_tk.export.edge.device_table import Engine

Severity = Literal["error", "warning", "info"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing in a model that a device's engine cannot take, or takes in a way one should know.

    Attributes:
        severity: "error" (it does not run there), "warning" (it may not) or "info".
        rule: The rule's name.
        node: The node or tensor, "" where it is the model.
        problem: What was found.
        source: Where the rule comes from.
        fix: What can be done.
    """

    severity: Severity
    rule: str
    node: str
    problem: str
    source: str
    fix: str

    def line(self) -> str:
        """Returns it in one line."""
        where = f" ({self.node})" if self.node else ""
        return f"{self.severity}: {self.problem}{where}. Fix: {self.fix}"


@dataclass(frozen=True)
class Preflight:
    """All findings for one model file on one engine of a device.

    Attributes:
        device: The device's name.
        engine: "tensorrt" or "onnxruntime".
        file: The model file's name.
        findings: Errors first.
    """

    device: str
    engine: Engine
    file: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the model from running."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "device": self.device,
            "engine": self.engine,
            "file": self.file,
            "passed": self.passed,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def line(self) -> str:
        """Returns the counts in one line, and the first error."""
        counts = ", ".join(
            f"{sum(finding.severity == severity for finding in self.findings)} {severity}" for severity in _ORDER
        )
        first = f"; {self.errors[0].line()}" if self.errors else ""
        return f"{self.file} for {self.engine} on {self.device}: {counts}{first}"


def sorted_findings(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings with the errors first, otherwise in their order."""
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))
