"""How long the recipe is: the code a user of each framework keeps in a project of the same form."""

from __future__ import annotations

import ast
import io
import tokenize

from paddle_tk.decide.scaffold.text import templates
from paddle_tk.errors import BadInput
from paddle_tk.types import Measurement

_NOT_CODE = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
})  # fmt: skip
# What both projects share word for word, and what only one step beyond training and evaluating needs.
_LEFT_OUT = ("export.py",)
_DEFINITIONS = "networks.py"


def recipe_lines(framework: str) -> Measurement:
    """Counts the lines of code that train and evaluate the same networks on the same data.

    Counted are the scaffold's files that exist for this framework alone. What both projects share (data, config,
    tests) says nothing about either. Networks are not counted: Paddle brings them along, for torch they are in
    torchvision, which most users have; the torch project writes them out only to do without it.

    Args:
        framework: "paddle" or "torch".

    Returns:
        "recipe_lines": lines without blank lines, comments and docstrings; ``samples`` by file, in the order of
        ``conditions["files"]``.

    Raises:
        BadInput: Another framework.
    """
    if framework not in ("paddle", "torch"):
        raise BadInput(f"no recipe for the framework {framework!r}", "choose paddle or torch")
    own = {n: t for n, t in templates(framework).items() if n.endswith(".py") and n not in _LEFT_OUT}
    lines = {name: code_lines(text) for name, text in own.items()}
    definitions = lines.pop(_DEFINITIONS, 0)
    return Measurement(
        name="recipe_lines",
        value=float(sum(lines.values())),
        unit="lines",
        n=len(lines),
        origin="measured",
        samples=tuple(float(count) for count in lines.values()),
        device="none",
        conditions={
            "framework": framework,
            "files": lines,
            "network_definitions": definitions,
            "counted": "the scaffold's files of this framework that train and evaluate; no blank lines, comments, "
            "docstrings",
            "not_counted": "network definitions; data.py, settings.py, tests and configs, the same for both; export.py",
        },
    )


def code_lines(source: str) -> int:
    """Returns the lines that hold code: no blank line, no comment, no docstring.

    Args:
        source: A whole Python file.
    """
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NOT_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - _docstring_lines(source))


def _docstring_lines(source: str) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if first is not None and is_text and ast.get_docstring(node, clean=False) is not None:
            found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found
