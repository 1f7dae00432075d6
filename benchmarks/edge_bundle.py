"""Do edge bundles run without the toolkit, on old software, and on aarch64?

1. The x86 bundles of a classifier (FP32 and INT8) and of a detector run in a fresh environment that holds only what
   their requirements.txt names; every prediction for test images is held against that of tools/predict.py.
2. The Jetson Nano bundles keep to Python 3.6 (vermin), use only what ONNX Runtime 1.10 has, and pass their self-test on
   the oldest ONNX Runtime that installs with a Python of this machine.
3. The Raspberry Pi 5 bundles pass their self-test on an emulated Cortex-A72 (without dot product), A76 and A57, where
   qemu and an aarch64 Python can be had. What was tried and how it went is printed; where it cannot be set up nothing
   is claimed.
4. Published latencies of networks that the toolkit has lie inside the estimated ranges.

The networks are trained for seconds: how good they are is of no meaning here.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._edge_places import Place, emulate_processor, emulated_aarch64, fresh_environment, old_python
from benchmarks._report import Claim, finish, parser

CLASSIFIER = (
    *("model=lenet", "data.image_size=28", "data.batch_size=64", "trainer.max_epochs=3", "trainer.optimizer=adamw"),
    *("trainer.learning_rate=0.002", "trainer.warmup_epochs=0", "trainer.max_retries=0", "trainer.loggers=[]"),
)
DETECTOR = (
    *("model=picodet_xs", "data=digits_detection", "data.image_size=128", "data.batch_size=8", "trainer=detection"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=8", "trainer.limit_val_batches=2", "trainer.loggers=[]"),
    *("trainer.warmup_epochs=0", "trainer.max_retries=0"),
)
# A network of this size has more Q/DQ nodes than weights; its speed is not the question here.
INT8 = ("quantize.latency_rounds=0", "quantize.max_size_ratio=1", "quantize.samples=128")
PROCESSORS = {"cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5", "cortex-a57": "Jetson Nano"}
IMAGES = 32
_ALLOWED_PACKAGES = 20  # NumPy, OpenCV, ONNX Runtime, what they need, pip and setuptools


def main() -> int:
    """Builds the bundles, runs them in each place, and prints what was claimed."""
    arguments = parser(__doc__ or "", "edge_bundle")
    arguments.add_argument("--classifier", type=Path, metavar="RUN", help="a finished run (default: train one)")
    arguments.add_argument("--detector", type=Path, metavar="RUN", help="a finished run (default: train one)")
    arguments.add_argument("--skip-emulation", action="store_true", help="leave the emulated aarch64 out")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge_bundle-") as name:
        work = Path(name)
        bundles = make_bundles(work, given)
        notes: dict[str, Any] = {}
        claims = [*fresh_claims(work, bundles, notes), *old_claims(work, bundles, notes)]
        if not given.skip_emulation:
            claims += emulated_claims(work, bundles, notes)
        claims += estimate_claims(notes)
    samples = {claim.name: [claim.value] for claim in claims}
    return finish(claims, samples, given.json, notes)


def tool(name: str, *arguments: str) -> None:
    """Runs one of the tools.

    Raises:
        RuntimeError: It failed.
    """
    print(f"  tools/{name}.py {' '.join(arguments)[:140]}", file=sys.stderr, flush=True)
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())
    if done.returncode != 0:
        raise RuntimeError(f"tools/{name}.py ended with exit code {done.returncode}: {done.stderr[-500:]}")


def make_bundles(work: Path, given: argparse.Namespace) -> dict[str, Path]:
    """Trains what is not given; returns the bundles by "<network>-<device>" and the test images as "images"."""
    runs = {"classifier": given.classifier, "detector": given.detector}
    for name, settings in (("classifier", CLASSIFIER), ("detector", DETECTOR)):
        if runs[name] is None:
            runs[name] = work / name
            tool("train", "--run-dir", str(runs[name]), *settings)
    made = {"images": write_images(work / "images", runs["detector"])}
    for network, run in runs.items():
        for device in ("x86-cpu", "jetson-nano", "raspberry-pi-5"):
            target = made.setdefault(f"{network}-{device}", work / f"{network}-{device}")
            form = ("--quantization", "int8", *INT8) if network == "classifier" else ("--quantization", "auto")
            if network == "detector" and device != "jetson-nano":
                form = ("--quantization", "fp32")
            tool(
                "optimize_for_edge", "--target-device", device, "--model-path", str(run), "--output", str(target), *form
            )
    return made


def write_images(folder: Path, run: Path) -> Path:
    """Writes test images of the detector's dataset as PNG files."""
    from paddle_tk.environment.start import start_paddle

    start_paddle(1)
    import cv2

    from paddle_tk.pipelines.model_data import load_model_data
    from paddle_tk.runtime.load import open_model

    folder.mkdir()
    split = load_model_data(open_model(run), None).bundle.splits["test"]
    for number in range(min(IMAGES, len(split))):
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.cvtColor(split.image(number), cv2.COLOR_RGB2BGR))
    return folder


