"""Scores of performance and deployment ease, from measurements by the formulas of ``formulas.TABLES``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from paddle_tk.decide.formulas import (
    PARITY_BOUND,
    TABLES,
    TOP,
    SubFigure,
    factor_score,
    int8_latency_score,
    share_score,
)
from paddle_tk.decide.parts import Part, combine, levelled, unknown
from paddle_tk.evidence import Evidence
from paddle_tk.types import Measurement, Score

_NO_DIFFERENCE = "no difference"


def measured_scores(evidence: Evidence, criterion: str, options: Sequence[str]) -> tuple[Score, ...]:
    """Scores a criterion of ``TABLES`` for every option.

    A figure that is missing counts as anything from 0 to 5. Where a figure is scored against the best option, it also
    leaves the others' open downwards: the missing one might be the best.

    Args:
        evidence: What was measured, under each option's own name.
        criterion: "performance" or "deployment_ease".
        options: Their names.
    """
    columns = [_RULES[f.rule](evidence, f, options) for f in TABLES[criterion]]
    return tuple(combine(o, criterion, [column[i] for column in columns]) for i, o in enumerate(options))


def _usable(evidence: Evidence, option: str, name: str) -> tuple[Measurement | None, str]:
    """Returns a measurement, or None and why there is none."""
    found = evidence.find(option, name)
    if found is None:
        return None, evidence.reason(option, name)
    return (None, "not a number") if math.isnan(found.value) else (found, "")


def _missing_gate(evidence: Evidence, figure: SubFigure, option: str) -> Part | None:
    """Returns a part of 0 where what the figure needs is known not to be there."""
    gate = _usable(evidence, option, figure.needs)[0] if figure.needs else None
    if gate is None or gate.value > 0:
        return None
    return Part(figure.name, figure.weight, 0.0, 0.0, f"{figure.name}: {figure.needs} is 0", (gate,))


def _relative(evidence: Evidence, figure: SubFigure, options: Sequence[str]) -> list[Part]:
    """Scores a figure of every option against the best of them."""
    gates = {o: _missing_gate(evidence, figure, o) for o in options}
    found = {o: _positive(evidence, figure, o) for o in options if gates[o] is None}
    known = {o: m for o, (m, _) in found.items() if m is not None}
    higher = figure.rule != "lower"
    level = levelled({o: m.value for o, m in known.items()}, higher=higher, same=_same(evidence, figure.name))
    best = (max if higher else min)(level.values(), default=0.0)
    gaps = tuple(f"{figure.name} of {o} ({why})" for o, (m, why) in found.items() if m is None)
    parts = []
    for option in options:
        gate = gates[option]
        if gate is not None:
            parts.append(gate)
        elif option in known:
            parts.append(_against(figure, known[option], level[option], best, gaps))
        else:
            parts.append(unknown(figure.name, figure.weight, found[option][1]))
    return parts


def _positive(evidence: Evidence, figure: SubFigure, option: str) -> tuple[Measurement | None, str]:
    found, why = _usable(evidence, option, figure.name)
    if found is not None and figure.rule != "share" and found.value <= 0:
        return None, f"measured as {found.value:g}, which cannot be compared"
    return found, why


def _same(evidence: Evidence, name: str) -> Callable[[str, str], bool]:
    pairs = {frozenset((c.a, c.b)) for c in evidence.comparisons if c.name == name and c.verdict == _NO_DIFFERENCE}
    return lambda a, b: frozenset((a, b)) in pairs


def _against(figure: SubFigure, own: Measurement, level: float, best: float, gaps: tuple[str, ...]) -> Part:
    if figure.rule == "share":
        high = share_score(level, best)
    else:
        high = factor_score(level, best, higher=figure.rule == "higher")
    text = f"{figure.name} {own.value:.4g} {own.unit}"
    if level != own.value:
        text += f", no difference from {level:.4g}"
    text += ": best" if level == best else f": {_arithmetic(figure, level, best)}"
    if gaps:
        text += f" of those known, without {'; '.join(gaps)}"
    return Part(figure.name, figure.weight, 0.0 if gaps else high, high, text, (own,), gaps)


def _arithmetic(figure: SubFigure, own: float, best: float) -> str:
    if figure.rule == "share":
        return f"5 - 100 ({best:.4g} - {own:.4g})"
    top, bottom = (best, own) if figure.rule == "higher" else (own, best)
    return f"5 - log2({top:.4g} / {bottom:.4g})"


def _yes(evidence: Evidence, figure: SubFigure, options: Sequence[str]) -> list[Part]:
    """Scores what is there or is not."""
    parts = []
    for option in options:
        found, why = _usable(evidence, option, figure.name)
        if found is None:
            parts.append(unknown(figure.name, figure.weight, why))
        else:
            score = TOP if found.value > 0 else 0.0
            answer = "yes" if found.value > 0 else "no"
            parts.append(Part(figure.name, figure.weight, score, score, f"{figure.name}: {answer}", (found,)))
    return parts


def _exported(evidence: Evidence, figure: SubFigure, options: Sequence[str]) -> list[Part]:
    """Scores an export by its success and, where it succeeded, by its parity."""
    return [
        _with_parity(evidence, option, part) if part.low == TOP else part
        for option, part in zip(options, _yes(evidence, figure, options), strict=True)
    ]


def _with_parity(evidence: Evidence, option: str, part: Part) -> Part:
    parity, why = _usable(evidence, option, "onnx_parity")
    if parity is None:
        return unknown("onnx_parity", part.weight, why, part.used)
    within = parity.value <= PARITY_BOUND
    score = TOP if within else 0.0
    text = f"{part.text}, outputs differ by {parity.value:.2g}, {'within' if within else 'beyond'} {PARITY_BOUND:g}"
    return Part(part.name, part.weight, score, score, text, (*part.used, parity))


def _int8_latency(evidence: Evidence, figure: SubFigure, options: Sequence[str]) -> list[Part]:
    """Scores what INT8 gains over the same framework's FP32."""
    return [_missing_gate(evidence, figure, o) or _gain(evidence, figure, o) for o in options]


