"""The process that torch is measured in: reads a job from the standard input, writes one line with figures."""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()  # before anything else is imported: the imports are part of a cold start

import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from typing import Any  # noqa: E402

from paddle_tk.errors import BadInput  # noqa: E402
from paddle_tk.measure.fresh_process import answer  # noqa: E402


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise BadInput(
            f"torch cannot be imported by {sys.executable}: {error}",
            "pip install -r requirements-torch.txt, or name a Python that has it with compare.torch_python",
        ) from error
    import_seconds = time.perf_counter() - began
    from paddle_tk.compare.torch_backend import TorchBackend
    from paddle_tk.compare.worker import run_job

    device, threads = job.get("device", "cpu"), job["threads"]
    return run_job(lambda plan: TorchBackend(plan, device, threads), job, began=_BEGAN, import_seconds=import_seconds)


if __name__ == "__main__":
    sys.exit(answer(_measured))
