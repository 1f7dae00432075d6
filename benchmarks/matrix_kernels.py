"""A training step with the matrix kernels we choose for this processor, against those that Paddle's MKL takes itself.

Each measurement is a fresh process, interleaved: training steps of ResNet-18 and MobileNetV2
(SGD with momentum) and a matrix product.
Where nothing is chosen (processors of Intel, no AVX2), it says so and claims nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser
from paddle_tk.environment.matrix_kernels import KERNELS, choose_matrix_kernels
from paddle_tk.runtime.timing import sample_ms

CASES = {"resnet18": (32, 32), "mobilenet_v2": (8, 96), "matmul": (0, 2000)}
STEPS = 8


def _step_ms(case: str) -> float:
    """Returns the median of a step's time in ms."""
    from paddle_tk.environment.start import start_paddle

    start_paddle("auto")
    import paddle

    from paddle_tk.models.classifiers import build_classifier

    batch, size = CASES[case]
    paddle.seed(0)
    if case == "matmul":
        left = paddle.rand([size, size])
        return median(sample_ms(lambda: float(paddle.matmul(left, left)[0, 0]), repeats=STEPS, warmup=2))
    network = build_classifier(case, num_classes=10, stem="imagenet", image_size=(size, size))
    optimizer = paddle.optimizer.Momentum(0.01, parameters=network.parameters())
    images, labels = paddle.rand([batch, 3, size, size]), paddle.randint(0, 10, [batch])

    def step() -> None:
        loss = paddle.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)

    return median(sample_ms(step, repeats=STEPS, warmup=2))


def _fresh(case: str, kernels: str) -> float:
    command = [sys.executable, __file__, "--case", case]
    environment = {**os.environ, KERNELS: kernels}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Measures both ways and compares."""
    arguments = parser(__doc__ or "", "matrix_kernels")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--case", choices=CASES, help="measure one in this process")
    given = arguments.parse_args()
    if given.case:
        print(_step_ms(given.case))
        return 0
    os.environ.pop(KERNELS, None)
    chosen = choose_matrix_kernels()
    if chosen is None:
        print("nothing is chosen for this processor: MKL's own choice stays")
        return finish([], {}, given.json, {"kernels": None})
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for case in CASES:
        jobs = {f"{case} own": partial(_fresh, case, ""), f"{case} chosen": partial(_fresh, case, chosen)}
        found = interleaved(jobs, given.repeats)
        samples |= found
        ratio = paired_ratio(found[f"{case} chosen"], found[f"{case} own"])
        claims.append(Claim(f"matrix_kernels {case}, chosen / own", ratio, "ratio", 0.9))
    return finish(claims, samples, given.json, {"kernels": chosen, "samples_unit": "ms a step"})


if __name__ == "__main__":
    sys.exit(main())
