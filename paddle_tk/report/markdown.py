"""The report as Markdown, for a repository or a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from paddle_tk.report.html import is_link
from paddle_tk.report.plots import Plot
from paddle_tk.report.texts import Texts
from paddle_tk.report.view import View

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")
_LIST = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)")


def escaped(text: str) -> str:
    """Returns a text that Markdown shows as it is: no markup, no HTML, one line."""
    plain = " ".join(text.split())
    if is_link(plain) and not re.search(r"[<>\"'`|]", plain):
        return f"<{plain}>"
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LIST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", plain))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of escaped cells; "" where it has no rows."""
    lines = [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    if not lines:
        return ""
    head = f"| {' | '.join(escaped(c) for c in columns)} |"
    return "\n".join([head, f"|{'---|' * len(columns)}", *lines])


def render_markdown(view: View, t: Texts) -> str:
    """Returns the report; its drawings are linked as plots/*.svg."""
    head = [f"# {escaped(view.title)}"]
    told = [(t("team"), view.team), (t("created"), view.created)]
    head += [f"{escaped(k)}{t('colon')}{escaped(v)}" for k, v in told if v]
    blocks = [*head, *_verdict(view, t), *_extra(view)]
    for title, parts in _sections(view, t):
        shown = [part for part in parts if part]
        if shown:
            blocks += [f"## {title}", *shown]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _verdict(view: View, t: Texts) -> list[str]:
    verdict = view.verdict
    blocks = [f"## {t('verdict')}", f"**{escaped(verdict.headline)}**"]
    blocks += [escaped(s) for s in (*verdict.lead, *verdict.sentences)]
    if verdict.reason:
        blocks.append(f"{t('reason')}{t('colon')}{escaped(verdict.reason)}")
    threshold = f"{t('threshold')} {verdict.threshold}"
    blocks.append(
        table(
            [t("option"), t("sum"), t("range"), threshold],
            [(s.key.label, s.total, s.between, s.told) for s in verdict.sums],
        )
    )
    blocks += _pictures(view.plots_of("verdict"), t)
    if verdict.missing:
        blocks += [f"{t('missing')}{t('colon')}", "\n".join(f"- {escaped(m)}" for m in verdict.missing)]
    return blocks


def _extra(view: View) -> list[str]:
    blocks = []
    for section in view.extra:
        blocks += [f"## {escaped(section.title)}", *(escaped(p) for p in section.paragraphs)]
        blocks.append(table(section.columns, section.rows))
    return blocks


def _pictures(plots: Sequence[Plot], t: Texts) -> list[str]:
    return [f"![{t('plot_alt', title=escaped(p.title))}](plots/{p.name}.svg)\n\n{escaped(p.caption)}" for p in plots]


def _sections(view: View, t: Texts) -> list[tuple[str, list[str]]]:
    code = _code(view.command) if view.command else ""
    return [
        (t("matrix"), [_matrix(view, t), *_pictures(view.plots_of("matrix"), t), _derivation(view, t)]),
        (t("comparisons"), [_comparisons(view, t), *_pictures(view.plots_of("comparisons"), t)]),
        (t("curves"), _pictures(view.plots_of("curves"), t)),
        (t("latency"), _pictures(view.plots_of("latency"), t)),
        (t("memory"), _pictures(view.plots_of("memory"), t)),
        (t("sensitivity"), _sensitivity(view, t)),
        (t("figures"), [_figures(view, t)]),
        (t("not_measured"), [table([t("figure"), t("option"), t("why")], view.not_measured)]),
        (t("parity"), [table([t("item"), t("value")], view.parity)]),
        (t("environment"), [table([t("item"), t("value")], view.environment)]),
        (t("settings"), [table([t("item"), t("value")], view.settings)]),
        (t("repeat"), [code, t("raw_elsewhere") if view.groups and code else ""]),
    ]


def _matrix(view: View, t: Texts) -> str:
    rows = [
        (c.title, c.weight, *("" if s is None else f"{s.told} {s.between}".strip() for s in c.cells))
        for c in view.criteria
    ]
    sums = {s.key.name: f"{s.total} {s.between}".strip() for s in view.verdict.sums}
    if rows:
        rows.append((t("sum"), "100 %", *(sums.get(k.name, "") for k in view.keys)))
    return table([t("criterion"), t("weight"), *(k.label for k in view.keys)], rows)


def _derivation(view: View, t: Texts) -> str:
    rows = [
        (s.criterion, s.key.label, f"{s.told} {s.between}".strip(), s.formula,
         t("comma").join(dict.fromkeys(title for title, _ in s.evidence)), t("comma").join(s.missing))
        for c in view.criteria for s in c.cells if s is not None
    ]  # fmt: skip
    columns = [t("criterion"), t("option"), t("score"), t("formula"), t("evidence"), t("not_measured")]
    return table(columns, rows)


def _comparisons(view: View, t: Texts) -> str:
    columns = [t("pair", a="a", b="b"), t("figure"), t("ratio"), t("interval_of", confidence=view.confidence),
               t("rounds"), t("finding"), t("note")]  # fmt: skip
    rows = [(c.pair, c.title, c.ratio, c.interval, str(c.rounds), c.finding, c.note) for c in view.comparisons]
    return table(columns, rows)


def _sensitivity(view: View, t: Texts) -> list[str]:
    flips = table(
        [t("change"), t("now"), t("needed"), t("then")], [(f.change, f.now, f.needed, f.then) for f in view.flips]
    )
    pareto = table([t("option"), t("standing")], [(k.label, told) for k, told in view.pareto])
    return [
        *_pictures(view.plots_of("sensitivity"), t),
        *([f"### {t('flips')}", flips] if flips else []),
        *([f"### {t('pareto')}", pareto, t("pareto_hint")] if pareto else []),
    ]


def _figures(view: View, t: Texts) -> str:
    rows = []
    for group in view.groups:
        for row in group.rows:
            told = "; ".join(f"{k}: {v}" for k, v in (*group.conditions, *row.conditions))
            m = row.measurement
            rows.append((group.title, row.key.label, row.value, row.spread, str(m.n), t.origin(m.origin), told))
    columns = [t("figure"), t("option"), t("value"), t("spread"), t("samples"), t("origin"), t("conditions")]
    return table(columns, rows)


def _code(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"
