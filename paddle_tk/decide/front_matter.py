"""Markdown with a YAML front matter: what a program reads above, what people say below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paddle_tk.errors import BadInput
from paddle_tk.files import sha256_bytes

_FENCE = "---"
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Document:
    """A file with a front matter.

    Attributes:
        path: Of the file.
        values: The front matter; empty where there is none.
        prose: What stands below it.
        sha256: Of the whole file.
    """

    path: Path
    values: dict[str, Any]
    prose: str
    sha256: str


def read_document(path: Path, fix: str) -> Document:
    """Reads a file with a front matter.

    Args:
        path: Of the file.
        fix: What a user does where it is not there.

    Raises:
        BadInput: No such file, not UTF-8, larger than 1 MiB, or a front matter that is not a YAML mapping.
    """
    if not path.is_file():
        raise BadInput(f"there is no {path}", fix)
    payload = path.read_bytes()
    if len(payload) > _MOST_BYTES:
        raise BadInput(f"{path} has {len(payload)} bytes, at most {_MOST_BYTES} are read", "give the right file")
    try:
        text = payload.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    head, prose = _split(path, text)
    return Document(path, _values(path, head), prose.strip(), sha256_bytes(payload))


def _split(path: Path, text: str) -> tuple[str, str]:
    lines = text.split("\n")
    if not lines or lines[0].rstrip() != _FENCE:
        return "", text
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == _FENCE:
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    raise BadInput(f"{path} opens a front matter with --- and does not close it", "add a line --- below the last key")


def _values(path: Path, head: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(head) if head.strip() else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 2}" if mark else ""
        raise BadInput(f"{path}{line}: the front matter is not valid YAML", "correct it") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadInput(f"{path}: the front matter holds {type(values).__name__}, expected keys", "write key: value")
    return {str(key): value for key, value in values.items()}
