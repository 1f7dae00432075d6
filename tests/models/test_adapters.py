from __future__ import annotations

import paddle
import pytest

from paddle_tk.models.adapters import take_any_size
from paddle_tk.models.classifiers import build_classifier


@pytest.mark.parametrize(("name", "built", "taken"), [("vgg11", 256, 64), ("lenet", 64, 40), ("googlenet", 224, 96)])
def test_a_fitted_network_takes_other_sizes_when_it_is_asked_to(name: str, built: int, taken: int) -> None:
    network = build_classifier(name, num_classes=3, stem="imagenet", image_size=(built, built))
    before = list(network.state_dict())
    take_any_size(network)
    network.train()
    outputs = network(paddle.zeros([2, 3, taken, taken]))
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    assert first.shape == [2, 3]
    assert list(network.state_dict()) == before
