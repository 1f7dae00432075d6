"""Evidence and decision -> the report's drawings, each in a wide form and one for narrow screens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from paddle_tk.evidence import Comparison, Evidence
from paddle_tk.report.bars import Bar, BarGroup, bar_chart
from paddle_tk.report.keys import Key, Keys
from paddle_tk.report.lines import Series, line_chart
from paddle_tk.report.names import FIGURES, LATENCIES, MEMORIES
from paddle_tk.report.numbers import between, number, percent, score
from paddle_tk.report.samples import SHOWN, Ratio, Strip, forest_chart, strip_chart
from paddle_tk.report.scales import Axis, finite
from paddle_tk.report.texts import Texts
from paddle_tk.types import Decision, OptionScore, Score

WIDE, HALF, NARROW = 880, 424, 320  # px
_SCORES = Axis(0.0, 5.0, (0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
_SHARES = Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0))


@dataclass(frozen=True)
class Plot:
    """One drawing.

    Attributes:
        name: Stem of its file; unique.
        section: Heading it stands below.
        title: What it shows.
        caption: How to read it.
        wide: For a page of 880 px, or for half of it.
        narrow: For a phone.
        half: Whether two stand side by side.
    """

    name: str
    section: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup
    half: bool = False


Draw = Callable[[str, int], Markup]


def make_plots(evidence: Evidence | None, decision: Decision | None, t: Texts) -> tuple[Plot, ...]:
    """Returns every drawing that the data allow, in the report's order."""
    keys = Keys(evidence, decision)
    plots: list[Plot] = []
    if decision is not None and decision.options:
        plots += _decision_plots(decision, keys, t)
    if evidence is not None:
        plots += _comparison_plots(evidence, keys, t)
        plots += _curve_plots(evidence, keys, t)
        plots += _latency_plots(evidence, keys, t)
        plots += _memory_plots(evidence, keys, t)
    if decision is not None and decision.sensitivity and decision.sensitivity.win_shares:
        plots.append(_win_plot(decision, keys, t))
    return tuple(plots)


def _plot(name: str, section: str, title: str, caption: str, draw: Draw, *, half: bool = False) -> Plot:
    wide = draw(f"plot-{name}", HALF if half else WIDE)
    return Plot(name, section, title, caption, wide, draw(f"plot-{name}-narrow", NARROW), half)


def _decision_plots(decision: Decision, keys: Keys, t: Texts) -> list[Plot]:
    sums = BarGroup("", tuple(_sum_bar(o, keys, t) for o in decision.options))
    by_pair = {(s.criterion, s.option): s for s in decision.scores}
    groups = [
        BarGroup(
            f"{t.criterion(c)} · {percent(decision.weights[c], 0)}",
            tuple(_score_bar(by_pair.get((c, k.name)), k.name, keys, t) for k in keys.all),
        )
        for c in decision.criteria
    ]
    mark = (decision.threshold, t("threshold_at", threshold=score(decision.threshold)))

    def draw_sums(name: str, width: int) -> Markup:
        return bar_chart(name, t("sums"), [sums], width=width, axis=_SCORES, reference=mark)

    def draw_scores(name: str, width: int) -> Markup:
        return bar_chart(name, t("scores"), groups, width=width, axis=_SCORES)

    return [
        _plot("sums", "verdict", t("sums"), t("sums_caption"), draw_sums),
        _plot("scores", "matrix", t("scores"), t("scores_caption"), draw_scores),
    ]


def _sum_bar(option: OptionScore, keys: Keys, t: Texts) -> Bar:
    key = keys[option.name]
    told = f"{score_or_range(option.score, option.low, option.high)} · {passes(option.passes, t)}"
    return Bar(key.label, key.series, option.score, told, option.low, option.high)


def _score_bar(found: Score | None, option: str, keys: Keys, t: Texts) -> Bar:
    key = keys[option]
    if found is None:
        return Bar(key.label, key.series, None, t("unknown"), 0.0, 5.0)
    told = score_or_range(found.value, found.low, found.high)
    return Bar(key.label, key.series, found.value, told, found.low, found.high)


def score_or_range(value: float | None, low: float, high: float) -> str:
    """Returns a score, or what it lies between, or both where it is known and not sure."""
    possible = between(score(low), score(high))
    if value is None:
        return possible
    return score(value) if low == high else f"{score(value)} [{possible}]"


def passes(passed: bool | None, t: Texts) -> str:
    """Returns a sign and a word: whether an option reaches the threshold."""
    if passed is None:
        return f"? {t('unknown')}"
    return f"✓ {t('passes')}" if passed else f"✗ {t('fails')}"


def _comparison_plots(evidence: Evidence, keys: Keys, t: Texts) -> list[Plot]:
    groups: dict[str, list[Ratio]] = {}
    for one in evidence.comparisons:
        if min(one.ratio, one.low, one.high) > 0 and len(finite([one.ratio, one.low, one.high])) == 3:
            pair = t("pair", a=keys.label(one.a), b=keys.label(one.b))
            series = None if winner(one) is None else keys[one.verdict].series
            groups.setdefault(pair, []).append(Ratio(t.figure(one.name), one.ratio, one.low, one.high, series))
    if not groups:
        return []
    same = setting(evidence.settings, "same_within")

    def draw(name: str, width: int) -> Markup:
        return forest_chart(name, t("ratios"), list(groups.items()), width=width, same_within=same)

    band = "" if same is None else f" {t('band', share=percent(same))}"
    return [_plot("ratios", "comparisons", t("ratios"), t("ratios_caption") + band, draw)]


def winner(one: Comparison) -> str | None:
    """Returns the better option of a comparison; None where there is no difference."""
    return one.verdict if one.verdict in (one.a, one.b) else None


