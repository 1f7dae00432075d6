"""Checkpoints that are whole or absent: safetensors plus JSON, every byte under a SHA-256.

A checkpoint is a folder ``checkpoints/epoch-EEEE-step-SSSSSS`` named after the position it resumes from. It is written
beside its final name and renamed, so an interrupted write never looks like a checkpoint; a damaged one is found by its
hashes and passed over for the one before.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as safetensors_bytes

from paddle_tk.errors import ArtifactError
from paddle_tk.files import atomic_folder, canonical_json, remove_leftovers, sha256_bytes, write_json

STATE = "state.json"
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)$")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        folder: Where it lies.
        tensors: Arrays by part ("model", "optimizer", "ema") and name.
        state: Everything that is not a tensor.
    """

    folder: Path
    tensors: Mapping[str, Arrays]
    state: Mapping[str, Any]


def position(folder: Path) -> tuple[int, int]:
    """Returns (finished epochs, batches done in the next one), from the folder's name; (-1, -1) for other folders."""
    match = _NAME.match(folder.name)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: The run's ``checkpoints`` folder.
        keep_last: Newest checkpoints that are kept.
        keep_top_k: Best checkpoints that are kept, by the rank they were saved with.
        warn: Called with one line when a damaged checkpoint is passed over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        keep_top_k: int = 1,
        warn: Callable[[str], None] = print,
    ) -> None:
        self.folder = folder
        self.keep_last, self.keep_top_k = keep_last, keep_top_k
        self._warn = warn

    def save(
        self,
        tensors: Mapping[str, Arrays],
        state: Mapping[str, Any],
        *,
        epoch: int,
        step: int,
        rank: Sequence[float] | None,
    ) -> Path:
        """Writes a checkpoint and drops those that need not be kept.

        Args:
            tensors: Arrays by part and name.
            state: JSON-able rest.
            epoch: Finished epochs.
            step: Batches done in the running epoch.
            rank: Orders finished epochs, lower is better, compared item by item; None in mid-epoch.

        Raises:
            BadInput: The disk is full; earlier checkpoints are untouched.
        """
        target = self.folder / f"epoch-{epoch:04d}-step-{step:06d}"
        with atomic_folder(target) as staging:
            hashes = {}
            for part, arrays in tensors.items():
                payload = safetensors_bytes({k: np.ascontiguousarray(v) for k, v in sorted(arrays.items())})
                (staging / f"{part}.safetensors").write_bytes(payload)
                hashes[f"{part}.safetensors"] = sha256_bytes(payload)
            body = {"files": hashes, "rank": rank if rank is None else list(rank), "state": dict(state)}
            write_json(staging / STATE, {**body, "sha256": sha256_bytes(canonical_json(body))})
        self._prune()
        return target

    def folders(self) -> list[Path]:
        """Returns all checkpoint folders, oldest position first, verified or not."""
        found = [p for p in self.folder.glob("epoch-*-step-*") if position(p) != (-1, -1)]
        return sorted(found, key=position)

    def newest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that verifies, None where there is none; says what it passed over."""
        remove_leftovers(self.folder)
        return self._first_good(self.folders()[::-1])

    def best(self) -> Checkpoint | None:
        """Returns the best checkpoint that verifies, None where no epoch was finished."""
        return self._first_good(self._ranked())

    def _first_good(self, candidates: list[Path]) -> Checkpoint | None:
        for index, folder in enumerate(candidates):
            try:
                return load_checkpoint(folder)
            except ArtifactError as error:
                following = candidates[index + 1 :]
                after = f"trying {following[0].name}" if following else "no other checkpoint is left"
                self._warn(f"checkpoint {folder.name} is damaged ({error.problem}); {after}")
        return None

    def _ranked(self) -> list[Path]:
        """Folders of finished epochs, best first; of equals the earlier one."""
        scored = [(rank, position(p), p) for p in self.folders() if (rank := _rank(p)) is not None]
        return [p for _, _, p in sorted(scored)]

    def _prune(self) -> None:
        kept = set(self.folders()[-self.keep_last :]) | set(self._ranked()[: self.keep_top_k])
        for folder in self.folders():
            if folder not in kept:
                # Renamed first: a kill while deleting must not leave half a checkpoint under a valid name.
                doomed = folder.with_name(f".tmp-old-{folder.name}")
                shutil.rmtree(doomed, ignore_errors=True)
                folder.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)


def _rank(folder: Path) -> list[float] | None:
    try:
        value = json.loads((folder / STATE).read_text(encoding="utf-8"))["rank"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [float(v) for v in value] if isinstance(value, list) else None


def recorded_batch(folder: Path) -> dict[str, Any] | None:
    """Returns what the newest readable checkpoint of a run says of its batches, without reading its tensors.

    Args:
        folder: The run's ``checkpoints`` folder.

    Returns:
        "sizes", the images of each process in a batch, and "accumulate", the batches of an update; None where there is
        no checkpoint, or none that tells.
    """
    for checkpoint in CheckpointStore(folder).folders()[::-1]:
        try:
            batch: dict[str, Any] | None = _state(checkpoint)["state"].get("batch")
        except (ArtifactError, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        return batch
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Raises:
        ArtifactError: A file is missing, truncated or changed.
    """
    try:
        raw = _state(folder)
        tensors = {n.removesuffix(".safetensors"): _tensors(folder / n, h) for n, h in raw["files"].items()}
        return Checkpoint(folder, tensors, raw["state"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__} in {STATE}" if not isinstance(error, OSError) else f"{error.strerror}"
        raise ArtifactError(f"{folder.name}: {reason}", "resume from another checkpoint") from error


def _state(folder: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    declared = raw.pop("sha256")
    if sha256_bytes(canonical_json(raw)) != declared:
        raise ArtifactError(f"{STATE} does not match its sha256", "resume from another checkpoint")
    return raw


def _tensors(path: Path, expected: str) -> Arrays:
    payload = path.read_bytes()
    if sha256_bytes(payload) != expected:
        raise ArtifactError(f"{path.name} does not match its sha256", "resume from another checkpoint")
    arrays: Arrays = parse_safetensors(payload)
    return arrays
