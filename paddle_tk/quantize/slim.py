"""PaddleSlim's observers without the rest of PaddleSlim."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from paddle_tk.errors import BadInput

_PACKAGE, _OBSERVERS = "paddleslim", "paddleslim.quant.observers"
_FIX = "pip install --no-deps -r requirements-nodeps.txt"


def load_observers() -> ModuleType:
    """Returns the package ``paddleslim.quant.observers``.

    ``import paddleslim`` takes more than two seconds, loads matplotlib, SciPy's statistics and pkg_resources, warns,
    and hangs a handler of its own on Python's root logger. The observers need none of it: they are modules that import
    Paddle and each other, so the package is loaded under its own name without its parents' ``__init__``.

    Raises:
        BadInput: PaddleSlim is not installed, or its observers cannot be loaded.
    """
    if _OBSERVERS in sys.modules:
        return sys.modules[_OBSERVERS]
    parent = importlib.util.find_spec(_PACKAGE)
    places = list(parent.submodule_search_locations or []) if parent is not None else []
    if not places:
        raise BadInput("PaddleSlim, whose observers calibrate INT8 models, is not installed", _FIX)
    folder = Path(places[0]) / "quant" / "observers"
    spec = importlib.util.spec_from_file_location(
        _OBSERVERS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise BadInput(f"PaddleSlim in {places[0]} has no quant/observers", _FIX)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_OBSERVERS] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        del sys.modules[_OBSERVERS]
        raise BadInput(f"PaddleSlim's observers cannot be loaded: {error}", _FIX) from error
    return module
