"""One process of a job decides, all of them learn what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from paddle_tk.errors import BadInput, CheckFailed, PaddleTkError

if TYPE_CHECKING:
    from paddle_tk.training.distributed import Parallel

T = TypeVar("T")


def agreed(parallel: Parallel | None, ask: Callable[[], T]) -> T:
    """Returns, in every process of the job, what ``ask`` returned in the first one, or raises what it raised.

    Args:
        parallel: The job; None: this process is alone.
        ask: Returns JSON types.
    """
    if parallel is None:
        return ask()
    said: dict[str, Any] = {}
    if parallel.writes:
        try:
            said = {"value": ask()}
        except PaddleTkError as error:
            said = {"problem": error.problem, "fix": error.fix, "exit_code": error.exit_code}
    said = parallel.broadcast_json(said)
    if "problem" in said:
        kind = CheckFailed if said["exit_code"] == CheckFailed.exit_code else BadInput
        raise kind(said["problem"], said["fix"])
    value: T = said["value"]
    return value
