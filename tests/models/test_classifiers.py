import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import (
    FAMILIES,
    MODELS,
    build_classifier,
    check_image_size,
    count_parameters,
    family_of,
    resolve_stem,
)

FAST = (
    *("resnet18", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"),
    *("shufflenet_v2_x0_25", "shufflenet_v2_x0_33", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    *("shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "shufflenet_v2_swish", "densenet121", "squeezenet1_0"),
    *("squeezenet1_1", "googlenet", "inception_v3", "lenet"),
)
SLOW = tuple(name for name in MODELS.names() if name not in FAST)
SIZED = [(family.networks[0], stem, side) for family in FAMILIES for stem, side in family.least.items() if side > 1]


def build(name: str, side: int, **options: Any) -> Any:
    paddle.seed(0)
    network = build_classifier(name, **{"num_classes": 7, "image_size": (side, side), **options})
    network.eval()
    return network


def logits_of(network: Any, height: int, width: int, batch: int = 2) -> np.ndarray:
    images = np.random.default_rng(0).normal(size=(batch, 3, height, width)).astype("float32")
    with paddle.no_grad():
        return network(paddle.to_tensor(images)).numpy()


def windows_fit(network: Any, side: int) -> bool:
    """Whether every convolution's and pool's window fits its padded map, and the forward runs.

    Paddle runs some networks with windows that stick out of their map, which no other engine does.
    """
    fits = []

    def note(layer: Any, inputs: Any) -> None:
        window = layer._kernel_size if isinstance(layer, paddle.nn.Conv2D) else layer.ksize
        padding = layer._padding if isinstance(layer, paddle.nn.Conv2D) else layer.padding
        room = np.array(inputs[0].shape[2:]) + 2 * np.array(padding)
        fits.append(bool((room >= np.array(window)).all()))

    windowed = (paddle.nn.Conv2D, paddle.nn.MaxPool2D, paddle.nn.AvgPool2D)
    hooks = [layer.register_forward_pre_hook(note) for layer in network.sublayers() if isinstance(layer, windowed)]
    try:
        logits_of(network, side, side, batch=1)
    except (ValueError, RuntimeError, OSError):
        return False
    finally:
        for hook in hooks:
            hook.remove()
    assert fits
    return all(fits)


def test_registry_lists_every_constructor_of_paddle() -> None:
    import paddle.vision.models as published

    constructors = {name for name in published.__all__ if name.islower()}
    ours = {"lenet", *(f"efficientnet_b{i}" for i in range(4))}
    assert set(MODELS.names()) == constructors | ours


def test_classifiers_import_loads_no_framework() -> None:
    code = "import sys, paddle_tk.models.classifiers; sys.exit('paddle' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize("name", FAST)
def test_network_gives_logits_and_builds_equal_when_seeded(name: str) -> None:
    network = build(name, 32, num_classes=7)
    assert logits_of(network, 32, 32).shape == (2, 7)
    again = build(name, 32, num_classes=7)
    for path, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), again.state_dict()[path].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_large_network_gives_logits(name: str) -> None:
    logits = logits_of(build(name, 32), 32, 32)
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "stem", "side"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in SLOW else ()) for case in SIZED],
)
def test_least_size_works_and_one_pixel_less_does_not(name: str, stem: str, side: int) -> None:
    network = build(name, side, stem=stem)
    assert windows_fit(network, side)
    assert not windows_fit(network, side - 1)
    with pytest.raises(BadInput, match=f"{side} px"):
        build_classifier(name, num_classes=7, stem=stem, image_size=(side - 1, side))


@pytest.mark.parametrize(("name", "stem", "side"), [("lenet", "auto", 28), ("lenet", "auto", 28 + 41)])
def test_lenet_takes_rgb_images_of_any_size(name: str, stem: str, side: int) -> None:
    network = build_classifier(name, num_classes=7, stem=stem, image_size=(side, 2 * side))
    assert logits_of(network, side, 2 * side).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64, 100, 224, 256])
def test_vgg_pool_equals_paddles_adaptive_pool(side: int) -> None:
    network = build("vgg11", side)
    features = paddle.rand([1, 4, side // 32, side // 32])
    expected = paddle.nn.functional.adaptive_avg_pool2d(features, 7).numpy()
    if side // 32 <= 7:
        np.testing.assert_allclose(network.avgpool(features).numpy(), expected, rtol=1e-6)
    assert network.avgpool(features).shape == [1, 4, 7, 7]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet_v2", 3_504_872),
        ("mobilenet_v3_small", 2_542_856),
        ("densenet121", 7_978_856),
        ("squeezenet1_1", 1_235_496),
        ("shufflenet_v2_x1_0", 2_278_604),
        pytest.param("vgg16", 138_357_544, marks=pytest.mark.slow),
        pytest.param("alexnet", 61_100_840, marks=pytest.mark.slow),
    ],
)
def test_count_parameters_equals_the_published_size(name: str, parameters: int) -> None:
    network = build(name, 224, num_classes=1000)
    assert count_parameters(network) == {"parameters": parameters, "trainable": parameters}


