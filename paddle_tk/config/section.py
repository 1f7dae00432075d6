"""What every section of a config is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Auto = Literal["auto"]
NOT_IDENTITY: dict[str, Any] = {"identity": False}
# Of a field that came after the first runs: part of the hash where it is not the default, so that theirs still holds.
ADDED_LATER: dict[str, Any] = {"identity": "unless default"}


class Section(BaseModel):
    """A section: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
