"""One process of a training job, as the command starts it, without the command.

``python -m tests.rank_worker FOLDER key=value ...``
"""

from __future__ import annotations

import sys
from pathlib import Path

from paddle_tk.cli import make_parser, run_command
from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.environment.ranks import own_rank
from paddle_tk.environment.start import start_paddle


def main() -> int:
    """Trains and returns the exit code."""
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    parser = make_parser("rank_worker", "a test's training")

    def body(arguments: object, output: Output) -> int:
        loaded = load_config(None, overrides)
        rank = own_rank()
        if rank is None or rank.rank == 0:
            folder.mkdir(exist_ok=True)
        start_paddle(1)
        from paddle_tk.training.build import build_trainer
        from paddle_tk.training.distributed import connect

        parallel = connect(rank, "cpu") if rank is not None else None
        trainer = build_trainer(loaded.config, folder, loaded.sha256, "cpu", output, parallel=parallel)
        signalled = trainer.run() is None and trainer.model.stop_signal
        return 128 + signalled if signalled else 0

    return run_command(parser, body, [])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
