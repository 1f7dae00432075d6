"""Does the memory model tell what a training takes? Predicted peaks against those of Paddle's allocator on a CPU.

    python benchmarks/memory_accuracy.py [--only PATTERN] [--json F] [--table F]

Every case is predicted by ``estimate_of_config`` from a few small images, then measured at full size: a training step
of the trainer's own parts, in a fresh process. The allocator counts exactly, so one step is enough, after the one that
makes the optimizer's state.
Cases marked "new" were not looked at while the model was made; they hold the same bound.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, parser

ROOT = Path(__file__).resolve().parents[1]
BOUND, BOUND_MB, MEDIAN, SECONDS = 0.05, 4.0, 0.02, 10.0
CLASSES, BOXES = 80, 10
GRID = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "picodet_s", "yolov10n")
OPTIMIZERS = {"momentum": ["trainer.optimizer=sgd"], "adamw": ["trainer.optimizer=adamw"]}
# What circulates as a formula for ResNet-18, in MB: parameters, activations of an image, gradients and optimizer, the
# rest. It knows neither the image size nor the optimizer.
TOY_PARAMETERS, TOY_IMAGE, TOY_STATE, TOY_REST = 11.7, 0.5, 23.4, 500.0


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        model: The network.
        batch: Images of a step.
        size: (height, width) in pixels.
        settings: Overrides of the config besides network, size and stem.
        label: Of the settings, for the table.
        stem: Of a classifier.
        classes: Of the network.
        boxes: In every image of a detector's batch.
        new: Whether the case was not used to make the model.
    """

    model: str
    batch: int
    size: tuple[int, int]
    settings: list[str]
    label: str
    stem: str = "imagenet"
    classes: int = CLASSES
    boxes: int = BOXES
    new: bool = False
    accumulate: int = field(default=1)

    @property
    def detects(self) -> bool:
        """Whether the network is a detector."""
        return self.model.startswith(("picodet", "yolov10"))

    @property
    def name(self) -> str:
        """Unique, for the table and ``--only``."""
        height, width = self.size
        return f"{self.model} {height}x{width} batch {self.batch} {self.label}"

    def overrides(self) -> list[str]:
        """Returns the config's."""
        stem = [] if self.detects else [f"model.stem={self.stem}"]
        size = f"data.image_size=[{self.size[0]},{self.size[1]}]"
        return [f"model.name={self.model}", size, *stem, *self.settings]


def cases() -> list[Case]:
    """Returns the grid, then the new ones."""
    grid = []
    for model, batch, name, recompute in itertools.product(GRID, (8, 32), OPTIMIZERS, ("false", "true")):
        side = 320 if model in ("picodet_s", "yolov10n") else 224
        settings = [*OPTIMIZERS[name], f"trainer.recompute={recompute}"]
        label = f"{name}, recompute" if recompute == "true" else name
        grid.append(Case(model, batch, (side, side), settings, label))
    return grid + NEW


def _new(model: str, batch: int, size: tuple[int, int], *settings: str, **more: Any) -> Case:
    label = ", ".join([s.removeprefix("trainer.").removeprefix("model.") for s in settings] + [
        f"{key} {value}" for key, value in more.items()])  # fmt: skip
    return Case(model, batch, size, list(settings), label, new=True, **more)


_ADAM, _ADAMW, _SGD = (f"trainer.optimizer={name}" for name in ("adam", "adamw", "sgd"))
_EMA, _CLIP, _RECOMPUTE = "trainer.ema_decay=0.999", "trainer.gradient_clip_val=1.0", "trainer.recompute=true"
NEW = [
    _new("resnet34", 12, (160, 160), _ADAM),
    _new("resnet50", 5, (250, 250), _SGD, "trainer.momentum=0.0"),
    _new("resnet18", 128, (32, 32), _SGD, stem="small", classes=10),
    _new("wide_resnet50_2", 4, (192, 256), _ADAMW, _EMA, _CLIP),
    _new("resnext50_32x4d", 6, (200, 200), _SGD),
    _new("mobilenet_v3_large", 24, (224, 224), _ADAMW, _EMA),
    _new("mobilenet_v1", 16, (128, 96), _ADAM, _CLIP),
    _new("efficientnet_b2", 6, (260, 260), _ADAMW, _RECOMPUTE),
    _new("shufflenet_v2_x1_0", 20, (180, 180), _SGD),
    _new("densenet121", 6, (224, 224), _SGD),
    _new("squeezenet1_1", 20, (224, 224), _ADAMW),
    _new("googlenet", 12, (224, 224), _SGD),
    _new("inception_v3", 6, (299, 299), _ADAMW),
    _new("alexnet", 32, (256, 256), _SGD),
    _new("vgg11", 8, (224, 224), _SGD),
    _new("vgg11", 6, (96, 128), _ADAMW),
    _new("resnet50", 8, (224, 224), _ADAMW, "trainer.label_smoothing=0.1", "trainer.mixup_alpha=0.2"),
    _new("resnet18", 16, (224, 224), _ADAMW, accumulate=4),
    _new("picodet_m", 6, (416, 416), _ADAMW, _EMA, boxes=30),
    _new("picodet_xs", 16, (256, 384), _SGD, boxes=3),
    _new("picodet_l", 3, (640, 640), _SGD, _EMA, boxes=20),
    _new("yolov10s", 4, (416, 512), _ADAMW, _EMA, _CLIP, boxes=40),
    _new("yolov10n", 5, (640, 640), _SGD, _RECOMPUTE, boxes=20),
    _new("yolov10n", 12, (256, 256), _ADAM, "model.activation=relu6", boxes=5),
]


