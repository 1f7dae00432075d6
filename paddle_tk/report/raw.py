"""Raw samples and curves as data inside the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from paddle_tk.evidence import Evidence

# What could end a script element or be read as markup, and the two line ends that old scripts choke on.
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def raw_data(evidence: Evidence | None) -> dict[str, Any]:
    """Returns all samples by option and figure, and all curves, of JSON types; what is not finite is None."""
    if evidence is None:
        return {"figures": [], "curves": []}
    figures = [
        {"option": f.option, "figure": m.name, "unit": m.unit, "n": m.n, "origin": m.origin, "device": m.device,
         "conditions": m.conditions, "samples": m.samples}
        for f in evidence.figures
        if (m := f.measurement).samples
    ]  # fmt: skip
    curves = [{"option": c.option, "curve": c.name, "x_label": c.x_label, "y_label": c.y_label, "x": c.x, "y": c.y}
              for c in evidence.curves]  # fmt: skip
    told: dict[str, Any] = json_types({"created": evidence.created, "figures": figures, "curves": curves})
    return told


def json_types(value: Any) -> Any:
    """Returns a copy of plain JSON types, with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(k): json_types(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [json_types(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def embedded(value: Any) -> Markup:
    """Returns JSON that can stand inside a script element whatever its texts are."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))  # noqa: S704 (everything that is markup was replaced above)