def fresh_claims(work: Path, bundles: dict[str, Path], notes: dict[str, Any]) -> list[Claim]:
    """Runs the x86 bundles in a fresh environment and holds every prediction against tools/predict.py's."""
    place = fresh_environment(work / "fresh", bundles["classifier-x86-cpu"] / "requirements.txt")
    if not place.works:
        raise RuntimeError(f"no fresh environment: {place.tried}")
    packages = json.loads(place.run("-m", "pip", "list", "--format", "json").stdout)
    names = sorted(entry["name"].lower() for entry in packages)
    if any(name.startswith(("paddle", "onnx")) and name != "onnxruntime" for name in names):
        raise RuntimeError(f"the fresh environment holds more than it should: {names}")
    notes["fresh environment"] = {entry["name"]: entry["version"] for entry in packages}
    print(f"fresh environment: {', '.join(names)}")
    claims = [Claim("edge_bundle: packages in the fresh environment", len(names), "packages", _ALLOWED_PACKAGES)]
    for network, precision in (("classifier", "fp32"), ("classifier", "int8"), ("detector", "fp32")):
        bundle = bundles[f"{network}-x86-cpu"]
        failed = failures(place, bundle, [precision], notes)
        same, difference, boxes = compared(place, bundle, precision, bundles["images"], work)
        label = f"edge_bundle: x86 {network} {precision}"
        claims += [
            Claim(f"{label}, failed self-tests", failed, "self-tests", 0),
            Claim(f"{label}, predictions of the toolkit's class", same, "share", 1, at_most=False),
            Claim(f"{label}, largest difference of a score", difference, "share", 1e-6),
        ]
        claims += [Claim(f"{label}, largest difference of a box", boxes, "px", 0.011)] if network == "detector" else []
    return claims


