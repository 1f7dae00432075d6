"""Numbers as people read them."""

from __future__ import annotations

import math

NOT_A_NUMBER = "NaN"
DASH = "\N{EN DASH}"


def number(value: float) -> str:
    """Returns three significant digits; whole numbers whole; thousands with commas; tiny ones as 4.2e-6."""
    if not math.isfinite(value):
        return NOT_A_NUMBER
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95 or (value == round(value) and size < 1e15):
        return f"{value:,.0f}"
    if size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    digits = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    """Returns a share of 0..1 in percent."""
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else NOT_A_NUMBER


def score(value: float) -> str:
    """Returns a score of 0..5 with as many of three decimals as it has, one at least: 4.0, 3.65, 4.075."""
    if not math.isfinite(value):
        return NOT_A_NUMBER
    text = f"{value:.3f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def ratio(value: float) -> str:
    """Returns a ratio with three decimals near 1, where they matter, else with three significant digits."""
    return f"{value:.3f}" if math.isfinite(value) and 0.1 <= value < 10 else number(value)


def between(low: str, high: str) -> str:
    """Returns a range of two numbers."""
    return f"{low} {DASH} {high}"
