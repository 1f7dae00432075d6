"""Reads CREATE.md and PLANNING.md; everything that is missing or wrong in both is told at once."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from paddle_tk.config.section import Section
from paddle_tk.decide.contradictions import contradictions
from paddle_tk.decide.front_matter import Document, read_document
from paddle_tk.decide.needs import Create, Planning
from paddle_tk.errors import BadInput
from paddle_tk.registry import closest

CREATE, PLANNING = "CREATE.md", "PLANNING.md"
_S = TypeVar("_S", bound=Section)
_INIT = "write templates with: python tools/decide.py --init"


class RequirementsError(BadInput):
    """Answers that are missing, wrong or contradict each other.

    Args:
        items: One line for each.
    """

    def __init__(self, items: Sequence[str]) -> None:
        count = "1 answer is" if len(items) == 1 else f"{len(items)} answers are"
        super().__init__(
            f"{count} missing or wrong: {'; '.join(items)}",
            f"write them into the front matter; {_INIT.removeprefix('write ')}",
        )
        self.items = tuple(items)


@dataclass(frozen=True)
class Requirements:
    """What is needed and what has been planned.

    Attributes:
        create: CREATE.md.
        planning: PLANNING.md.
        create_file: The file, its prose and hash.
        planning_file: The other one.
    """

    create: Create
    planning: Planning
    create_file: Document
    planning_file: Document

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The frameworks considered, in the order of the options."""
        return tuple(dict.fromkeys(option.partition("-")[0] for option in self.planning.options))


def read_requirements(create: Path, planning: Path) -> Requirements:
    """Reads both files.

    Raises:
        BadInput: A file is not there, or its front matter cannot be read.
        RequirementsError: Answers are missing, wrong or contradict each other; all of them are listed.
    """
    create_file = read_document(create, _INIT)
    planning_file = read_document(planning, _INIT)
    problems: list[str] = []
    needs = _validated(Create, create_file.values, CREATE, problems)
    plan = _validated(Planning, planning_file.values, PLANNING, problems)
    if needs is not None and plan is not None:
        problems.extend(contradictions(needs, plan))
    if problems or needs is None or plan is None:
        raise RequirementsError(problems)
    return Requirements(needs, plan, create_file, planning_file)


def _validated(schema: type[_S], values: Mapping[str, Any], name: str, problems: list[str]) -> _S | None:
    try:
        return schema.model_validate(_answered(values))
    except ValidationError as error:
        found = [line for e in error.errors() for line in _explain(schema, e["loc"], e["type"], e["msg"], e["input"])]
        problems.extend(f"{name}: {line}" for line in dict.fromkeys(found))
        return None


def _answered(value: Any) -> Any:
    """Leaves out what was left blank in a template: it is missing, not wrong."""
    if isinstance(value, Mapping):
        kept = {str(k): _answered(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v != "" and v != {}}
    if isinstance(value, list):
        kept_items = [v for v in map(_answered, value) if v is not None and v != "" and v != {}]
        return kept_items if kept_items or not value else None  # [] says none, blank entries say nothing
    return value


def _explain(schema: type[Section], location: tuple[Any, ...], kind: str, message: str, value: Any) -> Iterator[str]:
    names, field = _path(schema, location)
    key = ".".join(names)
    if kind == "extra_forbidden":
        near = closest(key, list(known_keys(schema)))
        yield f"unknown key '{key}'" + (f", did you mean '{near}'?" if near else "")
    elif kind == "missing" or (kind == "too_short" and not value):
        yield from (f"{k} is missing: {what}" for k, what in _questions(key, field))
    else:
        text = message.removeprefix("Value error, ").removeprefix("Input ").strip()
        wanted = f" ({field.description})" if field is not None and field.description else ""
        quotes = ", put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
        yield f"{key} {text}{quotes}, got {_short(value)}{wanted}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _path(schema: type[Section], location: tuple[Any, ...]) -> tuple[list[str], FieldInfo | None]:
    """Returns a location as keys and the field it names or lies in."""
    names: list[str] = []
    section: type[BaseModel] | None = schema
    field: FieldInfo | None = None
    for part in location:
        if isinstance(part, int):
            names[-1] += f"[{part}]"
            continue
        names.append(str(part))
        if section is not None:  # below a plain mapping every part is a key of it
            field = section.model_fields.get(str(part))
            section = section_of(field) if field is not None else None
    return names, field


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the section a field holds, or holds a list of; None for a plain value."""
    for annotation in (field.annotation, *typing.get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def _questions(key: str, field: FieldInfo | None) -> Iterator[tuple[str, str]]:
    """Returns what is asked for where ``key`` is missing: the keys below a section that need an answer."""
    section = section_of(field) if field is not None else None
    if field is None or section is None:
        yield key, (field.description or "") if field is not None else ""
        return
    entry = f"{key}[0]" if typing.get_origin(field.annotation) is list else key
    for name, below in section.model_fields.items():
        if below.is_required():
            yield from _questions(f"{entry}.{name}", below)


def known_keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yields every key of a schema, dotted, depth first."""
    for name, field in schema.model_fields.items():
        yield prefix + name
        section = section_of(field)
        if section is not None:
            yield from known_keys(section, f"{prefix}{name}.")
