from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.base import core
from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver

from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import FAMILIES, MODELS, build_classifier, family_of
from paddle_tk.models.depthwise import use_fast_depthwise
from paddle_tk.models.detectors import DETECTORS, build_detector
from paddle_tk.models.recompute import use_recompute
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.models.sync_batch_norm import use_sync_batch_norm
from paddle_tk.models.two_passes import once

EQUAL = 1e-6  # relative to the largest value of each tensor
Build = Callable[[], Any]


def _classifier(name: str) -> Any:
    stem = "small" if "small" in family_of(name).least else "imagenet"
    size = max(16, family_of(name).least[stem])
    return build_classifier(name, num_classes=5, stem=stem, image_size=(size, size)), size


def _scalar(outputs: Any) -> paddle.Tensor:
    found = [outputs] if isinstance(outputs, paddle.Tensor) else list(outputs)
    weights = [np.random.default_rng(i).normal(size=t.shape).astype(np.float32) for i, t in enumerate(found)]
    return sum(((t * paddle.to_tensor(w)).mean() for t, w in zip(found, weights, strict=True)), paddle.zeros([]))


def _trained(network: Any, images: paddle.Tensor, passes: int = 2) -> dict[str, np.ndarray]:
    """Gradients of some accumulated passes, and the state that they leave."""
    network.train()
    paddle.seed(5)
    for _ in range(passes):
        _scalar(network(images)).backward()
    found = {f"grad {k}": p.grad.numpy() for k, p in network.named_parameters() if p.grad is not None}
    return found | {k: v.numpy() for k, v in network.state_dict().items()} | {"random": paddle.rand([3]).numpy()}


def _assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        scale = max(float(np.abs(value).max()), 1e-12)
        assert float(np.abs(value - other[name]).max()) <= EQUAL * scale, name


def _pair(build: Build, chosen: Any = True) -> tuple[Any, Any, tuple[str, ...]]:
    paddle.seed(1)
    plain = build()
    paddle.seed(1)
    twice = build()
    return plain, twice, use_recompute(twice, chosen)


SEVERAL = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_25", "densenet121")


@pytest.mark.parametrize("name", [*SEVERAL, "squeezenet1_1", "googlenet", "lenet"])
def test_gradients_statistics_and_random_numbers_are_those_without_it(name: str) -> None:
    plain, twice, layers = _pair(lambda: _classifier(name)[0])
    images = paddle.rand([2, 3, *2 * [_classifier(name)[1]]])
    assert layers
    _assert_equal(_trained(plain, images), _trained(twice, images))


@pytest.mark.parametrize("name", ["picodet_xs", "yolov10n"])
def test_gradients_statistics_and_random_numbers_are_those_without_it_when_it_detects(name: str) -> None:
    plain, twice, layers = _pair(lambda: build_detector(name, num_classes=3, image_size=(64, 64)))
    assert len(layers) > 20
    images = paddle.rand([2, 3, 64, 64])
    _assert_equal(_trained(plain, images), _trained(twice, images))


def test_gradients_are_equal_when_our_kernels_compute() -> None:
    def build() -> Any:
        network = _classifier("mobilenet_v2")[0]
        use_small_map_conv(network)
        use_fast_depthwise(network)
        return network

    plain, twice, _ = _pair(build)
    images = paddle.rand([4, 3, 16, 16])
    _assert_equal(_trained(plain, images), _trained(twice, images))


