"""Loads Paddle once, the right way: threads and matrix kernels first, without its start-up chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from typing import Literal

from paddle_tk.environment.matrix_kernels import choose_matrix_kernels
from paddle_tk.environment.memory_limits import require_room_for_paddle
from paddle_tk.environment.threads import configure_threads

# Arrow's allocator gives memory back to the system 10 ms after it was freed, and the next row group of a stream has to
# fault it in again, a third of what reading from shards costs (DECISIONS.md, 90). Later versions of it wait for 1 s
# by themselves. Source: https://microsoft.github.io/mimalloc/environment.html
_ARROW_KEEPS, _KEPT_MS = "MIMALLOC_PURGE_DELAY", "10000"


def start_paddle(cpu_threads: int | Literal["auto"] = "auto") -> int:
    """Sets CPU threads, matrix kernels and Arrow's allocator and imports Paddle; every command calls this before
    anything else does.

    Paddle warns at import about more than one OpenMP thread (which is what makes it fast on a CPU) and about a missing
    ccache (used to compile extensions, which this project never does); both are kept from the user.

    Returns:
        The number of CPU threads.

    Raises:
        BadInput: Unusable threads, or an address-space limit that does not hold Paddle.
    """
    threads = configure_threads(cpu_threads)
    # Said by Paddle at every switch from evaluation to training, whatever the network does.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    if "paddle" in sys.modules:
        return threads
    choose_matrix_kernels()
    os.environ.setdefault(_ARROW_KEEPS, _KEPT_MS)
    require_room_for_paddle()
    # Its transport between processes says where it listens and connects.
    os.environ.setdefault("GLOG_minloglevel", "2")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import paddle  # noqa: F401
    except BaseException:
        sys.stderr.write(said.getvalue())
        raise
    logging.getLogger("paddle_tk").debug("paddle said at import: %s", said.getvalue())
    return threads
