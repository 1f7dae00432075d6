"""Which process of a job this is, as ``paddle.distributed.launch`` and our own launcher tell it.

Imports no framework.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from paddle_tk.errors import BadInput

RANK, WORLD = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
ENDPOINT, ENDPOINTS = "PADDLE_CURRENT_ENDPOINT", "PADDLE_TRAINER_ENDPOINTS"
LOCAL_RANK, LOCAL_WORLD = "PADDLE_RANK_IN_NODE", "PADDLE_LOCAL_SIZE"
BACKEND, GPUS = "PADDLE_DISTRI_BACKEND", "FLAGS_selected_gpus"


@dataclass(frozen=True)
class Rank:
    """This process's place in a job.

    Attributes:
        rank: Its number, from 0; the one that writes.
        world: Processes of the job.
        local_rank: Its number on this machine.
        local_world: Processes on this machine.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int


def own_rank(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """Returns this process's rank; None outside a job of several processes.

    Raises:
        BadInput: The variables contradict each other.
    """
    world = _number(environment, WORLD, 1)
    if world <= 1:
        return None
    rank = _number(environment, RANK, -1)
    if not 0 <= rank < world:
        raise BadInput(
            f"{RANK}={environment.get(RANK)} of {WORLD}={world}", f"give a number from 0 to {world - 1}, or unset both"
        )
    endpoints = environment.get(ENDPOINTS, "").split(",")
    host = environment.get(ENDPOINT, "").rsplit(":", 1)[0]
    near = sum(endpoint.rsplit(":", 1)[0] == host for endpoint in endpoints) if host else world
    local_world = _number(environment, LOCAL_WORLD, near)
    return Rank(rank, world, _number(environment, LOCAL_RANK, rank % max(1, local_world)), max(1, local_world))


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return otherwise
    if not text.isdigit():
        raise BadInput(f"the environment variable {name} is '{text}'", "give a number, or unset it")
    return int(text)


def free_endpoints(count: int) -> list[str]:
    """Returns "host:port" of ports of this machine that nothing listens on."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]


def rank_environment(rank: int, endpoints: list[str], threads: int | None) -> dict[str, str]:
    """Returns the variables of one process on this machine.

    Args:
        rank: Its number.
        endpoints: "host:port" of every process.
        threads: CPU threads; None: leave what is set.
    """
    return {
        RANK: str(rank), WORLD: str(len(endpoints)), ENDPOINT: endpoints[rank], ENDPOINTS: ",".join(endpoints),
        LOCAL_RANK: str(rank), LOCAL_WORLD: str(len(endpoints)),
        **({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
    }  # fmt: skip
