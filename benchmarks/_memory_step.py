"""One training step of the trainer's own parts, measured: the allocator's peak. Run as a process of its own.

    python -m benchmarks._memory_step CONFIG.json

The parts are put together here once more, apart from the memory model's own probe.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from paddle_tk.environment.start import start_paddle

MIB = 2**20


def _data(case: dict[str, Any]) -> tuple[Any, Any]:
    import paddle

    rng = np.random.default_rng(1)
    batch, (height, width), boxes = case["batch"], case["size"], case["boxes"]
    images = paddle.to_tensor(rng.normal(size=(batch, 3, height, width)).astype(np.float32))
    if not case["detects"]:
        return images, paddle.to_tensor(rng.integers(0, case["num_classes"], batch))
    low, side = rng.uniform(0, 0.7, (batch, boxes, 2)), rng.uniform(0.05, 0.3, (batch, boxes, 2))
    ids, scale = rng.integers(0, case["num_classes"], (batch, boxes, 1)), np.array([width, height])
    return images, paddle.to_tensor(np.concatenate([ids, low * scale, (low + side) * scale], 2).astype(np.float32))


def _model(case: dict[str, Any]) -> Any:
    from paddle_tk.config.load import load_config
    from paddle_tk.console import Output
    from paddle_tk.models.recompute import use_recompute
    from paddle_tk.training.build import use_fast_kernels
    from paddle_tk.training.build_task import build_network, build_step, task_kind
    from paddle_tk.training.ema import Ema
    from paddle_tk.training.fit_model import FitModel
    from paddle_tk.training.optim import build_optimizer
    from paddle_tk.training.precision import Precision

    config = load_config(None, case["overrides"]).config
    kind, trainer = task_kind(config), config.trainer
    network = build_network(config, kind, case["num_classes"], Output(quiet=True))
    use_fast_kernels(config, network, "cpu")
    use_recompute(network, trainer.recompute)
    step = build_step(config, kind, network, tuple(str(i) for i in range(case["num_classes"])))
    step.start_epoch(0, 10)
    optimizer = build_optimizer(
        trainer.optimizer, network, learning_rate=1e-5, factor=lambda update: 1.0, momentum=trainer.momentum,
        weight_decay=trainer.weight_decay, clip_norm=trainer.gradient_clip_val,
    )  # fmt: skip
    ema = Ema(network, trainer.ema_decay) if trainer.ema_decay > 0 else None
    model = FitModel(network, task=step, precision=Precision("fp32", "O1", "cpu"), ema=ema)
    model.prepare(optimizer, step.loss, step.metrics)
    model._accumulate = 1
    return model


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Returns the peak of each step in MB, and the seconds of all."""
    start_paddle()
    import paddle

    core, began = paddle.base.core, time.perf_counter()
    model = _model(case)
    images, labels = _data(case)
    peaks = []
    for _ in range(1 + case["steps"]):  # the first makes the optimizer's state
        for _ in range(case["accumulate"] - 1):
            model.train_batch([images], [labels], update=False)
        core.host_memory_stat_reset_peak_value("Allocated", 0)
        model.train_batch([images], [labels])
        peaks.append(core.host_memory_stat_peak_value("Allocated", 0) / MIB)
    return {"peaks_mb": peaks[1:], "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print("MEASURED " + json.dumps(measure(json.loads(sys.argv[1]))), flush=True)
