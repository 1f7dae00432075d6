"""Training step of ResNet-18 with one-product convolutions over small maps, against Paddle's kernel alone.

Same process, same threads, interleaved; batch 32.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser

CASES = (("small", 16), ("imagenet", 32))


def _step(stem: str, size: int, fast: bool) -> Callable[[], float]:
    import paddle

    from paddle_tk.models.classifiers import build_classifier
    from paddle_tk.models.small_map_conv import use_small_map_conv

    paddle.seed(0)
    network = build_classifier("resnet18", num_classes=10, stem=stem, image_size=(size, size))
    if fast:
        use_small_map_conv(network)
    optimizer = paddle.optimizer.Momentum(0.01, parameters=network.parameters())
    images, labels = paddle.rand([32, 3, size, size]), paddle.randint(0, 10, [32])

    def once() -> float:
        began = time.perf_counter()
        loss: Any = paddle.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)
        return (time.perf_counter() - began) * 1000

    once()
    return once


def main() -> int:
    """Measures both cases and compares."""
    arguments = parser(__doc__ or "", "small_map_conv")
    arguments.add_argument("--repeats", type=int, default=11)
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    claims, samples = [], {}
    for stem, size in CASES:
        jobs = {"plain": _step(stem, size, False), "fast": _step(stem, size, True)}
        found = interleaved(jobs, given.repeats)
        samples.update({f"{stem} {size} px {name}": values for name, values in found.items()})
        medians = {name: float(np.median(values)) for name, values in found.items()}
        print(
            f"resnet18, stem {stem}, {size} px: {medians['plain']:.0f} -> {medians['fast']:.0f} ms (n={given.repeats})"
        )
        ratio = paired_ratio(found["fast"], found["plain"])
        claims.append(Claim(f"small_map_conv step, stem {stem}, {size} px", ratio, "ratio", 0.8))
    return finish(claims, samples, given.json, {"unit": "ms", "threads": threads})


if __name__ == "__main__":
    sys.exit(main())
