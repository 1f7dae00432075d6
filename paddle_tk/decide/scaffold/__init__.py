"""The standard project for a chosen framework, written from a specification; it runs without paddle_tk."""

from paddle_tk.decide.scaffold.recipe import recipe_lines
from paddle_tk.decide.scaffold.write import write_scaffold

__all__ = ["recipe_lines", "write_scaffold"]
