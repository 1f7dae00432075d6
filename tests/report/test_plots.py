from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from paddle_tk.evidence import Curve, Evidence, Figure
from paddle_tk.report.bars import Bar, BarGroup, bar_chart
from paddle_tk.report.lines import Series, line_chart
from paddle_tk.report.plots import Plot, make_plots
from paddle_tk.report.samples import Strip, strip_chart, thinned
from paddle_tk.report.svg import element, fit, standalone, text_width
from paddle_tk.report.templating import plot_style
from paddle_tk.report.texts import Texts
from paddle_tk.types import Measurement
from tests.report.sample import OPTIONS, make_decision, make_evidence

NUMBER = re.compile(r'="(-?\d+(?:\.\d+)?)"')
NAN = float("nan")


def drawn(svg: Markup, tag: str, class_: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(str(svg)).iter(tag) if class_ in e.get("class", "").split()]


def plots(evidence: Evidence | None, **options: object) -> dict[str, Plot]:
    return {p.name: p for p in make_plots(evidence, options.get("decision"), Texts("en"))}  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_option_is_drawn_when_there_are_one_to_four(count: int) -> None:
    found = plots(make_evidence(OPTIONS[:count]))

    for svg in (found["inference-latency"].wide, found["inference-latency"].narrow):
        assert len(drawn(svg, "circle", "dot")) == 300 * count
        assert len(drawn(svg, "line", "quantile")) == 3 * count
    assert len(drawn(found["memory"].wide, "rect", "bar")) == 2 * count
    assert ("ratios" in found) == (count > 1)


def test_plots_stand_in_the_reports_order() -> None:
    evidence = make_evidence()
    names = [p.name for p in make_plots(evidence, make_decision(evidence), Texts("en"))]

    assert names == ["sums", "scores", "ratios", "curve-train-loss", "curve-val-top1", "curve-val-top1-by-time",
                     "inference-latency", "onnx-latency", "memory", "win-shares"]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plots_are_well_formed_and_inside_their_frame(language: str) -> None:
    evidence = make_evidence(OPTIONS)
    for plot in make_plots(evidence, make_decision(evidence), Texts(language)):  # type: ignore[arg-type]
        for svg in (plot.wide, plot.narrow):
            root = ElementTree.fromstring(str(svg))
            _, _, width, height = (float(v) for v in root.get("viewBox", "").split())
            assert "nan" not in str(svg).lower().replace("<script", "")
            assert root.find("title") is not None
            assert root.find("desc") is not None
            for node in root.iter():
                for key, end in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height)):
                    assert -1 <= float(node.get(key, 0)) <= end + 1, (plot.name, node.attrib)


def test_texts_do_not_leave_the_drawing_when_labels_are_long() -> None:
    long = "a framework with a name that goes on and on, 版本号很长的深度学习框架 " * 3
    options = tuple(replace(o, label=f"{n} {long}") for n, o in enumerate(OPTIONS))
    for plot in make_plots(make_evidence(options), None, Texts("en")):
        for svg in (plot.wide, plot.narrow):
            root = ElementTree.fromstring(str(svg))
            width = float(root.get("width", 0))
            for node in root.iter("text"):
                reach = {"end": 0.0, "middle": 0.5}.get(node.get("text-anchor", ""), 1.0)
                size = text_width(node.text or "")
                assert float(node.get("x", 0)) + reach * size <= width + 1, (plot.name, node.text)
                assert float(node.get("x", 0)) - (1 - reach) * size >= -1, (plot.name, node.text)


def test_curves_are_broken_where_a_loss_is_not_finite() -> None:
    curve = Curve("paddle", "train_loss", (1.0, 2.0, 3.0, 4.0, 5.0), (2.0, 1.5, NAN, 1.2, 1.1), "update", "loss")
    found = plots(replace(make_evidence(OPTIONS[:1]), curves=(curve,)))

    lines = drawn(found["curve-train-loss"].wide, "polyline", "curve")
    assert [len(line.get("points", "").split()) for line in lines] == [2, 2]


def test_curve_is_left_out_when_nothing_of_it_can_be_drawn() -> None:
    curve = Curve("paddle", "train_loss", (1.0, 2.0), (NAN, NAN), "update", "loss")

    assert "curve-train-loss" not in plots(replace(make_evidence(OPTIONS[:1]), curves=(curve,)))