@pytest.mark.parametrize("name", sorted({family.networks[0] for family in FAMILIES}))
def test_every_family_has_blocks(name: str) -> None:
    assert len(use_recompute(_classifier(name)[0], True)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_classifier_has_blocks(name: str) -> None:
    assert len(use_recompute(_classifier(name)[0], True)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_blocks(name: str) -> None:
    network = build_detector(name, num_classes=3, image_size=(64, 64))
    assert len(use_recompute(network, True)) >= 20


def _peak(network: Any, images: paddle.Tensor) -> int:
    network.train()
    _scalar(network(images)).backward()
    before = core.host_memory_stat_current_value("Allocated", 0)
    core.host_memory_stat_reset_peak_value("Allocated", 0)
    _scalar(network(images)).backward()
    after = core.host_memory_stat_current_value("Allocated", 0)
    assert after - before < 2**16
    return int(core.host_memory_stat_peak_value("Allocated", 0)) - int(before)


def test_peak_memory_falls_and_nothing_is_left_behind() -> None:
    plain, twice, _ = _pair(lambda: build_classifier("resnet18", num_classes=5, stem="imagenet", image_size=(96, 96)))
    images = paddle.rand([8, 3, 96, 96])
    assert _peak(twice, images) < 0.7 * _peak(plain, images)


def _resnet() -> Any:
    return build_classifier("resnet18", num_classes=4, stem="small", image_size=(16, 16))


NAMES = [
    (False, ()),
    ([], ()),
    (["layer3"], ("layer3.0", "layer3.1")),
    (["layer4", "layer2.1"], ("layer2.1", "layer4.0", "layer4.1")),
    (["layer3.0.conv1", "layer3"], ("layer3.0", "layer3.1")),
    (["layer3.0.conv1", "conv1"], ("conv1", "layer3.0.conv1")),
    (["layer1.0", "layer1"], ("layer1.0", "layer1.1")),
]


@pytest.mark.parametrize(("chosen", "expected"), NAMES)
def test_names_stand_for_the_blocks_below_them(chosen: Any, expected: tuple[str, ...]) -> None:
    plain, twice, layers = _pair(_resnet, chosen)
    assert layers == expected
    images = paddle.rand([2, 3, 16, 16])
    _assert_equal(_trained(plain, images), _trained(twice, images))


def test_runs_of_a_sequence_can_be_named() -> None:
    def build() -> Any:
        return _classifier("lenet")[0]

    assert use_recompute(build(), ["features"]) == use_recompute(build(), True) == ("features.0-2", "features.3-5")
    plain, twice, layers = _pair(build, ["features.3-5", "features.4", "features.0", "fc.0"])
    assert layers == ("features.0", "features.3-5", "fc.0")
    images = paddle.rand([2, 3, 28, 28])
    _assert_equal(_trained(plain, images), _trained(twice, images))


def test_a_list_of_layers_stands_for_its_members() -> None:
    network = build_detector("yolov10n", num_classes=2, image_size=(64, 64))
    assert use_recompute(network, ["one_to_one.boxes"]) == tuple(f"one_to_one.boxes.{level}" for level in range(3))
    assert use_recompute(network, ["backbone.stage4.blocks"]) == tuple(f"backbone.stage4.blocks.{i}" for i in range(2))


def test_unknown_names_are_refused_with_the_closest() -> None:
    with pytest.raises(BadInput, match=r"no layer 'layer33'.*did you mean 'layer3'"):
        use_recompute(_resnet(), ["layer1", "layer33"])


def test_a_network_without_known_blocks_is_refused() -> None:
    with pytest.raises(BadInput, match=r"Sequential has no blocks.*recompute=\[0\]"):
        use_recompute(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), True)


class Counting(nn.Layer):
    """Counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1D(4), nn.Dropout(0.5)
        self.passes = 0

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        self.passes += 1
        return self.drop(self.norm(self.linear(x)))


def test_the_forward_runs_twice_at_most_when_it_is_chosen_again() -> None:
    network = nn.Sequential(Counting(), nn.Linear(4, 2))
    for _ in range(2):
        assert use_recompute(network, ["0"]) == ("0",)
    network(paddle.rand([3, 4])).sum().backward()
    assert network[0].passes == 2


def test_the_forward_runs_twice_when_a_layer_around_it_recomputes_too() -> None:
    network = nn.Sequential(nn.Sequential(Counting()), nn.Linear(4, 2))
    assert use_recompute(network, ["0.0"]) == ("0.0",)
    assert use_recompute(network, ["0"]) == ("0",)
    network(paddle.rand([3, 4])).sum().backward()
    assert network[0][0].passes == 2


def test_the_forward_runs_once_when_it_is_not_trained() -> None:
    network = nn.Sequential(Counting(), nn.Linear(4, 2))
    use_recompute(network, ["0"])
    with paddle.no_grad():
        network(paddle.rand([3, 4]))
    network.eval()
    network(paddle.rand([3, 4])).sum().backward()
    assert network[0].passes == 2


def test_a_layer_that_learns_nothing_computes_once() -> None:
    network = nn.Sequential(Counting(), nn.Linear(4, 2))
    use_recompute(network, ["0"])
    for parameter in network[0].parameters():
        parameter.stop_gradient = True
    network(paddle.rand([3, 4])).sum().backward()
    assert network[0].passes == 1
    assert network[1].weight.grad is not None


class Pair(NamedTuple):
    first: paddle.Tensor
    rest: dict[str, Any]


class Structured(nn.Layer):
    """Takes and returns what tensors come in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, maps: list[Any], extra: dict[str, Any], *, factor: float = 1.0) -> Pair:
        y = self.linear(maps[0]) * factor + maps[1][0]
        return Pair(y, {"none": None, "same": maps[0], "list": [y * 2, extra["more"] * y], "text": "kept"})


