"""Compiled depthwise convolutions against Paddle's kernel: single layers, classifiers, PicoDet-S.

Same process, same threads, interleaved; a layer is its forward and backward at batch 8, a network its training step.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser

# Makes the job, compiled or not; the job gives its milliseconds.
Build = Callable[[bool], Callable[[], float]]

# Channels, height and width, kernel.
LAYERS = ((32, 160, 3), (64, 80, 3), (128, 40, 3), (256, 20, 5), (128, 40, 5))
CLASSIFIERS = (("mobilenet_v2", 64), ("mobilenet_v2", 96), ("efficientnet_b0", 64))


def _timed(job: Callable[[], Any]) -> Callable[[], float]:
    """Returns the job as one that gives its milliseconds; it has run once by then."""

    def once() -> float:
        began = time.perf_counter()
        job()
        return (time.perf_counter() - began) * 1000

    once()
    return once


def _layer(channels: int, size: int, kernel: int, fast: bool) -> Callable[[], float]:
    import paddle

    from paddle_tk.models.depthwise import use_fast_depthwise

    layer = paddle.nn.Conv2D(channels, channels, kernel, padding=kernel // 2, groups=channels, bias_attr=False)
    if fast:
        use_fast_depthwise(layer, required=True)
    x, dy = paddle.randn([8, channels, size, size]), paddle.randn([8, channels, size, size])
    x.stop_gradient = False

    def once() -> None:
        paddle.grad(layer(x), [x, layer.weight], dy)

    return _timed(once)


def _step(network: Any, loss_of: Callable[[Any], Any], fast: bool) -> Callable[[], float]:
    import paddle

    from paddle_tk.models.depthwise import use_fast_depthwise

    if fast:
        use_fast_depthwise(network, required=True)
    optimizer = paddle.optimizer.Momentum(0.001, parameters=network.parameters())

    def once() -> None:
        loss = loss_of(network)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)

    return _timed(once)


def _classifier(name: str, size: int, fast: bool) -> Callable[[], float]:
    import paddle

    from paddle_tk.models.classifiers import build_classifier

    paddle.seed(0)
    network = build_classifier(name, num_classes=10, stem="imagenet", image_size=(size, size))
    images, labels = paddle.rand([16, 3, size, size]), paddle.randint(0, 10, [16])
    return _step(network, lambda net: paddle.nn.functional.cross_entropy(net(images), labels), fast)


def _picodet(fast: bool) -> Callable[[], float]:
    import paddle

    from paddle_tk.models.picodet import build_picodet

    paddle.seed(0)
    network = build_picodet("s", num_classes=80, image_size=(320, 320))
    network.train()
    loss, images = network.make_loss(), paddle.rand([8, 3, 320, 320])
    corner = paddle.rand([8, 6, 2]) * 160
    boxes = paddle.concat([corner, corner + 20 + paddle.rand([8, 6, 2]) * 140], -1)
    targets = paddle.concat([paddle.randint(0, 80, [8, 6, 1]).astype("float32"), boxes], -1)
    return _step(network, lambda net: loss(*net.raw(images), targets)[0], fast)


def _cases(with_picodet: bool) -> Iterator[tuple[str, Build, float]]:
    """Yields what is measured and the bound of its ratio."""
    for layer in LAYERS:
        yield "depthwise layer, {} channels, {} px, kernel {}".format(*layer), partial(_layer, *layer), 0.4
    for name, size in CLASSIFIERS:
        yield f"depthwise step of {name}, {size} px", partial(_classifier, name, size), 1.0
    if with_picodet:
        yield "depthwise step of picodet_s, 320 px", _picodet, 0.6


def main() -> int:
    """Measures layers and networks in turn and compares."""
    arguments = parser(__doc__ or "", "depthwise")
    arguments.add_argument("--repeats", type=int, default=9)
    arguments.add_argument("--without-picodet", action="store_true", help="leave out the detector")
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    cases = _cases(with_picodet=not given.without_picodet)
    claims, samples = [], {}
    for name, build, bound in cases:
        found = interleaved({"paddle": build(False), "compiled": build(True)}, given.repeats)
        samples.update({f"{name}, {way}": values for way, values in found.items()})
        before, after = (float(np.median(found[way])) for way in ("paddle", "compiled"))
        print(f"{name}: {before:.1f} -> {after:.1f} ms (n={given.repeats})", flush=True)
        claims.append(Claim(name, paired_ratio(found["compiled"], found["paddle"]), "ratio", bound))
    return finish(claims, samples, given.json, {"unit": "ms", "threads": threads, "load": os.getloadavg()})


if __name__ == "__main__":
    sys.exit(main())
