from __future__ import annotations

from pathlib import Path

import pytest

from paddle_tk.data.catalog import Entry, catalog
from paddle_tk.data.fetching.http import Origin, Probe
from paddle_tk.data.select import GIB, Kind, Machine, careful_settings, choose_tier, pick
from paddle_tk.data.states import DatasetState, State

PROBE = Probe(Origin("http://x", 1, None, None, ranges=True), b"", 0.1, 1e6)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))


def machine(*gib: float) -> Machine:
    return Machine(tuple(int(size * GIB) for size in gib), cores=8, memory_bytes=32 * GIB, free_bytes=GIB)


def states(**known: State) -> dict[str, DatasetState]:
    names: dict[str, State] = {name: "embedded" if entry.embedded else "absent" for name, entry in catalog().items()}
    return {name: DatasetState(state, None, 0, "") for name, state in {**names, **known}.items()}


def _reachable(entry: Entry) -> Probe | None:
    return PROBE


def _offline(entry: Entry) -> Probe | None:
    return None


@pytest.mark.parametrize(
    ("gib", "tier", "careful"),
    [
        ((), "debug", False),
        ((6.0,), "debug", False),
        ((7.4,), "debug", False),
        ((7.8,), "production", True),  # what a card of 8 GB shows
        ((11.7,), "production", True),
        ((15.7,), "production", True),
        ((22.5,), "production", False),
        ((80.0, 6.0), "debug", False),
        ((24.0, 16.0), "production", True),
    ],
)
def test_tier_follows_the_smallest_gpu(gib: tuple[float, ...], tier: str, careful: bool) -> None:
    choice = choose_tier(machine(*gib))
    assert (choice.tier, choice.careful) == (tier, careful)


@pytest.mark.parametrize(
    ("kind", "gib", "known", "online", "name", "careful", "download"),
    [
        ("classification", (), {}, False, "digits", False, False),
        ("detection", (), {}, False, "digits_detection", False, False),
        ("classification", (), {}, True, "cifar10", False, True),
        ("detection", (), {}, True, "coco128", False, True),
        ("classification", (), {"cifar10": "partial"}, False, "digits", False, False),
        ("classification", (), {"cifar10": "unverified"}, False, "cifar10", False, False),
        ("classification", (), {"imagenet1k": "verified"}, False, "digits", False, False),
        ("classification", (12,), {"imagenet1k": "verified"}, True, "imagenet1k", True, False),
        ("classification", (24,), {"imagenet1k": "verified"}, True, "imagenet1k", False, False),
        ("detection", (24,), {"voc": "verified"}, True, "voc", False, False),
        ("detection", (24,), {"voc": "verified", "coco2017": "unverified"}, True, "coco2017", False, False),
        ("detection", (12,), {}, True, "coco128", False, True),
        ("detection", (12,), {"coco128": "verified"}, True, "coco128", False, False),
        ("detection", (24,), {}, False, "digits_detection", False, False),
    ],
)
def test_pick_takes_the_best_that_is_here_or_may_be_fetched(
    kind: Kind,
    gib: tuple[float, ...],
    known: dict[str, State],
    online: bool,
    name: str,
    careful: bool,
    download: bool,
) -> None:
    chosen = pick(kind, machine(*gib), states(**known), catalog(), _reachable if online else _offline)
    assert (chosen.name, chosen.careful, chosen.download) == (name, careful, download)
    assert chosen.reasons


def test_pick_never_fetches_production_unasked_and_says_how() -> None:
    asked: list[str] = []

    def look(entry: Entry) -> Probe | None:
        asked.append(entry.name)
        return PROBE

    chosen = pick("detection", machine(24), states(), catalog(), look)
    assert asked == ["coco128"]
    assert any("python tools/dataset.py setup coco2017" in reason and "20 GB" in reason for reason in chosen.reasons)


def test_careful_settings_halve_the_batch_and_bound_the_workers() -> None:
    assert careful_settings(64, 16) == {"batch_size": 32, "num_workers": 4}
    assert careful_settings(1, 1) == {"batch_size": 1, "num_workers": 1}
