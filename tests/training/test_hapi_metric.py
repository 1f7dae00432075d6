from __future__ import annotations

import numpy as np

from paddle_tk.training.hapi_metric import TopKMetric


def _counted(classes: int, labels: list[int]) -> TopKMetric:
    metric = TopKMetric(classes)
    metric.update(np.random.default_rng(len(labels)).normal(size=(len(labels), classes)), np.array(labels))
    return metric


def test_numbers_of_two_add_up_when_each_has_counted_other_images() -> None:
    one, other = _counted(8, [1, 2, 3]), _counted(8, [4, 5])
    whole, never_counted = TopKMetric(8), TopKMetric(8)
    for metric in (whole, never_counted):
        metric.take(one.numbers() + other.numbers())
    hits = [round(a * 3 + b * 2) for a, b in zip(one.accumulate(), other.accumulate(), strict=True)]
    assert whole.accumulate() == [count / 5 for count in hits]
    assert never_counted.name() == ["top1", "top5"]
