"""``data=auto``: which dataset suits this machine, why, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paddle_tk.data.catalog import Entry, Tier
from paddle_tk.data.fetching.http import Probe
from paddle_tk.data.states import DatasetState

Kind = Literal["classification", "detection"]
GIB = 2**30
# Below the first: the debug tier; up to the second: production with half the batch; above: production as configured.
LEAST_GIB, FULL_GIB = 8, 16
# More than this is not downloaded unasked.
DOWNLOAD_UNASKED_BYTES = 10**9
PREFERRED: Mapping[Kind, Mapping[Tier, tuple[str, ...]]] = {
    "classification": {"debug": ("cifar10",), "production": ("imagenet1k",)},
    "detection": {"debug": ("coco128",), "production": ("coco2017", "voc")},
}
EMBEDDED: Mapping[Kind, str] = {"classification": "digits", "detection": "digits_detection"}
_MOST_WORKERS = 4


@dataclass(frozen=True)
class Machine:
    """What counts of a machine.

    Attributes:
        gpu_bytes: Memory of each GPU.
        cores: Usable ones.
        memory_bytes: RAM.
        free_bytes: Free on the disk of the datasets.
    """

    gpu_bytes: tuple[int, ...]
    cores: int
    memory_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, hardware: Mapping[str, Any], free_bytes: int) -> Machine:
        """Returns it from ``environment.devices.hardware()``."""
        gpus = tuple(int(gpu["memory_bytes"]) for gpu in hardware["gpus"])
        return cls(gpus, int(hardware["cores"]), int(hardware["memory_bytes"]), free_bytes)


@dataclass(frozen=True)
class TierChoice:
    """Which tier suits a machine.

    Attributes:
        tier: See ``catalog``.
        careful: Whether batch and workers should be smaller than configured.
        reason: In words.
    """

    tier: Tier
    careful: bool
    reason: str


@dataclass(frozen=True)
class Pick:
    """The dataset that ``data=auto`` stands for.

    Attributes:
        name: Of the catalog.
        careful: Whether batch and workers should be smaller than configured.
        download: Whether it has to be downloaded first.
        reasons: Why, one sentence each.
        probe: What its server was measured at.
    """

    name: str
    careful: bool
    download: bool
    reasons: tuple[str, ...]
    probe: Probe | None = None


def choose_tier(machine: Machine) -> TierChoice:
    """Chooses by the smallest GPU, as a job on several is as large as that allows.

    A card's memory is rounded to whole GiB first: an "8 GB" card shows its owner 7.8.
    """
    if not machine.gpu_bytes:
        return TierChoice("debug", False, "no GPU: debug tier")
    least = round(min(machine.gpu_bytes) / GIB)
    if least < LEAST_GIB:
        return TierChoice("debug", False, f"a GPU of {least} GiB, below {LEAST_GIB}: debug tier")
    if least <= FULL_GIB:
        reason = f"a GPU of {least} GiB: production tier, with half the batch and at most {_MOST_WORKERS} workers"
        return TierChoice("production", True, reason)
    return TierChoice("production", False, f"a GPU of {least} GiB, above {FULL_GIB}: production tier in full")


def pick(
    kind: Kind,
    machine: Machine,
    states: Mapping[str, DatasetState],
    entries: Mapping[str, Entry],
    look: Callable[[Entry], Probe | None],
) -> Pick:
    """Picks the best dataset of the machine's tier that is here or may be fetched, else the embedded one.

    Args:
        kind: What the network is for.
        machine: Where it will be trained.
        states: What is on disk, by name.
        entries: The catalog.
        look: Looks at a dataset's server; None: it cannot be reached, or must not be asked.
    """
    choice = choose_tier(machine)
    reasons = [choice.reason]
    for tier in ("production", "debug") if choice.tier == "production" else ("debug",):
        names = PREFERRED[kind][tier]
        here = [name for name in names if states[name].ready]
        if here:
            reasons.append(f"{here[0]} is on disk ({states[here[0]].state})")
            return Pick(here[0], choice.careful and tier == "production", False, tuple(reasons))
        entry = entries[names[0]]
        size = entry.download_bytes
        if tier == "production" or (size or 0) > DOWNLOAD_UNASKED_BYTES:
            told = "an unknown size" if size is None else f"{size / 1e9:.0f} GB"
            reasons.append(f"{' or '.join(names)} is not on disk, and {told} is not fetched unasked: {_setup(entry)}")
            continue
        probe = look(entry)
        if probe is not None:
            reasons.append(f"{entry.name} is fetched: it is not on disk, and its server answers")
            return Pick(entry.name, False, True, tuple(reasons), probe)
        reasons.append(f"{entry.name} is not on disk and was not fetched: {_setup(entry)}")
    reasons.append(f"so the embedded {EMBEDDED[kind]}")
    return Pick(EMBEDDED[kind], False, False, tuple(reasons))


def _setup(entry: Entry) -> str:
    return f"python tools/dataset.py setup {entry.name}"


def careful_settings(batch_size: int, cores: int) -> dict[str, int]:
    """Returns batch and workers for a GPU that holds the production tier only just.

    Args:
        batch_size: The configured one.
        cores: Usable ones.
    """
    return {"batch_size": max(1, batch_size // 2), "num_workers": max(1, min(_MOST_WORKERS, cores // 2))}