def test_axis_of_curves_is_logarithmic_when_losses_are_far_apart() -> None:
    series = [Series("a", 0, (1.0, 2.0, 3.0), (9.0, 0.3, 0.001))]
    svg = line_chart("p", "t", series, width=400, x_label="update", y_label="loss", log_label="logarithmic")

    assert "loss, logarithmic" in svg
    middle = float(drawn(svg, "polyline", "curve")[0].get("points", "").split()[1].split(",")[1])
    ends = [float(p.split(",")[1]) for p in drawn(svg, "polyline", "curve")[0].get("points", "").split()[::2]]
    assert (middle - ends[0]) / (ends[1] - ends[0]) == pytest.approx(0.3735, abs=0.01)  # log(30) / log(9000)


def test_series_differ_in_more_than_colour() -> None:
    series = [Series(str(n), n, (1.0, 2.0), (1.0, 2.0 + n)) for n in range(8)]
    svg = line_chart("p", "t", series, width=600, x_label="x", y_label="y", log_label="log")

    assert len({line.get("stroke-dasharray", "") for line in drawn(svg, "polyline", "curve")}) == 8


def test_bar_shows_the_possible_range_when_its_value_is_unknown() -> None:
    unknown = Bar("a", 0, None, "2 to 4", 2.0, 4.0)
    svg = bar_chart("p", "t", [BarGroup("", (unknown, Bar("b", 1, 5.0, "5")))], width=600)

    assert len(drawn(svg, "rect", "possible")) == 1
    assert len(drawn(svg, "line", "range")) == 3
    assert len(drawn(svg, "rect", "bar")) == 1


def test_bar_lengths_are_in_proportion_to_their_values() -> None:
    bars = (Bar("a", 0, 1.0, "1"), Bar("b", 1, 4.0, "4", parts=(3.0, 1.0)))
    svg = bar_chart("p", "t", [BarGroup("", bars)], width=600)

    one, three, rest = (float(r.get("width", 0)) for r in drawn(svg, "rect", "bar"))
    assert three == pytest.approx(3 * one, rel=1e-3)
    assert rest == pytest.approx(one, rel=1e-3)


def test_memory_of_inference_and_training_stand_apart_when_one_does_not_hold_the_other() -> None:
    evidence = make_evidence(OPTIONS[:1])
    high = Measurement("peak_memory_inference", 9000.0, "MiB", 1, "measured", (9000.0,))
    figures = tuple(f for f in evidence.figures if f.measurement.name != high.name)
    svg = plots(replace(evidence, figures=(*figures, Figure("paddle", high))))["memory"].wide

    assert "Peak memory, inference" in svg
    assert len(drawn(svg, "rect", "bar")) == 2


def test_samples_are_thinned_evenly_when_there_are_many() -> None:
    kept = thinned([float(n) for n in range(10000)], 400)

    assert (len(kept), kept[0], kept[-1]) == (400, 0.0, 9999.0)
    assert max(b - a for a, b in pairwise(kept)) <= 26
    assert thinned([3.0, 1.0, 2.0], 400) == [1.0, 2.0, 3.0]


def test_percentiles_are_marked_where_they_lie() -> None:
    svg = strip_chart("p", "t", [Strip("a", 0, tuple(float(n) for n in range(1, 102)))], width=880, unit="ms")

    assert "p50 51 · p95 96 · p99 100" in svg
    at = [float(line.get("x1", 0)) for line in drawn(svg, "line", "quantile")]
    assert at == sorted(at)


def test_element_refuses_a_number_that_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="finite"):
        element("circle", cx=NAN)


def test_fit_keeps_a_text_within_its_width() -> None:
    assert fit("short", 200) == "short"
    assert text_width(fit("深度学习框架对比报告", 60)) <= 60
    assert fit("a" * 100, 60).endswith("…")


def test_standalone_drawing_carries_its_own_colours_and_loads_nothing() -> None:
    svg = standalone(plots(make_evidence())["memory"].wide, plot_style())

    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in svg
    assert not re.findall(r"(?:href|src|url\()", svg)
