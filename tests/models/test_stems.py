from typing import Any

import paddle
import pytest

from paddle_tk.models.classifiers import build_classifier

# Network, its last layer that sees a map, that map's side at 32 px with the small stem, with the published one.
MAPS = [
    ("resnet18", "layer4", 4, 1),
    ("mobilenet_v1", "conv6", 4, 1),
    ("mobilenet_v2", "features", 4, 1),
    ("mobilenet_v3_small", "lastconv", 4, 1),
    ("mobilenet_v3_large", "lastconv", 4, 1),
    ("efficientnet_b0", "head", 4, 1),
    ("shufflenet_v2_x0_25", "_last_conv", 4, 1),
    ("densenet121", "batch_norm", 4, 1),
    ("squeezenet1_1", "_conv9", 3, 1),
    ("googlenet", "_ince5b", 3, None),
    ("inception_v3", "inception_block_list.10", 2, None),
    pytest.param("alexnet", "_conv5", 6, None, marks=pytest.mark.slow),
]


def map_side(name: str, layer: str, stem: str) -> int:
    network = build_classifier(name, num_classes=7, stem=stem, image_size=(32, 32))
    network.eval()
    sides: list[list[int]] = []
    dict(network.named_sublayers())[layer].register_forward_post_hook(
        lambda layer, inputs, output: sides.append(output.shape[2:])
    )
    with paddle.no_grad():
        network(paddle.rand([1, 3, 32, 32]))
    assert len(sides) == 1
    assert sides[0][0] == sides[0][1]
    return sides[0][0]


@pytest.mark.parametrize(("name", "layer", "small", "published"), MAPS)
def test_small_stem_keeps_resolution(name: str, layer: str, small: int, published: int | None) -> None:
    assert map_side(name, layer, "small") == small
    if published is not None:
        assert map_side(name, layer, "imagenet") == published


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("resnet18", ["conv1.weight"]),
        ("densenet121", ["conv1_func._conv.weight"]),
        ("googlenet", ["_conv._conv.weight"]),
        ("squeezenet1_0", ["_conv.weight"]),
        ("squeezenet1_1", []),
        ("mobilenet_v2", []),
        ("mobilenet_v3_large", []),
        ("efficientnet_b0", []),
        ("shufflenet_v2_x1_0", []),
        ("inception_v3", []),
    ],
)
def test_small_stem_changes_no_name_and_no_shape_but_the_first_convolutions(name: str, changed: list[str]) -> None:
    def shapes(stem: str) -> dict[str, Any]:
        network = build_classifier(name, num_classes=7, stem=stem, image_size=(96, 96))
        return {path: tuple(value.shape) for path, value in network.state_dict().items()}

    small, published = shapes("small"), shapes("imagenet")
    assert list(small) == list(published)
    assert [path for path in small if small[path] != published[path]] == changed