def setting(settings: Mapping[str, Any], name: str) -> float | None:
    """Returns a number from nested settings by its key; None where it is not there."""
    for key, value in settings.items():
        if key == name and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, Mapping) and (found := setting(value, name)) is not None:
            return found
    return None


def _curve_plots(evidence: Evidence, keys: Keys, t: Texts) -> list[Plot]:
    plots: list[Plot] = []
    kinds = list(dict.fromkeys(c.name for c in evidence.curves))
    for kind in kinds:
        curves = [c for c in evidence.curves if c.name == kind]
        series = [Series(keys.label(c.option), keys[c.option].series, c.x, c.y) for c in curves]
        half = len(kinds) % 2 == 0 or kind != kinds[0]  # of an odd number, the first one takes the whole width
        if any(len(finite(s.x)) and len(finite(s.y)) for s in series):
            plots.append(_curve_plot(kind, series, (curves[0].x_label, curves[0].y_label), evidence, t, half=half))
    return plots


def _curve_plot(
    kind: str, series: list[Series], labels: tuple[str, str], evidence: Evidence, t: Texts, *, half: bool
) -> Plot:
    target = setting(evidence.settings, "target_accuracy") if kind.startswith("val_") and kind != "val_loss" else None
    mark = None if target is None else (target, t("target", value=f"{target:g}"))
    x_label, y_label = (t.axis(label) for label in labels)

    def draw(name: str, width: int) -> Markup:
        return line_chart(
            name, t.curve(kind), series, width=width, x_label=x_label, y_label=y_label,
            log_label=t("log_axis"), reference=mark,
        )  # fmt: skip

    stem = "".join(c if c.isalnum() else "-" for c in kind)
    return _plot(f"curve-{stem}", "curves", t.curve(kind), t("curve_caption"), draw, half=half)


def _latency_plots(evidence: Evidence, keys: Keys, t: Texts) -> list[Plot]:
    plots = []
    for figure in LATENCIES:
        found = [f for f in evidence.figures if f.measurement.name == figure and finite(f.measurement.samples)]
        if not found:
            continue
        strips = [Strip(keys.label(f.option), keys[f.option].series, f.measurement.samples) for f in found]
        most = max(len(s.samples) for s in strips)
        caption = t("latency_caption", thinned=t("thinned", shown=SHOWN) if most > SHOWN else "")
        unit = found[0].measurement.unit

        def draw(name: str, width: int, figure: str = figure, strips: list[Strip] = strips, unit: str = unit) -> Markup:
            return strip_chart(name, t.figure(figure), strips, width=width, unit=unit)

        stem = figure.replace("_", "-")
        plots.append(_plot(stem, "latency", t.figure(figure), caption, draw))
    return plots


def _memory_plots(evidence: Evidence, keys: Keys, t: Texts) -> list[Plot]:
    training, inference = MEMORIES
    peaks = {k: (_peak(evidence, k.name, training), _peak(evidence, k.name, inference)) for k in keys.all}
    known = {k: both for k, both in peaks.items() if any(p is not None for p in both)}
    if not known:
        return []
    # A training's peak lies above that of inference, so one bar shows both; where it does not, each gets its own.
    nested = all(train is None or run is None or train >= run for train, run in known.values())
    groups = [_nested(known)] if nested else _apart(known, t)

    def draw(name: str, width: int) -> Markup:
        return bar_chart(name, t("memory_peaks"), groups, width=width, axis_label="MiB")

    caption = t("memory_caption") + (f" {t('memory_parts')}" if nested else "")
    return [_plot("memory", "memory", t("memory_peaks"), caption, draw)]


Peaks = Mapping[Key, tuple[float | None, float | None]]  # of training and of inference, MiB


def _peak(evidence: Evidence, option: str, figure: str) -> float | None:
    found = evidence.find(option, figure)
    return found.value if found is not None and math.isfinite(found.value) else None


def _nested(known: Peaks) -> BarGroup:
    bars = []
    for key, (train, run) in known.items():
        told = [("-" if v is None else number(v)) for v in (run, train)]
        parts = tuple(p for p in (run, None if train is None else train - (run or 0.0)) if p is not None)
        bars.append(Bar(key.label, key.series, sum(parts), f"{' / '.join(told)} MiB", parts=parts))
    return BarGroup("", tuple(bars))


def _apart(known: Peaks, t: Texts) -> list[BarGroup]:
    groups = []
    for at, figure in enumerate(MEMORIES):
        found = [(key, both[at]) for key, both in known.items()]
        bars = tuple(Bar(k.label, k.series, v, f"{number(v)} MiB") for k, v in found if v is not None)
        groups.append(BarGroup(t.figure(figure), bars))
    return groups


def _win_plot(decision: Decision, keys: Keys, t: Texts) -> Plot:
    assert decision.sensitivity is not None
    told = decision.sensitivity
    ranked = sorted(told.win_shares.items(), key=lambda pair: -pair[1])
    bars = tuple(Bar(keys.label(n), keys[n].series, 100 * share, percent(share)) for n, share in ranked)

    def draw(name: str, width: int) -> Markup:
        return bar_chart(name, t("win_shares"), [BarGroup("", bars)], width=width, axis=_SHARES, axis_label="%")

    caption = t("win_caption", samples=f"{told.samples:,}", seed=told.seed)
    return _plot("win-shares", "sensitivity", t("win_shares"), caption, draw)


def figure_order(name: str) -> int:
    """Returns a figure's place in the report; those that are not listed come last."""
    return list(FIGURES).index(name) if name in FIGURES else len(FIGURES)