def test_count_parameters_leaves_frozen_ones_out_of_trainable() -> None:
    network = build("resnet18", 32)
    network.fc.weight.stop_gradient = True
    counts = count_parameters(network)
    assert counts["parameters"] - counts["trainable"] == 512 * 7


@pytest.mark.parametrize(
    ("name", "stem", "size", "expected"),
    [
        ("resnet18", "auto", (95, 300), "small"),
        ("resnet18", "auto", (96, 96), "imagenet"),
        ("resnet18", "imagenet", (32, 32), "imagenet"),
        ("mobilenet_v2", "small", (224, 224), "small"),
        ("vgg16", "auto", (32, 32), "imagenet"),
        ("lenet", "auto", (28, 28), "imagenet"),
    ],
)
def test_resolve_stem_follows_the_shorter_side(name: str, stem: str, size: tuple[int, int], expected: str) -> None:
    assert resolve_stem(name, stem, size) == expected


def test_bad_choices_are_one_clear_error() -> None:
    with pytest.raises(BadInput, match=r"unknown model 'resnet19'.*did you mean 'resnet18'"):
        build_classifier("resnet19", num_classes=7, image_size=(32, 32))
    with pytest.raises(BadInput, match="unknown stem 'tiny'"):
        resolve_stem("resnet18", "tiny", (32, 32))
    with pytest.raises(BadInput, match="vgg16 has no small stem"):
        resolve_stem("vgg16", "small", (32, 32))
    with pytest.raises(BadInput, match="at least 2 classes, got 1"):
        build_classifier("resnet18", num_classes=1, image_size=(32, 32))


def test_too_small_images_error_offers_the_small_stem_when_it_would_do() -> None:
    with pytest.raises(BadInput, match=r"32x32 px.*75 px a side.*model.stem=small \(from 23 px\)"):
        check_image_size("inception_v3", "imagenet", (32, 32))
    with pytest.raises(BadInput) as caught:
        check_image_size("lenet", "auto", (16, 16))
    assert "small" not in caught.value.fix


def test_dropout_replaces_the_networks_own_and_is_refused_when_it_has_none() -> None:
    network = build("mobilenet_v3_small", 32, dropout=0.45)
    assert [layer.p for layer in network.sublayers() if isinstance(layer, paddle.nn.Dropout)] == [0.45]
    assert build("mobilenet_v3_small", 32).classifier[2].p == 0.2
    with pytest.raises(BadInput, match="resnet18 has no dropout"):
        build_classifier("resnet18", num_classes=7, image_size=(32, 32), dropout=0.1)
    with pytest.raises(BadInput, match="got 1"):
        build_classifier("mobilenet_v2", num_classes=7, image_size=(32, 32), dropout=1.0)


@pytest.mark.parametrize("name", [name for name in FAST if family_of(name).dropout])
def test_dropout_and_head_layers_exist(name: str) -> None:
    layers = dict(build(name, 32).named_sublayers())
    assert all(isinstance(layers[path], paddle.nn.Dropout) for path in family_of(name).dropout)
    assert all(7 in layers[path].weight.shape for path in family_of(name).head)


@pytest.mark.parametrize("side", [32, 224])
def test_googlenet_returns_auxiliary_logits_only_while_it_trains(side: int) -> None:
    network = build("googlenet", side)
    assert logits_of(network, side, side, batch=1).shape == (1, 7)
    network.train()
    outputs = network(paddle.rand([1, 3, side, side]))
    assert [output.shape for output in outputs] == [[1, 7]] * 3
    sum(output.sum() for output in outputs).backward()
    assert all(layer.weight.grad is not None for layer in (network._out1, network._out2, network._conv._conv))


def test_googlenet_equals_paddles_at_its_published_size() -> None:
    from paddle.vision.models import googlenet

    ours, theirs = build("googlenet", 224), googlenet(num_classes=7)
    theirs.set_state_dict(ours.state_dict())
    theirs.eval()
    images = paddle.rand([1, 3, 224, 224])
    with paddle.no_grad():
        np.testing.assert_array_equal(ours(images).numpy(), theirs(images)[0].numpy())
        for layer in ours.sublayers():
            layer.training = False
        ours.training = True  # the auxiliary heads without their random dropout
        for mine, published in zip(ours(images), theirs(images), strict=True):
            np.testing.assert_array_equal(mine.numpy(), published.numpy())


@pytest.mark.parametrize("name", ["googlenet", "lenet", "efficientnet_b0", "inception_v3"])
def test_network_gives_the_same_logits_when_traced_to_a_static_graph(name: str) -> None:
    network = build(name, 32)
    eager = logits_of(network, 32, 32)
    spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "images")]
    static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
    np.testing.assert_allclose(logits_of(static, 32, 32), eager, rtol=1e-4, atol=1e-5)