def measured(case: Case) -> list[float]:
    """Returns the peaks of the steps after the first, in MB."""
    job = {
        "overrides": case.overrides(), "batch": case.batch, "size": case.size, "boxes": case.boxes,
        "num_classes": case.classes, "detects": case.detects, "accumulate": case.accumulate,
        "steps": 1,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks._memory_step", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("MEASURED ")), None)
    if line is None:
        raise SystemExit(f"{case.name} could not be measured:\n{done.stderr[-2000:]}")
    peaks: list[float] = json.loads(line.removeprefix("MEASURED "))["peaks_mb"]
    return peaks


def predicted(case: Case) -> tuple[float, float]:
    """Returns the predicted peak in MB and the seconds that took."""
    from paddle_tk.config.load import load_config
    from paddle_tk.pipelines.memory_estimate import estimate_of_config

    settings = [f"trainer.accumulate_grad_batches={case.accumulate}"]
    config = load_config(None, [*case.overrides(), *settings]).config
    began = time.perf_counter()
    model = estimate_of_config(config, num_classes=case.classes, boxes_per_image=case.boxes)
    return model.peak_mb(case.batch), time.perf_counter() - began


def row(case: Case) -> dict[str, Any]:
    """Predicts and measures one case."""
    guess, seconds = predicted(case)
    peaks = measured(case)
    error = guess - peaks[-1]
    found = {
        "name": case.name, "new": case.new, "predicted_mb": guess, "measured_mb": peaks, "error_mb": error,
        "error": error / peaks[-1], "seconds": seconds,
    }  # fmt: skip
    if case.model == "resnet18":
        toy = TOY_PARAMETERS + TOY_IMAGE * case.batch + TOY_STATE + TOY_REST
        found |= {"toy_mb": toy, "toy_error": toy / peaks[-1] - 1}
    print(_line(found), flush=True)
    return found


def _line(found: dict[str, Any]) -> str:
    toy = f"{found['toy_mb']:.0f} ({found['toy_error']:+.0%})" if "toy_mb" in found else ""
    cells = (
        found["name"], "new" if found["new"] else "", f"{found['measured_mb'][-1]:.1f}", f"{found['predicted_mb']:.1f}",
        f"{found['error_mb']:+.1f}", f"{found['error']:+.2%}", f"{found['seconds']:.1f}", toy,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| training | | measured, MB | predicted, MB | error, MB | error | prediction, s | toy formula, MB |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Predicts, measures and compares."""
    arguments = parser(__doc__ or "", "memory_accuracy")
    arguments.add_argument("--only", default="", help="cases whose name holds this")
    arguments.add_argument("--table", type=Path, help="writes the table as Markdown")
    given = arguments.parse_args()
    print(HEAD)
    rows = [row(case) for case in cases() if given.only in case.name]
    if given.table:
        given.table.write_text("\n".join([HEAD, *map(_line, rows)]) + "\n", encoding="utf-8")
    claims = []
    for kind, chosen in (("", rows), (", new cases", [r for r in rows if r["new"]])):
        if not chosen:
            continue
        # 1 is the bound of a case: 5 % or 4 MB, whichever is more.
        worst = max(abs(r["error_mb"]) / max(BOUND * r["measured_mb"][-1], BOUND_MB) for r in chosen)
        middle = statistics.median(abs(r["error"]) for r in chosen)
        name = f"memory_accuracy{kind} (n={len(chosen)})"
        claims.append(Claim(f"{name}, largest error over 5 % or 4 MB", worst, "ratio", 1.0))
        claims.append(Claim(f"{name}, median error", middle, "ratio", MEDIAN))
    claims.append(Claim("memory_accuracy, slowest prediction", max(r["seconds"] for r in rows), "s", SECONDS))
    samples = {r["name"]: [r["predicted_mb"], *r["measured_mb"]] for r in rows}
    return finish(claims, samples, given.json, {"cases": rows, "samples_hold": "predicted, then measured peaks, MB"})


if __name__ == "__main__":
    sys.exit(main())
