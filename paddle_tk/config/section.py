"""What every section of a config is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

NOT_IDENTITY: dict[str, Any] = {"identity": False}


class Section(BaseModel):
    """A section: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
