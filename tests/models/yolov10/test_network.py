from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.models.weights import apply_weights, network_arrays
from paddle_tk.models.yolov10 import build_yolov10
from paddle_tk.models.yolov10.blocks import Stage
from tests.models.yolov10.small import images, settle_norms, small_network


@pytest.mark.parametrize("size", "nsmblx")
def test_every_size_gives_the_shapes_of_the_interface(size: str) -> None:
    network = build_yolov10(size, num_classes=5)
    network.eval()
    with paddle.no_grad():
        raw = network.raw(images(1, 64, 96))
        boxes, scores = network(images(1, 64, 96))
    sides = [(8, 12), (4, 6), (2, 3)]
    assert [tuple(x.shape) for x in raw] == [(1, c, *side) for c in (64, 5, 64, 5) for side in sides]
    assert (boxes.shape, scores.shape) == ([1, 126, 4], [1, 126, 5])
    assert boxes.dtype == scores.dtype == paddle.float32
    assert (network.nms_iou, network.strides) == (None, (8, 16, 32))


def test_stages_are_compact_where_the_size_says_so() -> None:
    expected = {
        "n": {"bottom5"},
        "s": {"stage5", "bottom5"},
        "m": {"stage5", "bottom4", "bottom5"},
        "x": {"stage4", "stage5", "top4", "bottom4", "bottom5"},
    }
    for size, names in expected.items():
        network = build_yolov10(size, num_classes=1)
        stages = {path.split(".")[-1]: layer for path, layer in network.named_sublayers() if isinstance(layer, Stage)}
        assert {name for name, stage in stages.items() if hasattr(stage.blocks[0], "layers")} == names


def test_training_returns_the_raw_maps_and_evaluation_decodes_them() -> None:
    network = small_network()
    settle_norms(network)
    network.eval()
    boxes, scores = network(images())
    decoded = network.decode(network.raw(images()))
    np.testing.assert_array_equal(boxes.numpy(), decoded[0].numpy())
    np.testing.assert_array_equal(scores.numpy(), decoded[1].numpy())
    network.train()
    assert len(network(images())) == 12


def test_the_one_to_one_head_gives_no_gradient_to_the_features() -> None:
    network = small_network()
    raw = network(images(2))
    sum(x.sum() for x in raw[:6]).backward()
    with_gradient = {path.split(".")[0] for path, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {"one_to_one"}
    sum(x.sum() for x in network(images(2))[6:]).backward()
    assert all(p.grad is not None for p in network.parameters() if not p.stop_gradient)


def test_heads_start_equal() -> None:
    network = small_network()
    raw = network(images(2))
    for one, many in zip(raw[:6], raw[6:], strict=True):
        np.testing.assert_array_equal(one.numpy(), many.numpy())


@pytest.mark.parametrize("activation", ["silu", "hardswish", "relu", "relu6"])
def test_the_activation_is_used_everywhere(activation: str) -> None:
    kinds = {"silu": paddle.nn.Silu, "hardswish": paddle.nn.Hardswish, "relu": paddle.nn.ReLU, "relu6": paddle.nn.ReLU6}
    network = build_yolov10("n", num_classes=2, activation=activation)
    found = [layer for layer in network.sublayers() if isinstance(layer, tuple(kinds.values()))]
    assert {type(layer) for layer in found} == {kinds[activation]}
    places = [layer for layer in build_yolov10("n", num_classes=2).sublayers() if isinstance(layer, kinds["silu"])]
    assert len(found) == len({id(layer) for layer in found}) == len(places)


def test_equal_seeds_give_equal_networks() -> None:
    states = []
    for _ in range(2):
        paddle.seed(3)
        states.append(network_arrays(build_yolov10("n", num_classes=2)))
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "z", "num_classes": 3}, "no size 'z'"),
        ({"size": "n", "num_classes": 0}, "at least 1 class, got 0"),
        ({"size": "n", "num_classes": 3, "activation": "mish"}, "unknown activation 'mish'"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build_yolov10(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["silu", "relu6"])
def test_the_inference_form_evaluates_to_the_same(activation: str) -> None:
    network = small_network(act=activation)
    settle_norms(network)
    before = network_arrays(network)
    small = network.inference_form()
    network.eval()
    x = images(2, 64, 96)
    for ours, theirs in zip(small(x), network(x), strict=True):
        spread = float(np.ptp(theirs.numpy()))
        assert spread > 1e-3
        # Rounding, which depends on the processor's matrix kernels, moves them by up to 1.4e-4.
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=5e-4 * spread)
    assert not any(isinstance(layer, paddle.nn.BatchNorm2D) for layer in small.sublayers())
    assert small.head_layers == tuple(f"one_to_one.classes.{level}.out" for level in range(3))
    assert len(small.raw(x)) == 6
    after = network_arrays(network)
    assert all((before[name] == after[name]).all() for name in before)


def test_making_the_inference_form_draws_no_random_numbers() -> None:
    network = small_network()
    drawn = []
    for make in (False, True):
        paddle.seed(1)
        if make:
            network.inference_form()
        drawn.append(paddle.rand([4]).numpy())
    np.testing.assert_array_equal(*drawn)


def test_an_inference_form_can_be_made_again() -> None:
    small = small_network().inference_form()
    again = small.inference_form()
    assert list(again.state_dict()) == list(small.state_dict())


def test_weights_load_when_the_class_count_differs() -> None:
    source, network = build_yolov10("n", num_classes=80), build_yolov10("n", num_classes=3)
    arrays = network_arrays(source)
    report = apply_weights(network, arrays, source="weights")
    assert {item.name for item in report.wrong_shape} == set(report.head)
    assert len(report.head) == 12
    assert not report.missing
    assert not report.unexpected
    loaded = network_arrays(network)
    assert all((loaded[name] == arrays[name]).all() for name in report.matched)


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ArtifactError, match="another architecture"):
        apply_weights(
            build_yolov10("n", num_classes=3), network_arrays(build_yolov10("s", num_classes=3)), source="weights"
        )