def _gain(evidence: Evidence, figure: SubFigure, option: str) -> Part:
    ratio, why = _positive(evidence, figure, option)
    if ratio is None:
        return unknown(figure.name, figure.weight, why)
    score = int8_latency_score(ratio.value)
    return Part(figure.name, figure.weight, score, score, f"{figure.name}: 5 log2(1 / {ratio.value:.4g})", (ratio,))


def _int8_accuracy(evidence: Evidence, figure: SubFigure, options: Sequence[str]) -> list[Part]:
    """Scores what INT8 loses against the same framework's FP32."""
    return [_missing_gate(evidence, figure, o) or _loss(evidence, figure, o) for o in options]


def _loss(evidence: Evidence, figure: SubFigure, option: str) -> Part:
    int8, why = _usable(evidence, option, figure.name)
    partner = _fp32_of(evidence, option)
    fp32, why_fp32 = _usable(evidence, partner, "final_accuracy")
    if int8 is None:
        return unknown(figure.name, figure.weight, why)
    if fp32 is None:
        return unknown(f"final_accuracy of {partner}", figure.weight, why_fp32, (int8,))
    score = share_score(int8.value, fp32.value)
    text = f"{figure.name}: 5 - 100 ({fp32.value:.4g} - {int8.value:.4g})"
    return Part(figure.name, figure.weight, score, score, text, (int8, fp32))


def _fp32_of(evidence: Evidence, option: str) -> str:
    """Returns the option's own name, or that of its framework's FP32 option where it computes in INT8 itself."""
    own = next((o for o in evidence.options if o.name == option), None)
    if own is None or own.precision == "fp32":
        return option
    partners = (o.name for o in evidence.options if (o.framework, o.precision) == (own.framework, "fp32"))
    return next(partners, option)


_RULES: dict[str, Callable[[Evidence, SubFigure, Sequence[str]], list[Part]]] = {
    "higher": _relative,
    "lower": _relative,
    "share": _relative,
    "yes": _yes,
    "exported": _exported,
    "int8_latency": _int8_latency,
    "int8_accuracy": _int8_accuracy,
}
