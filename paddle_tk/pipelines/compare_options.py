"""Shared inputs -> parity -> interleaved rounds -> training to the end -> exports -> evidence."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.compare.figures import (
    compare_pairs,
    gpu_figures,
    round_figures,
    speed_of_training,
    training_curves,
    training_figures,
)
from paddle_tk.compare.parity import ParityReport, require_parity
from paddle_tk.compare.rounds import Answer, Effort, Workers, interleaved_rounds, run_side_by_side
from paddle_tk.compare.shared_inputs import SharedInputs, build_shared_inputs
from paddle_tk.compare.statistics import Rule
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.decide.scaffold.recipe import recipe_lines
from paddle_tk.environment.processor import cpu_model
from paddle_tk.environment.versions import environment_report
from paddle_tk.errors import PaddleTkError
from paddle_tk.evidence import Curve, Evidence, Figure, NotMeasured
from paddle_tk.pipelines.compare_candidates import Candidate, Watch, candidates, option, require_torch
from paddle_tk.pipelines.compare_exports import (
    Exported,
    Trained,
    export_paddle,
    export_trained,
    int8_process,
    not_measured,
    open_torch_onnx,
    paddle_model,
    time_onnx,
)
from paddle_tk.runtime.load import ModelSource
from paddle_tk.types import Measurement

_OF_TRAINING = (
    "training_throughput", "training_throughput_bare", "fit_overhead", "time_to_target", "peak_memory_training",
    "installed_size", "recipe_lines", "import_time", "onnx_export", "onnx_parity",
    "gpu_utilisation", "gpu_memory_share",
)  # fmt: skip
_INT8 = ("int8_available", "int8_latency_ratio", "int8_accuracy", "int8_size_ratio")
# The oldest that torch's exporter writes without converting.
_TORCH_OPSET = 18
_EXPORTERS = {"paddle": "paddle2onnx", "torch": "torch.onnx"}
_GPU = ("gpu_utilisation", "gpu_memory_share")
_BARE = ("training_throughput_bare", "fit_overhead")
_NO_BARE = "a quick comparison times no bare loop; leave out --quick"


def compare_options(
    config: Config, work: Path, effort: Effort, *, command: str, settings: Mapping[str, Any], output: Output
) -> Evidence:
    """Measures every option of a config.

    Args:
        config: Model, data, trainer and the sections of the comparison.
        work: An empty folder for batches, weights and files; the caller removes it.
        effort: How much is measured.
        command: What repeats it.
        settings: For the evidence.
        output: Shows progress.

    Raises:
        BadInput: A config that cannot be compared fairly.
        CheckFailed: The frameworks do not compute the same, a process failed or took too long: there is no evidence.
    """
    wanted = candidates(list(config.compare.options))
    require_torch(wanted, effort)
    trained = list(dict.fromkeys(Candidate(c.base, c.framework, "fp32", c.base) for c in wanted))
    watch = Watch(output)
    inputs = build_shared_inputs(config, work / "inputs", epochs=effort.epochs, output=output)
    watch.stage("shared inputs")
    workers = Workers(inputs.folder, work / "arrays", effort)
    comparison = _Comparison(config, work, effort, inputs, workers, output)
    parity = comparison.parity(trained)
    watch.stage("parity")
    figures, answers = comparison.rounds(trained)
    watch.stage("timing")
    curves, learned = comparison.train(trained, figures)
    watch.stage("training")
    exports = comparison.export(trained, learned, figures)
    watch.stage("export")
    left_out = comparison.close(wanted, trained, exports, figures, learned)
    watch.stage("ONNX Runtime")
    kept = [f for f in figures if f.option in {c.name for c in wanted}]
    names = [c.name for c in wanted]
    rule = Rule(config.compare.confidence, config.compare.same_within)
    return Evidence(
        options=tuple(option(c, answers[c.base][0]["version"]) for c in wanted),
        figures=tuple(kept),
        not_measured=tuple(n for n in left_out if n.option in names),
        curves=tuple(c for c in curves if c.option in names),
        comparisons=tuple(compare_pairs(names, kept, rule)),
        parity=parity.to_dict(),
        settings={**settings, "effort": asdict(effort), "inputs_sha256": inputs.sha256, "seconds": watch.seconds},
        environment=environment_report(),
        command=command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True)
class _Comparison:
    config: Config
    work: Path
    effort: Effort
    inputs: SharedInputs
    workers: Workers
    output: Output

    @property
    def _said(self) -> dict[str, Any]:
        data = self.config.data
        return {
            "model": self.config.model.name,
            "dataset": data.name,
            "input_size": list(data.size),
            "cpu": cpu_model(),
        }

    def parity(self, trained: list[Candidate]) -> ParityReport:
        """Holds the frameworks against each other; of one framework alone, two of its processes."""
        pair = {c.framework: c for c in trained}
        runs = list(pair.values())[:2] if len(pair) > 1 else [trained[0], replace(trained[0], name="again")]
        outputs, losses, single = {}, {}, {}
        with self.output.progress("parity", len(runs)) as advance:
            for run in runs:
                answer = self.workers.run(run.framework, ("outputs", "losses"), name=f"parity-{run.name}")
                outputs[run.name] = _arrays(answer["outputs"])
                losses[run.name] = answer["losses"]["losses"]
                single[run.name] = answer["losses"]["losses_float32"]
                advance(1)
        said = self.config.compare
        report = require_parity(
            outputs, losses, outputs_tolerance=said.parity_tolerance, early_tolerance=said.loss_tolerance,
            late_tolerance=said.loss_tolerance_late, losses_float32=single,
        )  # fmt: skip
        self.output.say(f"parity: {report.line()}")
        return report

    def rounds(self, trained: list[Candidate]) -> tuple[list[Figure], dict[str, list[Answer]]]:
        """Times training and inference of every framework."""
        frameworks = {c.name: c.framework for c in trained}
        with self.output.progress("timing", self.effort.rounds * len(frameworks)) as advance:
            answers = interleaved_rounds(self.workers, frameworks, advance)
        figures = []
        for name, framework in frameworks.items():
            figures += round_figures(name, answers[name], self.effort, {**self._said, "framework": framework})
            size = self.workers.installed(framework)
            said = {"distributions": size["distributions"]}
            figures.append(
                Figure(name, Measurement("installed_size", size["mib"], "MiB", 1, "measured", conditions=said))
            )
            figures.append(Figure(name, recipe_lines(framework)))
        return figures, answers

    def train(self, trained: list[Candidate], figures: list[Figure]) -> tuple[list[Curve], dict[str, Answer]]:
        """Trains each framework to the end by its high-level API."""
        curves: list[Curve] = []
        frameworks = {c.name: c.framework for c in trained}
        with self.output.progress("training to the end", len(trained)) as advance:
            answers = run_side_by_side(self.workers, frameworks, ("train", "trained_outputs"), advance)
        for name, found in answers.items():
            answer = found["train"]
            said = {**self._said, "framework": frameworks[name], "threads": self.effort.threads}
            figures += training_figures(name, answer, self.config.compare.target_accuracy, said)
            if not self.effort.loops:
                figures.append(speed_of_training(name, answer, self.effort, said))
                figures += gpu_figures(name, [answer["gpu"]], self.effort.device, said)
            curves += training_curves(name, answer)
        return curves, answers

    def export(
        self, trained: list[Candidate], answers: Mapping[str, Answer], figures: list[Figure]
    ) -> dict[str, Exported]:
        """Turns what each framework learned into ONNX and INT8."""
        exports: dict[str, Exported] = {}
        learned = {c.name: self._trained(c, answers[c.name]) for c in trained}
        with self.output.progress("exporting", len(trained)) as advance:
            written = self._write_onnx(learned)
            for name, one in learned.items():
                exports[name] = export_trained(
                    one, written[name].result, self.work / "models" / name / "int8",
                    config=self.config, effort=self.effort, said={"exporter": _EXPORTERS[one.framework]},
                    output=Output(quiet=True),
                )  # fmt: skip
                figures += [Figure(name, m) for m in exports[name].figures]
                advance(1)
        return exports

    def _trained(self, candidate: Candidate, answer: Answer) -> Trained:
        native, weights = _arrays(answer["trained_outputs"]), Path(answer["train"]["weights"])
        images = np.load(self.inputs.folder / "test_images.npy", mmap_mode="r")
        count = len(next(iter(native.values())))
        return Trained(candidate.framework, weights, np.array(images[:count]), tuple(native.values()))

    def _write_onnx(self, learned: Mapping[str, Trained]) -> dict[str, Future[ModelSource]]:
        """Lets all write their ONNX files at once, since nothing is timed meanwhile; an error waits in its place."""
        found: dict[str, Future[ModelSource]] = {}
        with ThreadPoolExecutor(max(1, len(learned))) as pool:
            for name, trained in learned.items():
                if trained.framework == "torch":  # in a process of its own
                    found[name] = pool.submit(self._write_torch, name, trained.weights)
            for name, trained in learned.items():
                if trained.framework == "paddle":
                    found[name] = _outcome(partial(self._write_paddle, name, trained.weights))
        return found

    def _write_paddle(self, name: str, weights: Path) -> ModelSource:
        folder = self.work / "models" / name
        source = paddle_model(self.config, self.inputs.plan.classes, weights, folder / "model")
        return export_paddle(source, folder / "onnx", self.effort.threads)

    def _write_torch(self, name: str, weights: Path) -> ModelSource:
        file = self.work / "models" / name / "model.onnx"
        file.parent.mkdir(parents=True)
        self.workers.export_torch(name, weights, file, opset=_TORCH_OPSET)
        return open_torch_onnx(file, self.config, self.inputs.plan.classes)

    def close(
        self,
        wanted: list[Candidate],
        trained: list[Candidate],
        exports: Mapping[str, Exported],
        figures: list[Figure],
        learned: Mapping[str, Answer],
    ) -> list[NotMeasured]:
        """Times the exported files, gives INT8 options their figures, and says what is missing and why."""
        files = {name: e.onnx for name, e in exports.items() if e.onnx is not None}
        files |= {f"{name}-int8": e.int8 for name, e in exports.items() if e.int8 is not None}
        images = np.array(
            np.load(self.inputs.folder / "test_images.npy", mmap_mode="r")[: self.effort.throughput_batch]
        )
        timed = time_onnx(files, images, self.effort, self._said)
        names = {c.name for c in trained}
        figures += [f for f in timed if f.option in names]
        missing = [n for name, e in exports.items() for n in not_measured(name, e)]
        for name in names:
            missing += [] if self.effort.loops else [NotMeasured(name, key, _NO_BARE) for key in _BARE]
            missing += _gpu_reasons(name, learned[name])
            missing += self._no_target(name, figures)
        for candidate in wanted:
            if candidate.precision == "int8":
                missing += self._int8(candidate, exports[candidate.base], figures, missing, timed)
        return missing

    def _no_target(self, name: str, figures: list[Figure]) -> list[NotMeasured]:
        if any(f.option == name and f.measurement.name == "time_to_target" for f in figures):
            return []
        target = self.config.compare.target_accuracy
        return [NotMeasured(name, "time_to_target", f"{target} was not reached in {self.effort.epochs} epochs")]

    def _int8(
        self,
        candidate: Candidate,
        exported: Exported,
        figures: list[Figure],
        missing: list[NotMeasured],
        timed: list[Figure],
    ) -> list[NotMeasured]:
        """Adds the figures of an INT8 option: training and export are its base's, inference is its own."""
        name, base = candidate.name, candidate.base
        theirs = [f.measurement for f in figures if f.option == base]
        figures += [Figure(name, m) for m in theirs if m.name in _OF_TRAINING or m.name in _INT8]
        left = [NotMeasured(name, n.name, n.reason) for n in missing
                if n.option == base and (n.name in _OF_TRAINING or n.name in _INT8)]  # fmt: skip
        accuracy = next((m for m in theirs if m.name == "int8_accuracy"), None)
        if exported.int8 is None or accuracy is None:
            why = next((n.reason for n in left if n.name == "int8_accuracy"), "there is no INT8 model")
            own = ("final_accuracy", "inference_latency", "inference_throughput", "onnx_latency", "onnx_throughput",
                   "peak_memory_inference", "cold_start")  # fmt: skip
            return [*left, *(NotMeasured(name, key, why) for key in own)]
        figures.append(Figure(name, replace(accuracy, name="final_accuracy")))
        for figure in timed:
            if figure.option == f"{base}-int8":
                measurement = figure.measurement
                figures.append(Figure(name, measurement))
                figures.append(Figure(name, replace(measurement, name=measurement.name.replace("onnx", "inference"))))
        figures += int8_process(name, exported.int8, self.effort)
        return left


def _outcome(call: Callable[[], ModelSource]) -> Future[ModelSource]:
    """Returns what a call returned or raised, to be asked for later."""
    kept: Future[ModelSource] = Future()
    try:
        kept.set_result(call())
    except PaddleTkError as error:
        kept.set_exception(error)
    return kept


def _arrays(outputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.load(file) for name, file in outputs["files"].items()}


def _gpu_reasons(name: str, answer: Answer) -> list[NotMeasured]:
    reason = (answer["train"]["gpu"] or {}).get("reason")
    return [NotMeasured(name, key, str(reason)) for key in _GPU] if reason else []
