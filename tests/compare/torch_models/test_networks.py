import numpy as np
import paddle
import pytest
import torch

from paddle_tk.compare.torch_models import TWINS, build_twin
from paddle_tk.compare.torch_models.norm import BatchNorm2d
from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import count_parameters
from tests.compare.torch_models.pairs import (
    ALL,
    CLASSES,
    CLASSIFIERS,
    DETECTOR,
    Pair,
    build_network,
    evaluation_pair,
    images,
    make_pair,
)

CASES = [*((name, stem, size) for name in CLASSIFIERS for stem, size in (("imagenet", 64), ("small", 32)))]


def raw_of(pair: Pair, batch: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What both return before anything is decoded: logits, or the twelve maps."""
    ours, theirs = (getattr(net, "raw", lambda x, net=net: [net(x)]) for net in (pair.network, pair.twin))
    with paddle.no_grad(), torch.no_grad():
        return (
            [x.numpy() for x in ours(paddle.to_tensor(batch))],
            [x.numpy() for x in theirs(torch.from_numpy(batch))],
        )


@pytest.mark.parametrize(("name", "stem", "size"), [*CASES, (DETECTOR, "imagenet", 64)])
def test_twin_computes_the_same_when_it_has_the_same_weights(name: str, stem: str, size: int) -> None:
    ours, theirs = raw_of(evaluation_pair(name, stem, size), images(3, size))
    assert len(ours) == len(theirs) == (1 if name in CLASSIFIERS else 12)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.ptp(one) > 0.1  # the images matter
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def test_detector_twin_returns_the_same_boxes_and_scores_when_it_evaluates() -> None:
    pair = evaluation_pair(DETECTOR, "imagenet", 64)
    batch = images(3, 96)[:, :, :64]  # 64 px high, 96 px wide
    with paddle.no_grad(), torch.no_grad():
        boxes, scores = (x.numpy() for x in pair.network(paddle.to_tensor(batch)))
        twin_boxes, twin_scores = (x.numpy() for x in pair.twin(torch.from_numpy(batch)))
    assert twin_boxes.shape == boxes.shape == (3, 126, 4)
    assert twin_scores.shape == scores.shape == (3, 126, CLASSES)
    # Pixels as shares of the image's longer side, so that the tolerance means the same at every size.
    np.testing.assert_allclose(twin_boxes / 96, boxes / 96, rtol=0, atol=1e-5)
    np.testing.assert_allclose(twin_scores, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["hardswish", "relu", "relu6"])
def test_detector_twin_computes_the_same_when_another_activation_is_chosen(activation: str) -> None:
    pair = make_pair(DETECTOR, size=64, activation=activation)
    pair.network.eval()
    pair.twin.eval()
    for one, other in zip(*raw_of(pair, images(1, 64)), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", DETECTOR])
def test_twin_differs_when_its_batch_norms_have_another_epsilon(name: str) -> None:
    pair = make_pair(name, size=64)
    pair.network.eval()
    pair.twin.eval()
    for layer in pair.twin.modules():
        if isinstance(layer, BatchNorm2d):
            layer.eps += 1e-3
    assert max(np.abs(a - b).max() for a, b in zip(*raw_of(pair, images(1, 64)), strict=True)) > 1e-5


@pytest.mark.parametrize("name", ALL)
def test_twin_has_the_parameters_and_batch_norm_settings_of_the_network(name: str) -> None:
    network = build_network(name, size=64, stem="small" if name in CLASSIFIERS else "imagenet")
    twin = build_twin(name, num_classes=CLASSES, stem="small" if name in CLASSIFIERS else "imagenet")
    assert sum(p.numel() for p in twin.parameters()) == count_parameters(network)["parameters"]
    ours = {k: v for k, v in network.named_sublayers() if isinstance(v, paddle.nn.BatchNorm2D)}
    theirs = {k: v for k, v in twin.named_modules() if isinstance(v, torch.nn.BatchNorm2d)}
    assert set(ours) == set(theirs)
    for key, norm in theirs.items():
        assert isinstance(norm, BatchNorm2d)
        assert (norm.eps, norm.momentum) == pytest.approx((ours[key]._epsilon, 1 - ours[key]._momentum))


def test_drop_rates_are_those_of_the_network() -> None:
    for name in ("mobilenet_v2", "efficientnet_b0"):
        assert build_twin(name, num_classes=CLASSES).classifier[0].p == 0.2
        assert build_twin(name, num_classes=CLASSES, dropout=0.4).classifier[0].p == 0.4
    network, twin = (f(num_classes=CLASSES) for f in (_efficientnet, lambda **kw: build_twin("efficientnet_b0", **kw)))
    rates = [block.drop_path.rate for block in network.blocks]
    assert [block.drop_path.rate for block in twin.blocks] == rates
    assert max(rates) > 0.1


def _efficientnet(num_classes: int) -> paddle.nn.Layer:
    from paddle_tk.models.efficientnet import efficientnet_b0

    return efficientnet_b0(num_classes)


def test_drop_path_drops_whole_samples_and_keeps_the_mean_when_training() -> None:
    from paddle_tk.compare.torch_models.efficientnet import DropPath

    torch.manual_seed(0)
    layer = DropPath(0.25)
    out = layer(torch.ones(4000, 2, 3, 3)).numpy().reshape(4000, -1)
    assert (out == out[:, :1]).all()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs(out.mean() - 1) < 0.037  # 4 standard errors
    assert (layer.eval()(torch.ones(4, 2, 3, 3)).numpy() == 1).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet19", {}, "known: efficientnet_b0, mobilenet_v2, resnet18, resnet50, yolov10n"),
        ("resnet18", {"num_classes": 1}, "at least 2 classes"),
        ("resnet18", {"stem": "auto"}, "unknown stem 'auto'"),
        ("resnet18", {"dropout": 0.1}, "no dropout"),
        ("mobilenet_v2", {"dropout": 1.0}, "dropout must be"),
        ("resnet18", {"activation": "silu"}, "cannot be chosen"),
        ("yolov10n", {"activation": "tanh"}, "unknown activation 'tanh'"),
        ("yolov10n", {"stem": "small"}, "no small stem"),
        ("yolov10n", {"dropout": 0.1}, "no dropout"),
        ("yolov10n", {"num_classes": 0}, "at least 1 class"),
    ],
)
def test_twin_is_refused_when_an_option_is_not_the_networks(name: str, options: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        build_twin(name, **{"num_classes": CLASSES, **options})


def test_every_twin_has_a_network_of_its_name() -> None:
    assert list(TWINS) == sorted(ALL)