@pytest.mark.parametrize("wanting", [True, False])
def test_lists_dicts_and_none_pass_through(wanting: bool) -> None:
    found = []
    for chosen in (False, ["0"]):
        paddle.seed(0)
        network = nn.LayerList([Structured()])
        use_recompute(network, chosen)
        x, more = paddle.rand([3, 4]), paddle.rand([3, 4])
        x.stop_gradient = not wanting
        y = network[0]([x, (more, None)], {"more": more, "count": 3}, factor=0.5)
        assert isinstance(y, Pair)
        assert (y.rest["none"], y.rest["text"]) == (None, "kept")
        (y.first.sum() + y.rest["same"].square().sum() + sum(z.sin().sum() for z in y.rest["list"])).backward()
        found.append([network[0].linear.weight.grad.numpy(), *([x.grad.numpy()] if wanting else [])])
    for plain, twice in zip(*found, strict=True):
        np.testing.assert_allclose(twice, plain, rtol=1e-6, atol=1e-7)


def test_scales_of_fake_quantizers_move_once_and_are_those_of_the_first_pass() -> None:
    def build() -> Any:
        block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        block.add_sublayer("quanter", FakeQuanterWithAbsMaxObserver(moving_rate=0.5)._instance(block))
        return nn.Sequential(block, nn.Linear(4, 2))

    plain, twice, _ = _pair(build, ["0"])
    x = paddle.rand([8, 4])
    _assert_equal(_trained(plain, x, passes=3), _trained(twice, x, passes=3))


class OneProcess:
    """A job of one process, which counts its exchanges."""

    def __init__(self) -> None:
        self.training, self.own_images, self.exchanges = True, 4, 0

    def add_up(self, tensor: paddle.Tensor) -> None:
        self.exchanges += 1


def test_synchronised_statistics_are_exchanged_once() -> None:
    jobs = [OneProcess(), OneProcess()]
    turn = iter(jobs)

    def build() -> Any:
        network = _resnet()
        use_sync_batch_norm(network, next(turn))
        return network

    plain, twice, _ = _pair(build)
    images = paddle.rand([4, 3, 16, 16])
    _assert_equal(_trained(plain, images), _trained(twice, images))
    assert jobs[0].exchanges == jobs[1].exchanges > 0


def test_once_is_the_first_passes_value_in_a_recomputed_layer_and_new_elsewhere() -> None:
    calls: list[int] = []

    class Layer(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return self.linear(x) * once(lambda: calls.append(1) or float(len(calls)))

    network = nn.Sequential(Layer())
    use_recompute(network, ["0"])
    network(paddle.ones([1, 2])).sum().backward()
    assert len(calls) == 1
    network.eval()
    network(paddle.ones([1, 2]))
    assert len(calls) == 2


def test_a_copy_computes_with_its_own_layers() -> None:
    plain, twice, _ = _pair(_resnet)
    copied = copy.deepcopy(twice)
    for parameter in twice.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    images = paddle.rand([2, 3, 16, 16])
    _assert_equal(_trained(plain, images), _trained(copied, images))


def test_names_in_the_state_are_as_before() -> None:
    plain, twice, _ = _pair(_resnet)
    assert list(plain.state_dict()) == list(twice.state_dict())
    assert [k for k, _ in plain.named_sublayers()] == [k for k, _ in twice.named_sublayers()]
