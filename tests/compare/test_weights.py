from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from paddle_tk.compare.torch_models import build_twin
from paddle_tk.compare.weights import (
    Array,
    load_into,
    map_names,
    paddle_to_torch,
    shapes_of,
    torch_to_paddle,
    twin_arrays,
)
from paddle_tk.errors import ArtifactError
from paddle_tk.models.weights import network_arrays
from tests.compare.torch_models.pairs import ALL, CLASSES, CLASSIFIERS, build_network


def _stem(name: str) -> str:
    return "small" if name in CLASSIFIERS else "imagenet"


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", ALL)
def test_weights_come_back_bit_for_bit_when_they_went_to_the_other_side(name: str) -> None:
    network = build_network(name, size=64, stem=_stem(name))
    twin = build_twin(name, num_classes=CLASSES, stem=_stem(name))
    arrays = _random(shapes_of(network_arrays(network)))

    there = paddle_to_torch(arrays, twin)
    load_into(twin, there)
    back = torch_to_paddle(twin_arrays(twin), shapes_of(arrays))
    assert list(back) == list(arrays)
    assert all(back[key].tobytes() == arrays[key].tobytes() for key in arrays)

    again = paddle_to_torch(back, twin)
    held = twin_arrays(twin)
    assert set(again) == set(held)
    assert all(again[key].tobytes() == held[key].tobytes() and again[key].dtype == held[key].dtype for key in held)


@pytest.mark.parametrize("name", ALL)
def test_names_are_reported_in_both_directions(name: str) -> None:
    shapes = shapes_of(network_arrays(build_network(name, size=64, stem=_stem(name))))
    state = build_twin(name, num_classes=CLASSES, stem=_stem(name)).state_dict()
    mapping = map_names(shapes, shapes_of(state))
    assert list(mapping.paddle_to_torch) == list(shapes)
    assert set(mapping.torch_to_paddle) | set(mapping.counters) == set(state)
    assert {mapping.paddle_to_torch[value]: value for value in mapping.torch_to_paddle.values()} == (
        mapping.torch_to_paddle
    )
    linear = {pair.paddle for pair in mapping.pairs if pair.transposed}
    assert linear == ({"fc.weight"} if "resnet" in name else {"classifier.1.weight"} if name in CLASSIFIERS else set())
    kinds = {(pair.paddle.rpartition(".")[2], pair.torch.rpartition(".")[2]) for pair in mapping.pairs}
    assert kinds == {
        ("weight", "weight"),
        ("bias", "bias"),
        ("_mean", "running_mean"),
        ("_variance", "running_var"),
    }
    json.dumps(mapping.to_dict())


def test_square_linear_weight_is_transposed() -> None:
    twin = build_twin("resnet18", num_classes=512)
    shapes = {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): tuple(value.shape)
        for name, value in twin.state_dict().items()
        if "num_batches" not in name
    }
    arrays = _random(shapes)
    assert arrays["fc.weight"].shape == (512, 512)
    there = paddle_to_torch(arrays, twin)
    np.testing.assert_array_equal(there["fc.weight"], arrays["fc.weight"].T)
    np.testing.assert_array_equal(torch_to_paddle(there, shapes)["fc.weight"], arrays["fc.weight"])


@pytest.fixture
def case() -> tuple[dict[str, Array], torch.nn.Module]:
    network = build_network("resnet18", size=32, stem="small")
    return network_arrays(network), build_twin("resnet18", num_classes=CLASSES, stem="small")


def test_renamed_tensor_is_refused_by_name(case: tuple[dict[str, Array], torch.nn.Module]) -> None:
    arrays, twin = case
    arrays["layer1.0.convolution.weight"] = arrays.pop("layer1.0.conv1.weight")
    with pytest.raises(ArtifactError, match=r"layer1\.0\.convolution\.weight has no partner"):
        paddle_to_torch(arrays, twin)
    state = twin_arrays(twin)
    state["bn1.variance"] = state.pop("bn1.running_var")
    with pytest.raises(ArtifactError, match=r"bn1\._variance has no partner in torch, where it would be bn1\.running"):
        torch_to_paddle(state, shapes_of(case[0] | {"layer1.0.conv1.weight": np.zeros((64, 64, 3, 3))}))


def test_missing_tensor_is_refused_by_name(case: tuple[dict[str, Array], torch.nn.Module]) -> None:
    arrays, twin = case
    del arrays["layer2.1.bn2._mean"]
    with pytest.raises(ArtifactError, match=r"layer2\.1\.bn2\.running_mean \(in Paddle layer2\.1\.bn2\._mean\)"):
        paddle_to_torch(arrays, twin)


def test_tensor_too_many_is_refused_by_name(case: tuple[dict[str, Array], torch.nn.Module]) -> None:
    arrays, twin = case
    arrays["layer5.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ArtifactError, match=r"layer5\.bias has no partner in torch"):
        paddle_to_torch(arrays, twin)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv1.weight", (64, 3, 7, 7)), ("fc.weight", (CLASSES, 512)), ("bn1._mean", (32,))]
)
def test_wrong_shape_is_refused_by_name(
    case: tuple[dict[str, Array], torch.nn.Module], name: str, shape: tuple[int, ...]
) -> None:
    arrays, twin = case
    arrays[name] = np.zeros(shape, np.float32)
    with pytest.raises(ArtifactError, match=rf"{name} in Paddle has \[{', '.join(map(str, shape))}\]"):
        paddle_to_torch(arrays, twin)


def test_unknown_matrix_is_refused_because_its_layout_cannot_be_told() -> None:
    with pytest.raises(ArtifactError, match=r"embedding\.weight of shape \[4, 4\] is not a known linear weight"):
        map_names({"embedding.weight": (4, 4)}, {"embedding.weight": (4, 4)})


def test_twin_is_left_alone_when_what_is_loaded_does_not_fit(case: tuple[dict[str, Array], torch.nn.Module]) -> None:
    arrays, twin = case
    good, before = paddle_to_torch(arrays, twin), twin_arrays(twin)
    infinite = np.full_like(good["fc.bias"], np.inf)
    for bad, words in (
        (arrays, "bn1.num_batches_tracked"),
        ({k: v for k, v in good.items() if k != "fc.bias"}, "1 missing .fc.bias."),
        (good | {"extra": infinite}, "1 unknown .extra."),
        (good | {"fc.bias": infinite[:2]}, "fc.bias has the shape"),
        (good | {"fc.bias": infinite}, "fc.bias holds NaN or infinite"),
    ):
        with pytest.raises(ArtifactError, match=words):
            load_into(twin, bad)
    assert all(np.array_equal(before[key], value) for key, value in twin_arrays(twin).items())


def test_neither_framework_is_loaded_when_names_are_mapped_and_paddle_is_not_when_a_twin_is_built() -> None:
    code = (
        "import sys; import paddle_tk.compare.weights, paddle_tk.compare.torch_models as m;"
        "assert not {'paddle', 'torch'} & set(sys.modules);"
        "[m.build_twin(n, num_classes=2) for n in ('mobilenet_v2', 'efficientnet_b0', 'resnet18', 'yolov10n')];"
        "assert 'torch' in sys.modules and 'paddle' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
