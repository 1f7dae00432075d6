import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.files import sha256_file
from paddle_tk.manifest import write_manifest
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.weights import apply_weights, network_arrays, read_weights, write_safetensors
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

ROOT = Path(__file__).parents[2]


def build(name: str = "shufflenet_v2_x0_25", *, seed: int = 0, num_classes: int = 7, **options: Any) -> Any:
    paddle.seed(seed)
    return build_classifier(name, **{"num_classes": num_classes, "image_size": (32, 32), **options})


def assert_equal(network: Any, arrays: dict[str, np.ndarray], names: Any = None) -> None:
    found = network_arrays(network)
    for name in names if names is not None else found:
        np.testing.assert_array_equal(found[name], arrays[name])


def raw_safetensors(dtype: str, shape: list[int], payload: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(payload)]}}).encode()
    return struct.pack("<Q", len(header)) + header + payload


def test_safetensors_round_trip_restores_every_tensor(tmp_path: Path) -> None:
    source, target = build(seed=0), build(seed=1)
    arrays = network_arrays(source)
    write_safetensors(arrays, tmp_path / "w.safetensors")
    report = apply_weights(target, read_weights(tmp_path / "w.safetensors"), source="w")
    assert report.complete
    assert report.matched == tuple(sorted(arrays))
    assert report.lines() == [f"weights from w: {len(arrays)} of {len(arrays)} tensors set"]
    assert_equal(target, arrays)


def test_pdparams_round_trip_restores_every_tensor(tmp_path: Path) -> None:
    source, target = build(seed=0), build(seed=1)
    paddle.save(source.state_dict(), str(tmp_path / "w.pdparams"))
    report = apply_weights(target, read_weights(tmp_path / "w.pdparams"), source="w")
    assert report.complete
    assert not report.unexpected
    assert_equal(target, network_arrays(source))


def test_network_arrays_are_copies() -> None:
    network = build()
    arrays = network_arrays(network)
    before = network._fc.weight.numpy().copy()
    arrays["_fc.weight"][:] = 0
    np.testing.assert_array_equal(network._fc.weight.numpy(), before)


def test_written_bytes_are_equal_in_two_processes(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from paddle_tk.models.weights import write_safetensors\n"
        "names = ['b', 'a', 'c.d', 'z', 'i']\n"
        "names = names[::-1] if sys.argv[2] == 'reversed' else names\n"
        "arrays = {n: np.full((3, len(n)), ord(n[0]), 'int64' if n == 'i' else 'float32') for n in names}\n"
        "write_safetensors(arrays, Path(sys.argv[1]))\n"
    )
    digests = set()
    for seed, order in (("1", "straight"), ("2", "reversed")):
        path = tmp_path / order / "w.safetensors"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, str(path), order], cwd=ROOT, env=environment, check=True, capture_output=True
        )
        digests.add(sha256_file(path))
    assert len(digests) == 1


def test_write_safetensors_keeps_values_when_arrays_are_views(tmp_path: Path) -> None:
    base = np.arange(6, dtype="float32").reshape(2, 3)
    write_safetensors({"t": base.T, "s": base[:, ::2], "n": np.array(3.0)}, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read["t"], base.T)
    np.testing.assert_array_equal(read["s"], base[:, ::2])
    assert read["n"].shape == ()
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_head_of_another_class_count_stays_as_initialised(tmp_path: Path) -> None:
    target = build(seed=1, num_classes=5)
    before, arrays = network_arrays(target), network_arrays(build(num_classes=7))
    report = apply_weights(target, arrays, source="seven.safetensors")
    assert [item.name for item in report.wrong_shape] == ["_fc.bias", "_fc.weight"]
    assert not report.complete
    assert "classifier left as initialised" in report.lines()[1]
    assert "_fc.weight [512, 7], needed [512, 5]" in report.lines()[1]
    assert_equal(target, before, report.head)
    assert_equal(target, arrays, report.matched)


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_1", "mobilenet_v3_small", "densenet121", "lenet"])
def test_only_the_head_differs_when_class_counts_do(name: str) -> None:
    report = apply_weights(build(name, num_classes=5), network_arrays(build(name, num_classes=7)), source="w")
    assert {item.name for item in report.wrong_shape} == set(report.head)


def test_backbone_alone_is_accepted_and_said() -> None:
    arrays = network_arrays(build())
    del arrays["_fc.weight"], arrays["_fc.bias"]
    report = apply_weights(build(seed=1), arrays, source="w")
    assert report.missing == ("_fc.bias", "_fc.weight")
    assert report.lines()[1] == "left as initialised, not in the file: _fc.bias, _fc.weight"


def test_published_stem_loads_into_a_small_stem_but_for_the_first_convolution() -> None:
    arrays = network_arrays(build("resnet18", stem="imagenet"))
    target = build("resnet18", seed=1, stem="small")
    report = apply_weights(target, arrays, source="w")
    assert [(item.name, item.in_file, item.in_network) for item in report.wrong_shape] == [
        ("conv1.weight", (64, 3, 7, 7), (64, 3, 3, 3))
    ]
    assert "conv1.weight [64, 3, 7, 7], needed [64, 3, 3, 3]" in report.lines()[1]
    assert_equal(target, arrays, report.matched)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("resnet18", "resnet34"),  # every tensor of the file fits, half of the network stays empty
        ("resnet34", "resnet18"),  # the network is filled, half of the file is left over
        ("resnet50", "resnet34"),  # nine tenths of the names and shapes agree
        ("squeezenet1_0", "squeezenet1_1"),  # all names agree, two shapes do not
        ("shufflenet_v2_x0_25", "shufflenet_v2_x0_33"),
        ("mobilenet_v3_small", "lenet"),
    ],
)
def test_another_architecture_is_refused_and_nothing_is_set(given: str, wanted: str) -> None:
    target = build(wanted, seed=1, stem="auto" if wanted == "lenet" else "imagenet", image_size=(64, 64))
    before = network_arrays(target)
    arrays = network_arrays(build(given, stem="imagenet", image_size=(64, 64)))
    with pytest.raises(ArtifactError, match=rf"another architecture: \d+ of the network's {len(before)} tensors"):
        apply_weights(target, arrays, source="w")
    assert_equal(target, before)


