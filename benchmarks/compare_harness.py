"""Is the harness of a comparison fair and quick? An A/A test, and the time from nothing to the report.

    python benchmarks/compare_harness.py [--parts aa quick full]

The A/A test compares Paddle with itself and must find no difference; times are of whole commands.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, parser
from paddle_tk.evidence import Evidence, read_evidence

ROOT = Path(__file__).resolve().parents[1]
# Timed again and again in every round; what is read once in each (memory, imports) is told, not judged.
JUDGED = (
    "training_throughput", "training_throughput_bare", "inference_latency", "inference_throughput", "onnx_latency",
    "onnx_throughput",
)  # fmt: skip
MINUTES = {"quick": 3.0, "full": 10.0}


def _compare(config: str, folder: Path, *flags: str) -> tuple[Evidence, float]:
    command = [sys.executable, "tools/compare.py", "-c", f"configs/compare/{config}.yaml", "--output", str(folder)]
    began = time.perf_counter()
    subprocess.run([*command, "--quiet", *flags], cwd=ROOT, check=True)
    return read_evidence(folder / "measurements.json"), (time.perf_counter() - began) / 60


def _same(evidence: Evidence) -> list[Claim]:
    claims = []
    for pair in evidence.comparisons:
        print(f"  {pair.name}: {pair.ratio:.4f} ({pair.low:.3f} to {pair.high:.3f}, n={pair.n}): {pair.verdict}")
        if pair.name in JUDGED:
            apart = abs(pair.ratio - 1)
            claims.append(Claim(f"compare_harness A/A {pair.name}, |ratio - 1|", apart, "ratio", 0.03))
            called = float(pair.verdict == "no difference")
            claims.append(Claim(f"compare_harness A/A {pair.name}, no difference", called, "said", 1.0, at_most=False))
    return claims


def main() -> int:
    """Measures and compares."""
    arguments = parser(__doc__ or "", "compare_harness")
    arguments.add_argument("--parts", nargs="+", choices=("aa", "quick", "full"), default=["aa", "quick", "full"])
    given = arguments.parse_args()
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="compare_harness-") as name:
        if "aa" in given.parts:
            evidence, minutes = _compare("aa", Path(name) / "aa")
            print(f"A/A test: {minutes:.1f} min")
            claims += _same(evidence)
            samples |= {f"A/A {c.name}": [c.ratio, c.low, c.high] for c in evidence.comparisons}
        for part in [part for part in MINUTES if part in given.parts]:
            folder = Path(name) / part
            _, minutes = _compare("resnet18", folder, *(["--quick"] if part == "quick" else []))
            choice = json.loads((folder / "decision.json").read_text())["choice"]
            print(f"{part}: {minutes:.2f} min, choice {choice}")
            samples[f"{part} minutes"] = [minutes]
            claims.append(Claim(f"compare_harness {part}, from nothing to the report", minutes, "min", MINUTES[part]))
    return finish(claims, samples, given.json, {"config": "configs/compare/{aa,resnet18}.yaml"})


if __name__ == "__main__":
    sys.exit(main())
