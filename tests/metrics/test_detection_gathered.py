from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.metrics.detection import DetectionMetric
from tests.metrics.detection_sets import measured, synthetic


@pytest.mark.parametrize("parts", [2, 3, 25])
def test_figures_are_those_of_one_metric_when_the_images_were_counted_in_several(parts: int) -> None:
    images, classes = synthetic(5, 20, 4, 40, difficult=0.2), 4
    whole = DetectionMetric([f"c{i}" for i in range(classes)])
    numbers = []
    for part in range(parts):
        own = list(range(part, len(images), parts))
        counted = measured([images[i] for i in own], classes) if own else DetectionMetric(whole.classes)
        whole.add_arrays(counted.arrays())
        numbers += own
    whole.sort(np.array(numbers))
    one = measured(images, classes)
    assert whole.result() == one.result()
    np.testing.assert_array_equal(whole.confusion(), one.confusion())
    assert {k: v.tobytes() for k, v in whole.arrays().items()} == {k: v.tobytes() for k, v in one.arrays().items()}
