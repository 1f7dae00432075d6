"""Does ``tools/dataset.py validate`` find what is planted in COCO128, and nothing else, quickly, in little memory?

    python benchmarks/validate_faults.py [--archive coco128.zip] [--repeats 3]

Faults are planted all at once, and each alone. Times and memory are of whole commands, interpreter included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._faults import FAULTS, Faults, Planted, clean_copy, shared_file
from benchmarks._report import Claim, finish, parser

ROOT = Path(__file__).resolve().parents[1]
SECONDS, MEGABYTES, PLANTED = 10.0, 1024.0, 15


def _validate(folder: Path, *source: str) -> tuple[list[Planted], float, float]:
    """Returns kind and file of what is found, seconds, and the largest resident memory in MB (2^20 bytes)."""
    found = folder / "found.json"
    command = [sys.executable, "tools/dataset.py", "validate", "--quiet", *source, "--json", str(found)]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    said: dict[str, Any] = json.loads(found.read_text())
    if child.returncode != (0 if said["clean"] else 1):
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return [(row["kind"], Path(row["file"]).name) for row in said["findings"]], seconds, usage.ru_maxrss / 1024


def main() -> int:
    """Measures."""
    arguments = parser(__doc__ or "", "validate_faults")
    arguments.add_argument("--archive", type=Path, default=shared_file("coco128.zip"))
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    if given.archive is None:
        print("validate_faults: coco128.zip was not found; give it with --archive", file=sys.stderr)
        return 2
    seconds: list[float] = []
    memory: list[float] = []
    alarms = missed = 0
    with tempfile.TemporaryDirectory(prefix="validate_faults-") as name:
        folder = Path(name)
        os.environ["PADDLE_TK_HOME"] = str(folder / "home")
        clean = clean_copy(given.archive, folder / "clean")
        for source in (("--data", "coco128", "--root", str(given.archive)), ("--from", "yolo", "--root", str(clean))):
            alarms += len(_validate(folder, *source)[0])
        planted = Faults(clean_copy(given.archive, folder / "all"))
        wanted = planted.plant()
        for _ in range(given.repeats):
            found, took, most = _validate(folder, "--from", "yolo", "--root", str(planted.root))
            seconds.append(took)
            memory.append(most)
        for fault, one in wanted.items():
            alone = Faults(clean_copy(given.archive, folder / fault.replace(" ", "_")))
            only = FAULTS[fault](alone)
            single = _validate(folder, "--from", "yolo", "--root", str(alone.root))[0]
            good = one in found and single == [only]
            missed += not good
            print(f"  {fault:26} {'found' if good else 'MISSED'}  {one[0]} in {one[1]}")
        alarms += len([one for one in found if one not in wanted.values()])
    claims = [
        Claim(
            "validate_faults, faults found", len(wanted) - missed, "faults", max(PLANTED, len(wanted)), at_most=False
        ),
        Claim("validate_faults, false alarms", alarms, "alarms", 0),
        Claim("validate_faults, time", max(seconds), "s", SECONDS),
        Claim("validate_faults, peak memory", max(memory), "MB", MEGABYTES),
    ]
    return finish(claims, {"seconds": seconds, "peak_mb": memory}, given.json, {"data": "COCO128, 128 images"})


if __name__ == "__main__":
    sys.exit(main())
