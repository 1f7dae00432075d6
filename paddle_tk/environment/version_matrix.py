"""What each stage of a project installs, as rows with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import Version

from paddle_tk.environment.version_table import Framework, Stage, Table, load_table, rules, within

STATED = "stated by the user"


@dataclass(frozen=True)
class VersionRow:
    """One line of a version matrix.

    Attributes:
        component: A distribution, "python", "cuda", "cudnn" or "driver".
        version: Exact, or a bound such as ">=525.60.13".
        note: What restricts it.
        source: Where it is known from.
    """

    component: str
    version: str
    note: str
    source: str


def version_matrix(framework: Framework, stage: Stage, *, wanted: Mapping[str, str] | None = None) -> list[VersionRow]:
    """Returns what a stage installs for a framework.

    Args:
        framework: "paddle" or "torch".
        stage: "venv": CPU, virtual environment; "docker": GPU image.
        wanted: Versions the user states, by component; they replace the table's. Components of the other framework
            are left out, as are "cuda" and "driver" of a CPU environment.

    Returns:
        Rows in the table's order, then cuDNN where it is known and the drivers where there is a CUDA.
    """
    table = load_table()
    stages = table.stages[stage]
    pins = [*stages.shared, *(stages.paddle if framework == "paddle" else stages.torch)]
    rows = {p.component: VersionRow(p.component, p.version, p.note, table.source(p.source)) for p in pins}
    for component, version in (wanted or {}).items():
        name = _installed_as(component.lower(), stage)
        if name in rows or (name in ("torchvision", "torchaudio") and framework == "torch"):
            rows[name] = VersionRow(name, version, "", STATED)
    driver = (wanted or {}).get("driver")
    return [*rows.values(), *_cuda_rows(table, framework, rows, driver)]


def _installed_as(component: str, stage: Stage) -> str:
    if component in ("paddlepaddle", "paddlepaddle-gpu"):
        return "paddlepaddle" if stage == "venv" else "paddlepaddle-gpu"
    return component


def _cuda_rows(
    table: Table, framework: Framework, rows: Mapping[str, VersionRow], driver: str | None
) -> list[VersionRow]:
    if "cuda" not in rows:
        return []
    cuda = rows["cuda"].version
    release = ".".join(cuda.split(".")[:2])
    known = {"cuda": cuda, **{name: row.version for name, row in rows.items()}}
    found = []
    cudnn = _cudnn(table, framework, rows, release)
    if cudnn is not None:
        found.append(cudnn)
    asked = [
        rule for rule in rules()
        if rule.partner == "driver" and rule.package == "cuda" and within(cuda, rule.versions)
        and (not rule.only_with or rule.only_with in known)
    ]  # fmt: skip
    if asked:
        strictest = max(asked, key=lambda rule: Version(rule.allowed.removeprefix(">=")))
        note = strictest.why if driver is None else f"{strictest.why}; {driver} is stated by the user"
        found.append(VersionRow("driver", strictest.allowed, note, strictest.source))
    for row in table.cuda.full:
        if row.cuda == release:
            note = f"for everything CUDA {release} can do"
            found.append(VersionRow("driver (full)", f">={row.driver}", note, table.source(row.source)))
    return found


def _cudnn(table: Table, framework: Framework, rows: Mapping[str, VersionRow], cuda: str) -> VersionRow | None:
    if framework == "torch":
        fitting = [(r.cudnn, r.published) for r in table.torch if within(rows["torch"].version, f"=={r.torch}.*")]
    else:
        version = rows["paddlepaddle-gpu"].version
        fitting = [(r.cudnn, r.published) for r in table.paddle if within(version, r.paddle)]
    for by_cuda, source in fitting:
        if cuda in by_cuda:
            return VersionRow("cudnn", by_cuda[cuda], f"with CUDA {cuda}", table.source(source))
    return None
