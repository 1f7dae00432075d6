"""``data.batch_size: auto``: which batch was picked, whether it has proved itself, and what follows when it did not.

The choice is kept in ``batch.json`` of the run folder, so that a resumed run trains with the batch it began with. The
figures it rests on come from above (``pipelines.choose_batch``). Imports no framework.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError, CheckFailed, PaddleTkError
from paddle_tk.files import write_json
from paddle_tk.training.run_folder import CHECKPOINTS

BATCH_FILE = "batch.json"
AGAIN_CODE = 75  # sysexits.h, EX_TEMPFAIL: the same command, started again, may do better
LARGEST_AUTO = 512
CONFIRMING_UPDATES = 2  # the optimizer's state exists from the first on, so the second one has the full peak

# What Paddle 3.3.1 says when memory runs out: its allocators raise MemoryError with "ResourceExhausted"; a library that
# is mapped at its first use fails as "PreconditionNotMet ... failed to map segment"; CUDA libraries name their status.
_MESSAGES = (
    *("resourceexhausted", "out of memory", "fail to alloc memory", "bad_alloc", "memoryerror"),
    *("cannot allocate memory", "failed to map segment", "cannot map zero-fill pages", "can't start new thread"),
    *("cudnn_status_alloc_failed", "cublas_status_alloc_failed"),
)


class StartAgain(PaddleTkError):
    """The worker has noted a smaller batch and wants to be started afresh, with its memory given back."""

    exit_code = AGAIN_CODE


@dataclass(frozen=True)
class BatchChoice:
    """What ``batch.json`` holds.

    Attributes:
        picked: Images of one process in a step.
        reason: Why so many, in words.
        limit: Name of the bound that was tightest.
        limit_mb: That bound, for the whole process, in units of 2^20 bytes.
        predictions: For each batch that was considered: what the process takes with it, margin left out, in MB, counted
            as the bound counts.
        predicted_mb: The one of ``picked``.
        margin: Share of the predicted training memory that was to stay free besides.
        global_batch: Images of one update: all processes and the accumulation.
        origin: Of each figure.
        first_picked: Before memory ran out; equals ``picked`` otherwise.
        backed_off: Whether memory ran out once and the batch was halved.
        confirmed: Whether two updates went well.
        running: Whether an attempt began and has not ended in an orderly way; found so at a start, it was killed.
    """

    picked: int
    reason: str
    limit: str
    limit_mb: float
    predicted_mb: float
    margin: float
    global_batch: int
    origin: dict[str, str]
    predictions: dict[str, float]
    first_picked: int
    backed_off: bool = False
    confirmed: bool = False
    running: bool = False


def candidates(most: int, dividing: int | None = None) -> list[int]:
    """Returns the batches to choose from, ascending: powers of two, and from 24 on those between them.

    Every one is small or a multiple of 8, which matrix kernels like, and its half is one again; the next larger one is
    at most half as large again, so that at most a third of the room stays unused.

    Args:
        most: Largest batch, such as the images of the training split.
        dividing: Keep those that divide this number of images only; None: all.
    """
    powers = [2**i for i in range(most.bit_length())]
    between = [3 * 2**i for i in range(3, most.bit_length())]
    found = sorted(value for value in (*powers, *between) if value <= min(most, LARGEST_AUTO))
    return [value for value in found if dividing is None or dividing % value == 0]


def read_choice(folder: Path) -> BatchChoice | None:
    """Returns the choice of a run, None where none was made.

    Raises:
        ArtifactError: The file is damaged.
    """
    path = folder / BATCH_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        choice = BatchChoice(**raw)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}", "start a new run, or set data.batch_size") from error
    sound = isinstance(choice.picked, int) and isinstance(choice.global_batch, int)
    if not sound or not 1 <= choice.picked <= choice.global_batch:
        raise ArtifactError(f"{path} says batch {choice.picked!r}", "start a new run, or set data.batch_size")
    return choice


def write_choice(folder: Path, choice: BatchChoice) -> None:
    """Writes ``batch.json``, whole or not at all."""
    write_json(folder / BATCH_FILE, asdict(choice))


def change(folder: Path, **fields: Any) -> None:
    """Changes fields of a run's choice; does nothing where the run has none."""
    choice = read_choice(folder)
    if choice is not None and any(getattr(choice, name) != value for name, value in fields.items()):
        write_choice(folder, replace(choice, **fields))


def back_off(folder: Path, choice: BatchChoice, what: str) -> BatchChoice:
    """Halves the batch, once, and notes it.

    Args:
        folder: The run folder.
        choice: What memory did not hold.
        what: What happened, for messages ("memory ran out").

    Raises:
        CheckFailed: It was halved before, it is 1, or the run has come too far to change its batch.
    """
    tried = f"data.batch_size=auto: {what} with a batch of {choice.picked}"
    if choice.backed_off:
        raise CheckFailed(
            f"{tried}, and before that with {choice.first_picked}",
            "set data.batch_size to a smaller number, use trainer.recompute or a smaller image, or free memory",
        )
    if choice.picked == 1:
        raise CheckFailed(tried, "use trainer.recompute, a smaller data.image_size or network, or free memory")
    if choice.confirmed or any((folder / CHECKPOINTS).glob("epoch-*")):
        raise CheckFailed(
            f"{tried}, which had trained before: something else takes memory now",
            f"free memory and go on with --resume {folder}, or start a new run with a smaller data.batch_size",
        )
    half = choice.picked // 2
    smaller = replace(
        choice,
        picked=half,
        reason=f"{what} with {choice.picked}, which was: {choice.reason}",
        predicted_mb=choice.predictions.get(str(half), choice.predicted_mb),
        global_batch=choice.global_batch // choice.picked * half,
        backed_off=True,
        running=False,
    )
    write_choice(folder, smaller)
    return smaller


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tells whether a failure, or what it came from, is a lack of memory of the host or the device."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        text = str(error).lower()
        if isinstance(error, RuntimeError | SystemError | OSError) and any(said in text for said in _MESSAGES):
            return True
        # safetensors, where Python could not allocate an object.
        if type(error).__name__ == "PanicException" and "pointer is null" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def memory_watched(folder: Path, batch: int, *, main_process: bool = True) -> Iterator[None]:
    """Turns a lack of memory in the training within into a smaller batch or a clear failure.

    Args:
        folder: The run folder; where it holds no ``batch.json``, the batch was the user's own and is not changed.
        batch: Images of one process in a step, for the message.
        main_process: Whether this process notes how far the run has come; memory may run out in any of a job.

    Raises:
        StartAgain: An automatic batch was halved; the same command trains with it.
        CheckFailed: Memory ran out and there is nothing to try.
    """
    choice = read_choice(folder)
    if main_process:
        change(folder, running=True)
    try:
        yield
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if not is_out_of_memory(error):
            raise
        if choice is None:
            raise _own_batch(batch) from error
        current = read_choice(folder) or choice
        if current.picked == choice.picked:  # no other process of the job was quicker
            current = back_off(folder, current, "memory ran out")
        raise StartAgain(
            f"memory ran out with a batch of {choice.picked} (data.batch_size=auto)",
            f"none needed, the training starts again with {current.picked}",
        ) from error
    finally:
        if main_process:
            change(folder, running=False)  # a killed process does not come here


def _own_batch(batch: int) -> CheckFailed:
    return CheckFailed(
        f"memory ran out with data.batch_size={batch}",
        "use data.batch_size=auto or a smaller one, trainer.recompute, or a smaller data.image_size; "
        "tools/estimate_memory.py tells what a batch takes",
    )
