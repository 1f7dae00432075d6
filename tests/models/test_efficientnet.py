import numpy as np
import paddle
import pytest

from paddle_tk.models.classifiers import build_classifier, count_parameters
from paddle_tk.models.efficientnet import DropPath, efficientnet_b0, efficientnet_b2, round_channels, round_repeats


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_b1", 7_794_184),
        ("efficientnet_b2", 9_109_994),
        ("efficientnet_b3", 12_233_232),
    ],
)
def test_efficientnet_has_the_published_size(name: str, parameters: int) -> None:
    network = build_classifier(name, num_classes=1000, image_size=(224, 224))
    assert count_parameters(network)["parameters"] == parameters


def test_rounding_follows_the_published_rule() -> None:
    assert [round_channels(c, 1.1) for c in (16, 32, 40, 80, 112, 192, 320, 1280)] == [
        *(16, 32, 48, 88, 120, 208, 352, 1408),
    ]
    assert [round_repeats(r, 1.4) for r in (1, 2, 3, 4)] == [2, 3, 5, 6]


def test_drop_path_grows_linearly_with_depth() -> None:
    rates = [block.drop_path.rate for block in efficientnet_b0(10).blocks]
    assert len(rates) == 16
    np.testing.assert_allclose(rates, np.arange(16) * 0.2 / 16)


def test_published_settings_are_in_the_layers() -> None:
    network = efficientnet_b2(10)
    norms = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert {(norm._momentum, norm._epsilon) for norm in norms} == {(0.99, 1e-3)}
    assert network.classifier[0].p == 0.3


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    paddle.seed(0)
    layer = DropPath(0.25)
    out = layer(paddle.ones([4000, 2, 3, 3])).numpy().reshape(4000, -1)
    assert (out == out[:, :1]).all()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs(out.mean() - 1) < 0.03  # 4 standard errors: 4 * sqrt(0.25 / 0.75 / 4000) = 0.037
    layer.eval()
    assert (layer(paddle.ones([4, 2, 3, 3])).numpy() == 1).all()


def test_efficientnet_learns_a_separable_batch() -> None:
    paddle.seed(0)
    network = build_classifier("efficientnet_b0", num_classes=2, image_size=(32, 32), dropout=0.0)
    images = paddle.concat([paddle.ones([4, 3, 32, 32]), -paddle.ones([4, 3, 32, 32])])
    images = images + 0.1 * paddle.randn(images.shape)
    labels = paddle.to_tensor([0] * 4 + [1] * 4)
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=network.parameters())
    losses = []
    for _ in range(6):
        loss = paddle.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    assert losses[-1] < 0.25 * losses[0]
