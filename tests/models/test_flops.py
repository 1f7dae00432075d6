from __future__ import annotations

import paddle
import pytest
from paddle import nn

from paddle_tk.models.classifiers import build_classifier, count_parameters
from paddle_tk.models.flops import MatrixProduct, count_flops
from paddle_tk.models.yolov10 import build_yolov10
from paddle_tk.models.yolov10.blocks import ConvNorm, PartialAttention

# arXiv 2405.14458, table 1: millions of parameters, billions of operations at 640 px.
PUBLISHED = {
    "n": (2.3, 6.7),
    "s": (7.2, 21.6),
    "m": (15.4, 59.1),
    "b": (19.1, 92.0),
    "l": (24.4, 120.3),
    "x": (29.5, 160.4),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_yolov10_has_the_published_parameters_and_flops_when_in_inference_form(size: str) -> None:
    millions, billions = PUBLISHED[size]
    network = build_yolov10(size, num_classes=80).inference_form()
    assert round(count_parameters(network)["parameters"] / 1e6, 1) == millions
    # The published count leaves attention's products out.
    assert round(count_flops(network, (640, 640), products=False) / 1e9, 1) == pytest.approx(billions, abs=0.001)


def test_attention_costs_the_square_of_the_area_when_its_products_are_counted() -> None:
    network = _attentive()

    def products(height: int, width: int) -> int:
        return count_flops(network, (height, width)) - count_flops(network, (height, width), products=False)

    # One head, queries and keys of 2 and values of 4 channels.
    assert products(3, 2) == 2 * 6 * 6 * (2 + 4)
    assert products(6, 2) == 4 * products(3, 2)


def _attentive() -> nn.Layer:
    return nn.Sequential(ConvNorm(3, 8, 3, act="silu"), PartialAttention(8, "silu"))


class _Mixed(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2D(3, 6, 3, stride=2, padding=1, groups=3)
        self.up = nn.Conv2DTranspose(6, 4, 2, stride=2, groups=2)
        self.linear = nn.Linear(4, 5)
        self.product = MatrixProduct(transpose_x=True)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        x = self.up(self.grouped(images)).mean(axis=[2, 3])
        y = self.linear(x)
        return self.product(x, y)


def test_every_kind_of_layer_is_counted_by_its_shapes() -> None:
    grouped, up, linear, product = 4 * 3 * 6 * 9, 4 * 3 * 6 * 2 * 4, 4 * 5, 4 * 5
    assert count_flops(_Mixed(), (8, 6)) == 2 * (grouped + up + linear + product)
    assert count_flops(_Mixed(), (8, 6), products=False) == 2 * (grouped + up + linear)


def test_classifiers_are_counted_as_published() -> None:
    network = build_classifier("resnet18", num_classes=1000, image_size=(224, 224))
    assert count_flops(network, (224, 224)) / 2e9 == pytest.approx(1.81, abs=0.01)  # arXiv 1512.03385: 1.8


class _Refusing(nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if x.shape[2] > 4:
            raise ValueError("too high")
        return x


def test_the_network_is_left_as_it_was_when_counting_ends_or_fails() -> None:
    network = nn.Sequential(_attentive(), _Refusing())
    network[0].eval()
    modes = [layer.training for layer in network.sublayers(include_self=True)]
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    count_flops(network, (4, 4))
    with pytest.raises(ValueError, match="too high"):
        count_flops(network, (5, 4))
    assert [layer.training for layer in network.sublayers(include_self=True)] == modes
    assert not any(layer._forward_post_hooks for layer in network.sublayers())
    assert all((value.numpy() == before[name]).all() for name, value in network.state_dict().items())
