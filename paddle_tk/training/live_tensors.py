"""Which tensors and NumPy arrays live on, where they were made, and what holds them. For debugging: slow.

Neither kind is known to Python's garbage collector; they are found as what its objects refer to. Where an object was
made is known of those that are made after ``tracemalloc`` began.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import paddle

SNAPSHOTS = 4  # in a row, in each of which there are more of a kind than in the one before
_FRAMES = 12
_DEPTH = 4  # holders of holders
_SHOWN = 5
_LIBRARIES = ("/site-packages/", "/lib/python", "<frozen")
_MIB = 2**20
_TYPES = (paddle.Tensor, np.ndarray)


@dataclass(frozen=True)
class Kind:
    """Tensors or arrays that look the same.

    Attributes:
        type: "Tensor" or "ndarray".
        shape: Its shape.
        dtype: Its type of number.
        made_at: File and line outside of libraries, or empty where it is unknown.
    """

    type: str
    shape: tuple[int, ...]
    dtype: str
    made_at: str


@dataclass(frozen=True)
class LivingOn:
    """A kind of which there are more and more.

    Attributes:
        kind: Which.
        counts: How many there were in each of the last snapshots.
        grown_mb: What the additional ones hold themselves.
        keeps_graph: They are results whose gradients are still possible: each keeps all activations behind it.
        held_by: The chain of what holds one of them, from the nearest on.
    """

    kind: Kind
    counts: tuple[int, ...]
    grown_mb: float
    keeps_graph: bool
    held_by: str

    def line(self) -> str:
        """Returns it as a line of text."""
        shape = ", ".join(map(str, self.kind.shape))
        graph = "; each keeps its graph with all activations" if self.keeps_graph else ""
        place = f", made at {self.kind.made_at}" if self.kind.made_at else ""
        return (
            f"{self.kind.type} [{shape}] {self.kind.dtype}: {' -> '.join(map(str, self.counts))} alive, "
            f"{self.grown_mb:.1f} MB more{place}{graph}, held by {self.held_by}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


class LiveTensors:
    """Compares snapshots of what is alive."""

    def __init__(self) -> None:
        if not tracemalloc.is_tracing():
            tracemalloc.start(_FRAMES)
        self._counts: deque[dict[Kind, int]] = deque(maxlen=SNAPSHOTS)
        self._earlier: set[int] = set()

    def snapshot(self) -> list[LivingOn]:
        """Looks at all that is alive.

        Returns:
            The kinds that have grown with every one of the last snapshots, those with the most memory first.
        """
        gc.collect()
        groups: dict[Kind, list[Any]] = defaultdict(list)
        for item in living():
            groups[_kind(item)].append(item)
        self._counts.append({kind: len(items) for kind, items in groups.items()})
        grown = [kind for kind in groups if self._grows(kind)]
        found = [self._describe(kind, groups[kind]) for kind in grown]
        self._earlier = {id(item) for items in groups.values() for item in items}
        return sorted(found, key=lambda item: (-item.grown_mb, -item.counts[-1]))[:_SHOWN]

    def _grows(self, kind: Kind) -> bool:
        counts = [snapshot.get(kind, 0) for snapshot in self._counts]
        return len(counts) == SNAPSHOTS and all(a < b for a, b in pairwise(counts))

    def _describe(self, kind: Kind, items: list[Any]) -> LivingOn:
        counts = tuple(snapshot.get(kind, 0) for snapshot in self._counts)
        new = [item for item in items if id(item) not in self._earlier] or items
        graph = any(isinstance(item, paddle.Tensor) and not item.stop_gradient and not item.is_leaf for item in new)
        held = " <- ".join(holders(new[-1], ignore=[items, new]))
        grown_mb = (counts[-1] - counts[0]) * _bytes(items[0]) / _MIB
        return LivingOn(kind, counts, grown_mb, graph, held or "nothing known")


def living() -> Iterator[Any]:
    """Yields every tensor and every array that owns its numbers, each once."""
    seen: set[int] = set()
    # All at once, as every list that is made is costly while tracemalloc runs; by type, as isinstance() asks the object
    # for its __class__, which makes some of them warn or load something.
    for item in [item for item in gc.get_referents(*gc.get_objects()) if issubclass(type(item), _TYPES)]:
        owner = _owner(item) if isinstance(item, np.ndarray) else item
        if owner is not None and id(owner) not in seen:
            seen.add(id(owner))
            yield owner


def _owner(array: np.ndarray) -> np.ndarray | None:
    """Returns the array whose numbers a view shows; None where no array owns them."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else None


def _kind(item: Any) -> Kind:
    name = "Tensor" if isinstance(item, paddle.Tensor) else "ndarray"
    return Kind(name, tuple(int(n) for n in item.shape), str(item.dtype).removeprefix("paddle."), _made_at(item))


def _bytes(item: Any) -> int:
    return int(item.nbytes) if isinstance(item, np.ndarray) else int(item.size) * int(item.element_size())


def _made_at(item: Any) -> str:
    trace = tracemalloc.get_object_traceback(item)
    frames = [] if trace is None else [f for f in trace if not any(part in f.filename for part in _LIBRARIES)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def holders(item: Any, ignore: list[Any]) -> list[str]:
    """Returns what holds an object, what holds that, and so on, up to something with a name.

    Args:
        item: The object.
        ignore: Lists of our own that hold it too.
    """
    chain: list[str] = []
    known = {id(item), *(id(one) for one in ignore), id(ignore)}
    for _ in range(_DEPTH):
        found = [r for r in gc.get_referrers(item) if id(r) not in known and not isinstance(r, FrameType)]
        if not found:
            break
        holder = min(found, key=_rank)
        named = _name(holder, item)
        chain.append(named or f"{type(holder).__name__} of {len(holder) if hasattr(holder, '__len__') else 1}")
        if named:
            break
        known |= {id(holder), id(found)}
        item = holder
    return chain


def _rank(holder: Any) -> int:
    """Objects with a name tell more than plain containers."""
    return 1 if isinstance(holder, list | tuple | set) or type(holder).__name__ == "list_iterator" else 0


def _name(holder: Any, item: Any) -> str:
    """Returns the module variable or the attribute that holds an item; empty where there is none."""
    if isinstance(holder, ModuleType):
        holder = vars(holder)
    if isinstance(holder, dict):
        key = next((key for key, value in holder.items() if value is item), "?")
        if "__name__" in holder and "__builtins__" in holder:
            return f"{holder['__name__']}.{key}"
        owner = next((o for o in gc.get_referrers(holder) if getattr(o, "__dict__", None) is holder), None)
        return f"attribute '{key}' of {_type(owner)}" if owner is not None else ""
    if isinstance(holder, list | tuple | set | deque):
        return ""
    attributes = getattr(holder, "__dict__", {})
    key = next((key for key, value in attributes.items() if value is item), "")
    return f"attribute '{key}' of {_type(holder)}" if key else ""


def _type(item: Any) -> str:
    return f"{type(item).__module__}.{type(item).__name__}"
