"""What users wrote, made fit for file names, Markdown and requirements; templates and how they are filled."""

from __future__ import annotations

import importlib.resources
import re
import unicodedata
from collections.abc import Mapping
from importlib.resources.abc import Traversable

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from paddle_tk.errors import BadInput

SUFFIX = ".tmpl"
_PLACEHOLDER = re.compile(r"@@([a-z0-9_]+)@@")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#&~])")
_LONGEST_SLUG, _LONGEST_TEXT = 48, 200


def slug(text: str, otherwise: str) -> str:
    """Returns lower-case letters, digits and single hyphens: fit for a folder, an image and a container.

    Args:
        text: Anything.
        otherwise: Returned where nothing is left of it (a name in Chinese, say).
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST_SLUG].strip("-") or otherwise


def markdown(text: str) -> str:
    """Returns ``text`` as one line that Markdown and HTML show as it was written, at most 200 characters of it."""
    seen = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(seen.split())
    return _MARKDOWN.sub(r"\\\1", line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…")


def pin(package: str, version: str) -> str:
    """Returns a line of a requirements file.

    Args:
        package: A distribution's name, from this package's own table.
        version: "3.3.1", or specifiers such as ">=3.3,<4".

    Raises:
        BadInput: ``version`` is neither; nothing else may reach a file that pip reads.
    """
    try:
        return f"{package}=={Version(version)}"
    except InvalidVersion:
        pass
    try:
        return f"{package}{SpecifierSet(version)}"
    except InvalidSpecifier as error:
        raise BadInput(
            f"the version of {package} is {version!r}", "give a version such as 3.3.1 or a range such as '>=3.3,<4'"
        ) from error


def templates(*folders: str) -> dict[str, str]:
    """Returns the templates' texts by the path each gets in a project ("tests/test_smoke.py")."""
    root = importlib.resources.files(__package__).joinpath("templates")
    return dict(sorted(item for folder in folders for item in _texts(root.joinpath(folder), "").items()))


def _texts(folder: Traversable, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _texts(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            found[prefix + entry.name.removesuffix(SUFFIX)] = entry.read_text(encoding="utf-8")
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replaces ``@@name@@`` in one pass: what a value holds is never looked at again.

    Raises:
        KeyError: The template names a value that is not given.
    """
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
