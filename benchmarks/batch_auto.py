"""``data.batch_size: auto`` under limits of the address space: a batch that runs, a smaller one, a clear error.

    python benchmarks/batch_auto.py

Each limit is set (as by ``ulimit -v``) for a training of its own, which must end well with the batch that it picked.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, parser
from paddle_tk.files import MIB

SETTINGS = (
    "model=resnet18", "model.stem=imagenet", "data=digits", "data.image_size=224", "data.num_workers=0",
    "data.batch_size=auto", "trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1",
    "trainer.max_retries=0", "trainer.loggers=[]", "trainer.accelerator=cpu",
)  # fmt: skip
LIMITS_MB = (6144, 3584, 3072)
IMPOSSIBLE_MB = (2304, 1600, 700)


def _train(folder: Path, limit_mb: int) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit_mb * MIB, limit_mb * MIB))

    command = [sys.executable, "tools/train.py", *SETTINGS, "--run-dir", str(folder)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=limited, timeout=900
    )


def main() -> int:
    """Tries the limits, widest first."""
    given = parser(__doc__ or "", "batch_auto").parse_args()
    claims: list[Claim] = []
    picked: list[float] = []
    with tempfile.TemporaryDirectory(prefix="batch_auto-") as base:
        for limit in LIMITS_MB:
            folder = Path(base) / str(limit)
            done = _train(folder, limit)
            ran = done.returncode == 0
            claims.append(Claim(f"batch_auto, {limit} MB, runs", float(ran), "run", 1.0, at_most=False))
            if not ran:
                print(f"{limit} MB: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
                continue
            choice = json.loads((folder / "batch.json").read_text())
            picked.append(float(choice["picked"]))
            print(f"{limit} MB: batch {choice['picked']}, backed off {choice['backed_off']}: {choice['reason']}")
        falling = all(a > b for a, b in itertools.pairwise(picked)) and len(picked) == len(LIMITS_MB)
        claims.append(Claim("batch_auto, a smaller limit gives a smaller batch", float(falling), "so", 1.0, False))
        for limit in IMPOSSIBLE_MB:
            folder = Path(base) / str(limit)
            done = _train(folder, limit)
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            clear = (
                done.returncode in (1, 2) and len(lines) == 1 and lines[0].startswith("error: ") and not folder.exists()
            )
            print(f"{limit} MB: exit code {done.returncode}: {' / '.join(lines)[:300]}")
            claims.append(Claim(f"batch_auto, {limit} MB, one clear error", float(clear), "so", 1.0, at_most=False))
    return finish(claims, {"picked": picked}, given.json, {"limits_mb": list(LIMITS_MB), "settings": list(SETTINGS)})


if __name__ == "__main__":
    sys.exit(main())
