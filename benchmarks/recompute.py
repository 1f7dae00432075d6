"""Recompute: what it saves of the activations' memory, what it costs in time, and that it changes nothing else.

Peak activation memory is the allocator's peak in forward and backward less what is resident before: parameters,
gradients, optimizer state, input. Gradients and running statistics are compared after one such pass from equal
weights, random numbers and images; the figure is the largest difference over all tensors, each relative to its own
largest value.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser

_MIB = 2**20
# Network, image side in pixels, images in a batch, least share saved that is claimed.
CASES: tuple[tuple[str, int, int, float | None], ...] = (
    ("resnet50", 224, 16, 0.40),
    ("mobilenet_v2", 224, 16, None),
    ("efficientnet_b0", 224, 16, None),
    ("picodet_s", 320, 16, None),
    ("yolov10n", 320, 16, None),
)
EQUAL = 1e-6


@dataclass
class Case:
    """A network in training, with or without recompute.

    Attributes:
        network: In training mode.
        loss_of: Runs it once, forward, and returns the loss.
        layers: How many layers recompute.
    """

    network: Any
    loss_of: Callable[[], Any]
    layers: int

    def __post_init__(self) -> None:
        import paddle

        parameters = self.network.parameters()
        self.optimizer = paddle.optimizer.Momentum(1e-4, momentum=0.9, parameters=parameters)

    def gradients_and_statistics(self) -> dict[str, np.ndarray]:
        """Runs forward and backward once from a fixed random state and returns what came of it."""
        import paddle

        paddle.seed(7)
        self.loss_of().backward()
        parameters = dict(self.network.named_parameters())
        found = {f"gradient of {k}": p.grad.numpy() for k, p in parameters.items() if p.grad is not None}
        learns = {k for k, p in parameters.items() if not p.stop_gradient}
        state = {k: v.numpy() for k, v in self.network.state_dict().items() if k not in learns}
        return found | {f"statistic {k}": v for k, v in state.items()}

    def update(self) -> None:
        """Moves the weights; the gradients stay allocated."""
        self.optimizer.step()
        self.optimizer.clear_grad()

    def peak_mib(self) -> float:
        """Returns the peak activation memory of one pass, in MiB."""
        from paddle.base import core

        before = core.host_memory_stat_current_value("Allocated", 0)
        core.host_memory_stat_reset_peak_value("Allocated", 0)
        self.loss_of().backward()
        peak = core.host_memory_stat_peak_value("Allocated", 0)
        left = core.host_memory_stat_current_value("Allocated", 0) - before
        if left > _MIB:
            raise AssertionError(f"a pass leaves {left / _MIB:.1f} MiB behind")
        self.update()
        return float(peak - before) / _MIB

    def step_ms(self) -> float:
        """Returns the milliseconds of a training step."""
        began = time.perf_counter()
        loss = self.loss_of()
        loss.backward()
        self.update()
        float(loss)
        return (time.perf_counter() - began) * 1000


def make_case(name: str, size: int, batch: int, recompute: bool) -> Case:
    """Builds a network with the kernels of our trainer, and a batch of noise; equal for equal arguments."""
    import paddle

    from paddle_tk.models.depthwise import use_fast_depthwise
    from paddle_tk.models.detectors import build_detector, task_of
    from paddle_tk.models.recompute import use_recompute
    from paddle_tk.models.small_map_conv import use_small_map_conv

    paddle.seed(0)
    if task_of(name) == "detection":
        network = build_detector(name, num_classes=80, image_size=(size, size))
    else:
        from paddle_tk.models.classifiers import build_classifier

        network = build_classifier(name, num_classes=1000, stem="imagenet", image_size=(size, size))
    network.train()
    use_small_map_conv(network)
    use_fast_depthwise(network)
    layers = use_recompute(network, recompute)
    images = paddle.rand([batch, 3, size, size])
    loss_of = _detection_loss if task_of(name) == "detection" else _classification_loss
    return Case(network, loss_of(network, images), len(layers))


def _classification_loss(network: Any, images: Any) -> Callable[[], Any]:
    import paddle

    labels = paddle.randint(0, 1000, [images.shape[0]])
    return lambda: paddle.nn.functional.cross_entropy(network(images), labels)


def _detection_loss(network: Any, images: Any) -> Callable[[], Any]:
    import paddle

    batch, side, loss = images.shape[0], images.shape[-1], network.make_loss()
    corner = paddle.rand([batch, 6, 2]) * (side / 2)
    boxes = paddle.concat([corner, corner + 20 + paddle.rand([batch, 6, 2]) * (side / 2 - 20)], -1)
    targets = paddle.concat([paddle.randint(0, 80, [batch, 6, 1]).astype("float32"), boxes], -1)
    return lambda: loss(*network.raw(images), targets)[0]


def _difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray], kind: str) -> float:
    if set(one) != set(other):
        raise AssertionError(f"other tensors: {sorted(set(one) ^ set(other))[:3]}")
    return max(
        float(np.abs(value - other[name]).max() / max(float(np.abs(value).max()), 1e-12))
        for name, value in one.items()
        if name.startswith(kind)
    )


def _measure(
    name: str, size: int, batch: int, bound: float | None, repeats: int
) -> tuple[list[Claim], dict[str, list[float]]]:
    off, on = (make_case(name, size, batch, recompute) for recompute in (False, True))
    plain, twice = off.gradients_and_statistics(), on.gradients_and_statistics()
    gradients, moved = (_difference(plain, twice, kind) for kind in ("gradient", "statistic"))
    for case in (off, on):
        case.update()
    before, after = off.peak_mib(), on.peak_mib()
    times = interleaved({"off": off.step_ms, "on": on.step_ms}, repeats)
    saved, ratio = 1 - after / before, paired_ratio(times["on"], times["off"])
    print(
        f"| {name} | {size} | {batch} | {on.layers} | {before:.0f} | {after:.0f} | {saved:.0%} | "
        f"{statistics.median(times['off']):.0f} | {statistics.median(times['on']):.0f} | {ratio:.2f} | "
        f"{gradients:.1e} | {moved:.1e} |",
        flush=True,
    )
    claims = [
        Claim(f"recompute, {name}: gradients", gradients, "largest relative difference", EQUAL),
        Claim(f"recompute, {name}: running statistics", moved, "largest relative difference", EQUAL),
    ]
    if bound is not None:
        text = f"recompute, {name}, {size} px, batch {batch}: activation memory saved"
        claims.append(Claim(text, saved, "share", bound, at_most=False))
    samples = {f"{name}, recompute {way}, ms": values for way, values in times.items()}
    return claims, {**samples, f"{name}, peak off and on, MiB": [before, after]}


def main() -> int:
    """Measures every network with and without recompute."""
    arguments = parser(__doc__ or "", "recompute")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--only", choices=[case[0] for case in CASES], help="one network")
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    print("| network | px | batch | layers | peak off, MiB | on | saved | step off, ms | on | ratio | grad | stat |")
    print("|" + "---|" * 12)
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for case in CASES:
        if given.only in (None, case[0]):
            found, raw = _measure(*case, given.repeats)
            claims.extend(found)
            samples |= raw
    return finish(claims, samples, given.json, {"threads": threads, "load": os.getloadavg(), "n": given.repeats})


if __name__ == "__main__":
    sys.exit(main())