def test_few_foreign_tensors_are_ignored_and_said() -> None:
    arrays = {**network_arrays(build()), "epoch": np.array(3)}
    report = apply_weights(build(seed=1), arrays, source="w")
    assert report.unexpected == ("epoch",)
    assert report.complete
    assert report.lines()[1] == "in the file but not in the network, ignored: epoch"


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_float_types_are_cast(dtype: str) -> None:
    arrays = {name: array.astype(dtype) for name, array in network_arrays(build()).items()}
    target = build(seed=1)
    apply_weights(target, arrays, source="w")
    assert target._fc.weight.dtype == paddle.float32
    assert_equal(target, {name: array.astype("float32") for name, array in arrays.items()})


def test_float32_weights_fit_a_bfloat16_network_and_come_back_as_float32() -> None:
    target = build("lenet", seed=1).to(dtype="bfloat16")
    arrays = {name: np.full(array.shape, 0.5, "float32") for name, array in network_arrays(target).items()}
    apply_weights(target, arrays, source="w")
    assert target.fc[2].weight.dtype == paddle.bfloat16
    assert_equal(target, arrays)


def test_bfloat16_is_widened_when_read(tmp_path: Path) -> None:
    expected = np.array([[1.5, -2.0], [0.0, 3.140625]], "float32")
    bits = (expected.view(np.uint32) >> 16).astype(np.uint16)
    (tmp_path / "w.safetensors").write_bytes(raw_safetensors("BF16", [2, 2], bits.tobytes()))
    paddle.save({"w": paddle.to_tensor(expected).astype("bfloat16")}, str(tmp_path / "w.pdparams"))
    for name in ("w.safetensors", "w.pdparams"):
        np.testing.assert_array_equal(read_weights(tmp_path / name)["w"], expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.float32("nan"), "NaN or infinite"), (np.float32("inf"), "NaN or infinite"), (np.int8(1), "is int8")],
)
def test_unusable_values_are_refused_and_nothing_is_set(value: Any, message: str) -> None:
    target = build(seed=1)
    before, arrays = network_arrays(target), network_arrays(build())
    arrays["_fc.weight"] = np.full_like(arrays["_fc.weight"], value, dtype=value.dtype)
    with pytest.raises(ArtifactError, match=rf"_fc\.weight .*{message}|_fc\.weight {message}"):
        apply_weights(target, arrays, source="w")
    assert_equal(target, before)


def test_run_folder_and_model_folder_lead_to_the_weights(tmp_path: Path) -> None:
    arrays = {"w": np.ones((2, 2), "float32")}
    write_safetensors(arrays, tmp_path / "run" / "model" / "model.safetensors")
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        np.testing.assert_array_equal(read_weights(folder)["w"], arrays["w"])
    with pytest.raises(ArtifactError, match=r"holds no model\.safetensors"):
        read_weights(tmp_path)


def test_changed_byte_is_found_when_a_manifest_lies_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors({"w": np.ones((2, 2), "float32")}, path)
    artifact = ModelArtifact(
        path=path.name,
        format="paddle-safetensors",
        precision="fp32",
        task=Task("classification", ("a", "b")),
        inputs=(InputSpec("images", (None, 3, 8, 8)),),
        outputs=(InputSpec("logits", (None, 2)),),
        preprocessing=Preprocessing((8, 8)),
        sha256={path.name: sha256_file(path)},
    )
    write_manifest(tmp_path, artifact)
    np.testing.assert_array_equal(read_weights(tmp_path)["w"], np.ones((2, 2)))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="damaged or was changed"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("w.safetensors", b"not a tensor file", "damaged or not a safetensors file"),
        ("w.safetensors", raw_safetensors("F32", [3], bytes(12))[:-4], "damaged"),
        ("w.safetensors", raw_safetensors("F8_E4M3", [2], bytes(2)), "F8_E4M3"),
        ("w.pdparams", b"\x80\x04not a pickle", "not a readable pickle"),
        ("w.pdparams", pickle.dumps([1, 2]), "holds a list"),
        ("w.pdparams", pickle.dumps({"epoch": 3}), "'epoch' is a int"),
        ("w.bin", b"", "not a weights file"),
    ],
)
def test_damaged_or_foreign_file_is_an_artifact_error(tmp_path: Path, name: str, payload: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(payload)
    with pytest.raises(ArtifactError, match=message):
        read_weights(tmp_path / name)


def test_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no weights at"):
        read_weights(tmp_path / "absent.safetensors")


class Malicious:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"w": Malicious(str(trace))}))
    with pytest.raises(ArtifactError):
        read_weights(tmp_path / "w.pdparams")
    assert not trace.exists()