def compared(place: Place, bundle: Path, precision: str, images: Path, work: Path) -> tuple[float, float, float]:
    """Returns the share of equal classes, and the largest differences of scores and of boxes in pixels."""
    done = place.run(
        str(bundle / "runner.py"), "--folder", str(images), "--engine", "onnxruntime", "--precision", precision,
        "--score", "0.01", "--top-k", "10", "--async", "2",
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the runner failed: {done.stderr}")
    model = bundle / "models" / ("model.int8.onnx" if precision == "int8" else "model.onnx")
    toolkit = work / "toolkit" / f"{bundle.name}-{precision}"
    tool("predict", "--model", str(model), str(images), "--output", str(toolkit), "--no-pictures", "--top-k", "10",
         "--score", "0.01", "--batch-size", "1")  # fmt: skip
    theirs = json.loads((toolkit / "predictions.json").read_text())["images"]
    ours = json.loads(done.stdout)["images"]
    pairs = [
        (left, right)
        for one, other in zip(ours, theirs, strict=True)
        for left, right in _paired(one["predictions"], other["predictions"])
    ]
    same = sum(left["class_id"] == right["class_id"] for left, right in pairs)
    scores = max(abs(left["score"] - right["score"]) for left, right in pairs)
    boxes = [
        abs(a - b) for left, right in pairs for a, b in zip(left.get("box", ()), right.get("box", ()), strict=True)
    ]
    print(f"  {bundle.name} {precision}: {len(pairs)} predictions of {len(ours)} images compared")
    return same / len(pairs), scores, max(boxes, default=0.0)


def _paired(ours: Sequence[Any], theirs: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs predictions by place; one that the other side lacks is paired with one of no class."""
    missing = {"class_id": -1, "score": 0.0}
    longest = max(len(ours), len(theirs))
    left, right = ([*side, *[missing] * (longest - len(side))] for side in (ours, theirs))
    return list(zip(left, right, strict=True))


def failures(place: Place, bundle: Path, precisions: Sequence[str], notes: dict[str, Any], label: str = "") -> int:
    """Runs the self-test in each precision with ONNX Runtime; returns how many fail."""
    failed = 0
    for precision in precisions:
        done = place.run(str(bundle / "runner.py"), "--selftest", "--engine", "onnxruntime", "--precision", precision)
        report = json.loads(done.stdout) if done.stdout else {"passed": False, "error": done.stderr.strip()[-300:]}
        failed += not report["passed"]
        kept = ("passed", "engine_version", "output_differences", "output_difference_allowed", "same_best", "error")
        key = f"{label or place.name}, {bundle.name}, {precision}"
        notes.setdefault("self-tests", {})[key] = {name: report[name] for name in kept if name in report}
        print(f"  {key}: {notes['self-tests'][key]}")
    return failed


def precisions_of(bundle: Path) -> list[str]:
    """Returns the precisions that a bundle has for ONNX Runtime."""
    runs = json.loads((bundle / "manifest.json").read_text())["runs"]
    return [run["precision"] for run in runs if run["engine"] == "onnxruntime"]


def old_claims(work: Path, bundles: dict[str, Path], notes: dict[str, Any]) -> list[Claim]:
    """Checks the Jetson Nano bundles against Python 3.6 and ONNX Runtime 1.10."""
    nano = [bundles["classifier-jetson-nano"], bundles["detector-jetson-nano"]]
    files = [str(file) for file in sorted(nano[0].glob("*.py"))]
    vermin = Path(sys.executable).with_name("vermin")
    done = subprocess.run([str(vermin), "-t=3.6-", "--eval-annotations", "--violations", *files],
                          capture_output=True, text=True, check=False)  # fmt: skip
    print(f"vermin -t=3.6-: {done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()}")
    claims = [Claim("edge_bundle: Jetson Nano files beyond Python 3.6", int(done.returncode != 0), "checks failed", 0)]
    place = old_python(work / "old")
    print(f"oldest ONNX Runtime, tried: {'; '.join(place.tried)}")
    notes["oldest ONNX Runtime"] = {"tried": place.tried, "works": place.works}
    if not place.works:
        raise RuntimeError("no Python of this machine takes an old ONNX Runtime")
    told = place.run("-c", _VERSIONS).stdout.split()
    notes["oldest ONNX Runtime"]["versions"] = dict(zip(("python", "onnxruntime", "numpy", "cv2"), told, strict=True))
    print(f"oldest ONNX Runtime, outcome: {notes['oldest ONNX Runtime']['versions']}")
    used = sorted(onnxruntime_names(nano[0] / "runner_engines.py"))
    missing = place.run("-c", _HAS, *used).stdout.split()
    notes["ONNX Runtime names used"] = used
    claims.append(Claim("edge_bundle: names of ONNX Runtime that the oldest lacks", len(missing), "names", 0))
    failed = sum(failures(place, bundle, precisions_of(bundle), notes) for bundle in nano)
    return [*claims, Claim("edge_bundle: Jetson Nano self-tests failed there", failed, "self-tests", 0)]


_VERSIONS = """
import sys
import cv2, numpy, onnxruntime
print(sys.version.split()[0], onnxruntime.__version__, numpy.__version__, cv2.__version__)
"""
_HAS = """
import sys
import onnxruntime
from onnxruntime.capi.onnxruntime_inference_collection import IOBinding
owners = (onnxruntime, onnxruntime.SessionOptions, onnxruntime.InferenceSession, IOBinding)
print(*[name for name in sys.argv[1:] if not any(hasattr(owner, name) for owner in owners)])
"""


def onnxruntime_names(file: Path) -> set[str]:
    """Returns what the runner's ONNX Runtime engine uses of the module, its options, sessions and bindings."""
    found = set()
    for owner in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(owner, ast.ClassDef) or not owner.name.startswith("_OnnxRuntime"):
            continue
        for node in ast.walk(owner):
            value = node.value if isinstance(node, ast.Attribute) else None
            named = isinstance(value, ast.Name) and value.id in ("onnxruntime", "options", "session")
            held = isinstance(value, ast.Attribute) and value.attr in ("_session", "_binding")
            if isinstance(node, ast.Attribute) and (named or held):
                found.add(node.attr)
    return found


def emulated_claims(work: Path, bundles: dict[str, Path], notes: dict[str, Any]) -> list[Claim]:
    """Runs the self-tests on emulated processors; where they cannot be had, says what was tried and claims nothing."""
    place = emulated_aarch64(work / "aarch64")
    print(f"aarch64 under emulation, tried: {'; '.join(place.tried)}")
    outcome = "works" if place.works else "could not be set up"
    notes["aarch64 under emulation"] = {"tried": place.tried, "outcome": outcome}
    print(f"aarch64 emulation: {outcome}")
    claims = []
    for processor, device in PROCESSORS.items() if place.works else ():
        emulate_processor(place, work / "aarch64", processor)
        target = "jetson-nano" if processor == "cortex-a57" else "raspberry-pi-5"
        failed = sum(
            failures(place, bundles[f"{network}-{target}"], precisions_of(bundles[f"{network}-{target}"]), notes,
                     f"emulated {processor}")
            for network in ("classifier", "detector")
        )  # fmt: skip
        label = f"edge_bundle: self-tests failed on an emulated {processor} ({device})"
        claims.append(Claim(label, failed, "self-tests", 0))
    return claims


def estimate_claims(notes: dict[str, Any]) -> list[Claim]:
    """Holds published latencies of networks that the toolkit has against the estimated ranges."""
    from paddle_tk.export.edge.devices import device_names, load_device
    from paddle_tk.export.edge.estimate import estimate

    graphs = {"ResNet-18": _graph("resnet18"), "ResNet-50": _graph("resnet50")}
    outside, rows = 0, []
    for device in map(load_device, device_names()):
        for entry in device.cited:
            if entry.model not in graphs or entry.input != "224x224" or not entry.precision or entry.unit != "ms":
                continue
            found = estimate(graphs[entry.model](), device, engine=device.engine, precision=entry.precision)  # type: ignore[arg-type]
            low, high = found.latency[0].low_ms, found.latency[0].high_ms
            inside = low <= entry.value[0] and entry.value[1] <= high
            outside += not inside
            rows.append({"device": device.name, "model": entry.model, "precision": entry.precision,
                         "estimated_ms": [low, high], "cited_ms": list(entry.value), "inside": inside})  # fmt: skip
            print(f"  {entry.model} {entry.precision} on {device.name}: estimated {low:.3g} to {high:.3g} ms, "
                  f"cited {entry.value[0]:g} ms")  # fmt: skip
    notes["estimated and cited"] = rows
    if not rows:
        raise RuntimeError("no published latency of a network that the toolkit has")
    return [Claim("edge_bundle: cited latencies outside the estimated range", outside, f"of {len(rows)}", 0)]


def _graph(name: str) -> Callable[[], Any]:
    made: list[Any] = []

    def graph() -> Any:
        if not made:
            import onnx

            from paddle_tk.export.convert import layer_to_onnx
            from paddle_tk.models.classifiers import build_classifier

            network = build_classifier(name, num_classes=1000, image_size=(224, 224), stem="imagenet", dropout=None)
            network.eval()
            payload = layer_to_onnx(network, input_shape=(1, 3, 224, 224), opset=13, debug=False)
            made.append(onnx.load_model_from_string(payload))
        return made[0]

    return graph


if __name__ == "__main__":
    sys.exit(main())
