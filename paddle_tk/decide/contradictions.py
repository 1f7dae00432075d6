"""Answers that cannot all be true, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from paddle_tk.config.compare_schema import CRITERIA
from paddle_tk.decide.needs import Create, Planning
from paddle_tk.environment.version_matrix import version_matrix
from paddle_tk.environment.version_table import Framework, Stage
from paddle_tk.environment.versions import check_wanted
from paddle_tk.export.edge.devices import device_names
from paddle_tk.registry import closest

_METRICS = {"classification": ("top1", "top5"), "detection": ("map50", "map50_95")}
_SUM_TOLERANCE = 1e-6
_PLACES: dict[Stage, str] = {"venv": "CPU environment", "docker": "GPU image"}
_FRAMEWORKS: tuple[Framework, ...] = ("paddle", "torch")


def contradictions(create: Create, planning: Planning) -> list[str]:
    """Returns everything that CREATE.md and PLANNING.md say and that cannot hold together."""
    found = [
        *_task(create),
        *_devices(create, planning),
        *_team(create, planning),
        *_time(create, planning),
        *_scores(planning),
        *_hardware(create, planning),
        *_versions(planning),
    ]
    return list(dict.fromkeys(found))


def _task(create: Create) -> Iterator[str]:
    kind, metric = create.task.kind, create.accuracy.metric
    if metric not in _METRICS[kind]:
        yield (
            f"CREATE.md: accuracy.metric {metric} does not go with task.kind {kind}, "
            f"which has {' and '.join(_METRICS[kind])}"
        )
    if kind == "classification" and create.data.classes < 2:
        yield f"CREATE.md: data.classes is {create.data.classes}, a classification needs at least 2"
    if create.data.images < create.data.classes:
        yield f"CREATE.md: data.images is {create.data.images}, fewer than data.classes, {create.data.classes}"


def _devices(create: Create, planning: Planning) -> Iterator[str]:
    known = device_names()
    for name in create.devices:
        if name not in known:
            near = closest(name, known)
            hint = f"did you mean '{near}'? " if near else ""
            yield f"CREATE.md: devices has an unknown '{name}', {hint}known: {', '.join(known)}"
    if len(set(create.devices)) < len(create.devices):
        yield "CREATE.md: devices names one twice"
    limits = [("latency", i, entry.device) for i, entry in enumerate(create.latency)]
    limits += [("memory", i, entry.device) for i, entry in enumerate(create.memory)]
    for section, number, device in limits:
        if device not in create.devices:
            yield f"CREATE.md: {section}[{number}].device '{device}' is not among devices ({', '.join(create.devices)})"
    places = {"cpu", "gpu", *create.devices}
    for number, figure in enumerate(planning.memory):
        if figure.device not in places:
            yield f"PLANNING.md: memory[{number}].device '{figure.device}' is none of {', '.join(sorted(places))}"


def _team(create: Create, planning: Planning) -> Iterator[str]:
    considered = {option.partition("-")[0] for option in planning.options}
    if len(set(planning.options)) < len(planning.options):
        yield "PLANNING.md: options names one twice"
    for framework in sorted(considered - set(create.team.familiarity)):
        yield f"CREATE.md: team.familiarity.{framework} is missing: how well the team knows it, 0 to 5, or unknown"
    for name in create.team.familiarity:
        if name not in _FRAMEWORKS:
            near = closest(name, list(_FRAMEWORKS))
            yield f"CREATE.md: team.familiarity names '{name}', " + (
                f"did you mean '{near}'?" if near else "the frameworks are paddle and torch"
            )
    if planning.resources.people > create.team.size:
        yield (
            f"PLANNING.md: resources.people is {planning.resources.people}, "
            f"more than team.size in CREATE.md, {create.team.size}"
        )


def _time(create: Create, planning: Planning) -> Iterator[str]:
    deadline, start = create.budget.deadline, planning.start
    if deadline <= start:
        yield f"CREATE.md: budget.deadline {deadline} is not after start in PLANNING.md, {start}"


def _scores(planning: Planning) -> Iterator[str]:
    weights = planning.weights
    if weights is not None:
        total = sum(weights.values())
        if abs(total - 1) > _SUM_TOLERANCE or min(weights.values()) < 0:
            yield f"PLANNING.md: weights must be 0 or more and sum to 1, they sum to {total:g}"
    criteria = list(weights) if weights is not None else list(CRITERIA)
    for option, scores in planning.scores.items():
        if option not in planning.options:
            yield f"PLANNING.md: scores names '{option}', which is not among options ({', '.join(planning.options)})"
        for criterion in scores:
            if criterion not in criteria:
                near = closest(criterion, criteria)
                hint = f"did you mean '{near}'?" if near else f"known: {', '.join(criteria)}"
                yield f"PLANNING.md: scores.{option} names an unknown criterion '{criterion}', {hint}"


def _hardware(create: Create, planning: Planning) -> Iterator[str]:
    resources = planning.resources
    for key, value in (("cuda", resources.cuda), ("driver", resources.driver)):
        if value is not None and not resources.gpus:
            yield (
                f"PLANNING.md: resources.{key} is {value}, but resources.gpus names no GPU to use it on "
                f"(the devices of CREATE.md bring their own: {', '.join(create.devices)})"
            )
    stated = planning.versions.get("cuda")
    if stated is not None and resources.cuda is not None and stated != resources.cuda:
        yield f"PLANNING.md: versions.cuda is {stated} and resources.cuda is {resources.cuda}; give one"
    if planning.training.batch_size > create.data.images:
        yield (
            f"PLANNING.md: training.batch_size is {planning.training.batch_size}, "
            f"more than data.images in CREATE.md, {create.data.images}"
        )


def wanted_versions(planning: Planning) -> dict[str, str]:
    """Returns the versions that PLANNING.md states, CUDA and driver included."""
    resources = planning.resources
    stated = {"cuda": resources.cuda, "driver": resources.driver, **planning.versions}
    return {name.lower(): version for name, version in stated.items() if version is not None}


def _versions(planning: Planning) -> Iterator[str]:
    wanted = wanted_versions(planning)
    considered = {option.partition("-")[0] for option in planning.options}
    stages: list[Stage] = ["venv", "docker"] if planning.resources.gpus or "cuda" in wanted else ["venv"]
    sets = [("", wanted)]  # what is stated must hold by itself, also where it is no part of a stage
    for framework in (f for f in _FRAMEWORKS if f in considered):
        for stage in stages:
            rows = version_matrix(framework, stage, wanted=wanted)
            planned = {row.component: row.version for row in rows if not row.version.startswith(">")}
            driver = {"driver": wanted["driver"]} if "driver" in wanted else {}
            sets.append((f"in the {_PLACES[stage]}, ", {**planned, **driver}))
    told: set[str] = set()
    for place, versions in sets:
        for problem in check_wanted(versions):
            if str(problem) not in told:
                told.add(str(problem))
                yield f"PLANNING.md: {place}{problem}"
