"""The whole chain, step by step: environment, data, train, resume, eval, export, parity -> a checklist."""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddle_tk.config.load import to_yaml
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.environment.doctor import examine
from paddle_tk.environment.versions import environment_report
from paddle_tk.errors import CheckFailed, PaddleTkError
from paddle_tk.evaluate.task import Evaluation, evaluate
from paddle_tk.export.convert import DEFAULT_OPSET
from paddle_tk.export.onnx import OnnxModel, write_export, write_onnx
from paddle_tk.files import MIB, write_bytes_atomic, write_json
from paddle_tk.models.weights import read_weights
from paddle_tk.pipelines.export_model import load_parent, prove
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.runtime.paddle_predictor import PaddlePredictor
from paddle_tk.training.build import build_dataset, build_trainer
from paddle_tk.training.build_task import check_dataset, preprocessing, task_kind
from paddle_tk.training.checkpoint import CheckpointStore, position
from paddle_tk.training.run_folder import CHECKPOINTS, CONFIG, ENVIRONMENT, MODEL, RESULT, read_result
from paddle_tk.types import TrainResult

Stage = Literal["debug", "production"]
Status = Literal["pass", "fail", "skipped"]
_SAMPLES = 16  # images decoded from each split
_COMPARED = 64  # images for parity
_DEBUG_BATCH = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One line of the checklist.

    Attributes:
        name: What was tried.
        status: How it ended.
        found: What was found, or why it failed or was skipped.
        fix: How to mend a failure.
        seconds: How long it took.
    """

    name: str
    status: Status
    found: str
    fix: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


def debug_config(config: Config) -> Config:
    """Returns the config for a quick trial: two small batches, one epoch, an update and a checkpoint for each batch.

    The W&B logger is left out; the network, the images and everything else stay what they are.
    """
    data = config.data.model_copy(update={"batch_size": min(config.data.plain_batch_size, _DEBUG_BATCH)})
    trainer = config.trainer.model_copy(
        update={
            "fast_dev_run": True,
            "max_epochs": 1,
            "accumulate_grad_batches": 1,
            "save_every_n_steps": 1,
            "keep_last": 8,
            "loggers": [name for name in config.trainer.loggers if name != "wandb"],
        }
    )
    return config.model_copy(update={"data": data, "trainer": trainer})


@dataclass
class Chain:
    """What the steps hand on to each other.

    Attributes:
        stage: "debug" or "production".
        config: What is trained.
        sha256: The config's hash.
        device: "cpu" or "gpu:N".
        threads: CPU threads.
        folder: Where everything is written; "run", "resumed" and "onnx" below it.
        debug: Let libraries write to the terminal.
    """

    stage: Stage
    config: Config
    sha256: str
    device: str
    threads: int
    folder: Path
    debug: bool = False
    quiet: Output = field(default_factory=lambda: Output(quiet=True))
    bundle: DatasetBundle | None = None
    result: TrainResult | None = None
    parent: PaddlePredictor | None = None
    exported: OnnxModel | None = None

    def check_environment(self) -> str:
        """Runs the doctor's checks.

        Raises:
            CheckFailed: A required one fails.
        """
        checks = examine("venv", self.folder)
        failed = [check for check in checks if check.status == "failed"]
        if failed:
            raise CheckFailed(
                "; ".join(f"{check.name}: {check.found}" for check in failed),
                "; ".join(dict.fromkeys(check.fix for check in failed)),
            )
        paddle = next(check.found for check in checks if check.name == "paddle")
        return f"{len(checks)} checks, Paddle {paddle}"

    def check_data(self) -> str:
        """Loads the dataset, decodes and prepares a sample of each split, and looks for images in two splits.

        Raises:
            CheckFailed: A split shares images with another, or a prepared image is not what the network takes.
        """
        bundle = build_dataset(self.config, self.quiet)
        check_dataset(self.config, task_kind(self.config), bundle)
        prep = preprocessing(self.config)
        transform = EvalTransform(prep)
        for split in bundle.splits.values():
            for index in np.unique(np.linspace(0, len(split) - 1, _SAMPLES).round().astype(int)):
                prepared = transform(split.image(int(index)))
                if prepared.shape != (3, *prep.size) or not np.isfinite(prepared).all():
                    raise CheckFailed(
                        f"{split.name(int(index))} becomes an input of shape {prepared.shape} or is not finite",
                        "check data.mean and data.std",
                    )
        shared = shared_image(bundle)
        if shared is not None:
            raise CheckFailed(f"the same image is in two splits: {shared}", "remove it from one of them")
        self.bundle = bundle
        sizes = ", ".join(f"{name} {len(split)}" for name, split in bundle.splits.items())
        return f"{bundle.name}: {len(bundle.classes)} classes, {sizes}, no image in two splits"

    def train(self) -> str:
        """Trains in ``folder/run``."""
        result = self._train_in(self.folder / "run")
        self.result = result
        return (
            f"{result.model}, {result.epochs} epoch(s), test {self._figure(result.final)} (n={result.final['n']}), "
            f"{result.images_per_second:.0f} images/s on {self.device}"
        )

    @property
    def _metric(self) -> str:
        return "map50_95" if task_kind(self.config) == "detection" else "top1"

    def _figure(self, figures: Mapping[str, Any]) -> str:
        return f"{self._metric} {figures[self._metric]:.4f}"

    def _train_in(self, folder: Path) -> TrainResult:
        if not (folder / CONFIG).is_file():
            write_bytes_atomic(folder / CONFIG, to_yaml(self.config).encode())
        write_json(folder / ENVIRONMENT, environment_report())
        result = build_trainer(self.config, folder, self.sha256, self.device, self.quiet).run()
        if result is None:
            raise KeyboardInterrupt
        return result

    def resume(self) -> str:
        """Repeats the end of the training from an earlier checkpoint, in a copy of the run.

        Raises:
            CheckFailed: The repeated training ends with other weights.
        """
        run, copy = self.folder / "run", self.folder / "resumed"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(MODEL, RESULT, ".lock"))
        checkpoints = CheckpointStore(copy / CHECKPOINTS).folders()
        # All that came after the first half of an epoch, or after the last epoch but one.
        first = checkpoints[0] if self.stage == "debug" else checkpoints[-2]
        for later in checkpoints[checkpoints.index(first) + 1 :]:
            shutil.rmtree(later)
        self._train_in(copy)
        before, after = read_weights(run), read_weights(copy)
        differing = [name for name in before if not np.array_equal(before[name], after[name])]
        epoch, step = position(first)
        if differing:
            raise CheckFailed(
                f"resumed from epoch {epoch + 1}, batch {step + 1}, {len(differing)} of {len(before)} tensors differ",
                "run with --keep D and compare D/run with D/resumed",
            )
        return f"from epoch {epoch + 1}, batch {step + 1}: all {len(before)} tensors equal to the last bit"

    def resume_reason(self) -> str | None:
        """Returns why a resume cannot be judged, None where it can."""
        if self.device != "cpu":
            return "bit-equal weights are promised on the CPU only"
        if len(CheckpointStore(self.folder / "run" / CHECKPOINTS).folders()) < 2:
            return "only one checkpoint was kept (trainer.keep_last, trainer.keep_top_k)"
        return None

    def evaluate(self) -> str:
        """Evaluates the written model as ``tools/eval.py`` does.

        Raises:
            CheckFailed: Its main figure is not what the training said of it.
        """
        found = self._evaluate(self.folder / "run")
        said = float(read_result(self.folder / "run")["final"][self._metric])  # type: ignore[index]
        value = found.figures[self._metric]
        # In lower precision the training evaluates in autocast, the written model does not.
        if self.config.trainer.precision == "fp32" and value != said:
            raise CheckFailed(f"{self._metric} {value} (n={found.n}), the training said {said}", "report this")
        return f"{self._figure(found.figures)} (n={found.n}); the training said {said:.4f}"

    def _evaluate(self, model: Path) -> Evaluation:
        assert self.bundle is not None
        return evaluate(
            load_predictor(open_model(model), device=self.device, threads=self.threads),
            self.bundle.splits["test"],
            batch_size=self.config.data.plain_batch_size,
            label_smoothing=self.config.trainer.label_smoothing,
            limit_batches=2 if self.config.trainer.fast_dev_run else None,
        )

    def export(self) -> str:
        """Exports to ``folder/onnx``."""
        folder = self.folder / "onnx"
        folder.mkdir()
        self.parent = load_parent(open_model(self.folder / "run"))
        self.exported = write_onnx(self.parent, folder, opset=DEFAULT_OPSET, dynamic_batch=True, debug=self.debug)
        return f"ONNX opset {self.exported.opset}, {self.exported.file.stat().st_size / MIB:.1f} MiB"

    def check_parity(self) -> str:
        """Compares the exported model with its parent on test images, and evaluates it.

        Raises:
            CheckFailed: They differ.
        """
        assert self.bundle is not None
        assert self.parent is not None
        assert self.exported is not None
        test = self.bundle.splits["test"]
        name = f"{self.bundle.name} test images"
        parity = prove(
            self.parent, self.exported, test, split_name=name, count=min(_COMPARED, len(test)), threads=self.threads
        )
        parity.require()
        write_export(self.folder / "onnx", self.exported, parity, {})
        found = self._evaluate(self.folder / "onnx")
        return f"{parity.line()}; {self._figure(found.figures)} by the ONNX file (n={found.n})"


def validate(chain: Chain, on_step: Callable[[Step], None] = lambda step: None) -> list[Step]:
    """Runs every step whose forerunners passed; a failure never ends the others.

    Args:
        chain: What to validate; its folder exists.
        on_step: Called with each step when it has ended.
    """
    plan: list[tuple[str, Callable[[], str], tuple[str, ...], Callable[[], str | None]]] = [
        ("environment", chain.check_environment, (), _never),
        ("data", chain.check_data, (), _never),
        ("train", chain.train, ("data",), _never),
        ("resume", chain.resume, ("train",), chain.resume_reason),
        ("eval", chain.evaluate, ("train",), _never),
        ("export", chain.export, ("train",), _never),
        ("parity", chain.check_parity, ("export",), _never),
    ]
    done: dict[str, Step] = {}
    for name, run, needs, skip_reason in plan:
        blocked = next((need for need in needs if done[need].status != "pass"), None)
        reason = f"{blocked} did not pass" if blocked is not None else skip_reason()
        done[name] = _attempt(name, run) if reason is None else Step(name, "skipped", reason)
        on_step(done[name])
    return list(done.values())


def _never() -> None:
    return None


def shared_image(bundle: DatasetBundle) -> str | None:
    """Returns where an image is that two splits hold under one name, None where there is none."""
    seen: dict[str, tuple[str, int]] = {}
    for name, split in bundle.splits.items():
        for index in range(len(split)):
            first, position_there = seen.setdefault(split.name(index), (name, index))
            # Two files may have one name: only equal content makes them the same image.
            if first != name and np.array_equal(split.image(index), bundle.splits[first].image(position_there)):
                return f"{split.name(index)} in {first} and {name}"
    return None


def _attempt(name: str, run: Callable[[], str]) -> Step:
    began = time.perf_counter()
    status: Status = "fail"
    try:
        found, fix, status = run(), "", "pass"
    except PaddleTkError as error:
        found, fix = error.problem, error.fix
    except Exception as error:  # a fault of ours or of a library is a finding too, and the other steps still tell
        _log.debug("%s", traceback.format_exc())
        found, fix = f"{type(error).__name__}: {error}", "run with --debug for the traceback"
    return Step(name, status, found, fix, round(time.perf_counter() - began, 3))
