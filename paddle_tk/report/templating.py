"""Jinja2, set up so that whatever a user wrote is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Returns the templates of this package: everything is escaped, a name that does not exist is an error."""
    return Environment(
        loader=PackageLoader("paddle_tk.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def plot_style() -> str:
    """Returns the CSS that colours plots, light and dark."""
    return environment().get_template("plots.css").render().strip()
