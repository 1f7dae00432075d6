"""CREATE.md and PLANNING.md to be filled in, written from the schema: every key with what is wanted and an example."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from paddle_tk.decide.needs import Create, Planning
from paddle_tk.decide.requirements import section_of

_WIDTH = 40
_PROSE: dict[str, tuple[type[BaseModel], str]] = {
    "CREATE.md": (
        Create,
        "# What we need\n\nWrite here, in your own words, what the project is for and what a good result looks like. "
        "This text is kept\nand quoted in INITIAL.md.\n",
    ),
    "PLANNING.md": (
        Planning,
        "# What we have decided\n\nWrite here, in your own words, why, and what is still open. This text is kept and "
        "quoted in INITIAL.md.\n",
    ),
}
_HEAD = (
    "# Fill in the values; a blank one is asked for by name. Lists may have more entries of the same form.\n"
    "# 'optional' may stay as it is or be deleted.\n"
)


def template(name: str, *, filled: bool = False) -> str:
    """Returns the text of a template.

    Args:
        name: "CREATE.md" or "PLANNING.md".
        filled: With the examples as values, instead of in the comments only.
    """
    schema, prose = _PROSE[name]
    lines = "\n".join(_section(schema, 0, filled))
    return f"---\n{_HEAD}{lines}\n---\n\n{prose}"


def _section(schema: type[BaseModel], depth: int, filled: bool, *, dash: bool = False) -> Iterator[str]:
    indent = "  " * depth
    for number, (name, field) in enumerate(schema.model_fields.items()):
        lead = indent[:-2] + "- " if dash and number == 0 else indent
        section = section_of(field)
        if section is None:
            yield _line(lead, name, field, filled)
            continue
        is_list = typing.get_origin(field.annotation) is list
        optional = "" if field.is_required() else "optional; "
        comment = field.description or (section.__doc__ or "").strip()
        yield f"{lead}{name}:".ljust(_WIDTH) + f"  # {optional}{comment}"
        yield from _section(section, depth + (2 if is_list else 1), filled, dash=is_list)


def _line(lead: str, name: str, field: FieldInfo, filled: bool) -> str:
    example = field.examples[0] if field.examples else None
    blank = "" if field.is_required() else _inline(field.get_default(call_default_factory=True))
    value = _inline(example) if filled and example is not None else blank
    optional = "" if field.is_required() else "optional; "
    shown = "" if filled or example is None else f", for instance {_inline(example)}"
    return f"{lead}{name}: {value}".rstrip().ljust(_WIDTH) + f"  # {optional}{field.description}{shown}"


def _inline(value: Any) -> str:
    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
