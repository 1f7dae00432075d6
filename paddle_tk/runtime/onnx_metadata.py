"""What a lone ONNX file is for: from the metadata that this package writes into it, else from what the user says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.files import sha256_file
from paddle_tk.runtime.onnx_io import FORMAT, check_io, told
from paddle_tk.runtime.onnx_predictor import OnnxFacts, onnx_facts
from paddle_tk.types import ModelArtifact, Preprocessing, Task

_NEEDED = ("task", "classes", "preprocessing")
_METRICS = {"classification": "top1", "detection": "map50_95"}
_RESIZE: Mapping[str, Literal["stretch", "letterbox"]] = {"classification": "stretch", "detection": "letterbox"}
# Those of this package's own detectors with suppression.
_DETECTIONS = {"score_threshold": 0.001, "nms_iou": 0.6, "max_detections": 100}
FLAGS = (
    "--task classification or detection, --classes FILE or A,B,C, and as far as they differ from what is usual "
    "--input-size HxW, --mean R,G,B, --std R,G,B and --resize"
)


@dataclass(frozen=True)
class GivenFacts:
    """What the user says of an ONNX file of another tool; None: not said.

    Attributes:
        task: "classification" or "detection".
        classes: Class names in the order of the class ids.
        input_size: (height, width) in pixels.
        mean: Per channel, in units of 0..1, RGB.
        std: Per channel, in units of 0..1, RGB.
        resize: "stretch", "center_crop" or "letterbox".
        detections: Of "score_threshold", "nms_iou" and "max_detections" those that were said.
        flags: The options used, for messages.
    """

    task: Literal["classification", "detection"] | None = None
    classes: tuple[str, ...] | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: Literal["stretch", "center_crop", "letterbox"] | None = None
    detections: Mapping[str, float | None] | None = None
    flags: str = ""


@dataclass(frozen=True)
class Described:
    """An ONNX file and what it is for.

    Attributes:
        artifact: As a manifest would say it.
        foreign: The user said it, not the file.
        notes: What was assumed because nobody said it.
    """

    artifact: ModelArtifact
    foreign: bool = False
    notes: tuple[str, ...] = ()


def describe(file: Path, given: GivenFacts | None = None) -> Described:
    """Finds out what an ONNX file is for.

    Args:
        file: An ONNX file without manifest.
        given: What the user says of it; used where the file lacks this package's metadata.

    Raises:
        ArtifactError: The file cannot be loaded, nobody says what it is for, or its tensors do not fit that.
        BadInput: What the user says is incomplete or contradicts the file.
    """
    facts = onnx_facts(file)
    missing = [key for key in _NEEDED if key not in facts.metadata]
    if not missing:
        return Described(_own(file, facts))
    if given is None:
        raise ArtifactError(
            f"{file} does not say what it needs to be used: {', '.join(missing)} missing (no manifest.json beside it "
            "that names it, no such metadata inside it)",
            f"say it: {FLAGS}; or make the file with tools/export.py",
        )
    return _foreign(file, facts, given)


def _own(file: Path, facts: OnnxFacts) -> ModelArtifact:
    metadata = facts.metadata
    try:
        kind = metadata["task"]
        task = Task(
            kind=kind,  # type: ignore[arg-type] # whoever opens the file refuses other kinds
            classes=tuple(str(name) for name in json.loads(metadata["classes"])),
            metric=_METRICS.get(kind, "top1"),
        )
        preprocessing = Preprocessing.from_dict(json.loads(metadata["preprocessing"]))
        postprocessing = dict(json.loads(metadata.get("postprocessing", "{}")))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"the metadata in {file} cannot be read: {error}", "export the model again") from error
    return ModelArtifact(
        path=file.name,
        format=FORMAT,
        precision=metadata.get("precision", "fp32"),
        task=task,
        inputs=facts.inputs,
        outputs=facts.outputs,
        preprocessing=preprocessing,
        postprocessing=postprocessing,
        sha256={file.name: sha256_file(file)},
        parent_sha256=metadata.get("parent_sha256"),
        made_by=metadata.get("made_by", ""),
        variant=metadata.get("variant", ""),
    )


def _foreign(file: Path, facts: OnnxFacts, given: GivenFacts) -> Described:
    if given.task is None or given.classes is None:
        lacking = " and ".join(["--task"] * (given.task is None) + ["--classes"] * (given.classes is None))
        raise BadInput(f"{file} is described by {given.flags} but not by {lacking}", f"give {FLAGS}")
    notes: list[str] = []
    preprocessing = _preprocessing(file, facts, given, given.task, notes)
    artifact = ModelArtifact(
        path=file.name,
        format=FORMAT,
        precision="fp32",
        task=Task(given.task, given.classes, _METRICS[given.task]),
        inputs=facts.inputs,
        outputs=facts.outputs,
        preprocessing=preprocessing,
        postprocessing=_postprocessing(given, given.task, notes),
        sha256={file.name: sha256_file(file)},
        made_by="another tool, described by the user",
    )
    check_io(file, artifact, facts.inputs, facts.outputs, named_by="--classes")
    told_notes = (f"nobody says of {file.name}, so it is assumed: {'; '.join(notes)}",) if notes else ()
    return Described(artifact, foreign=True, notes=told_notes)


def _preprocessing(file: Path, facts: OnnxFacts, given: GivenFacts, task: str, notes: list[str]) -> Preprocessing:
    usual = Preprocessing(size=_size(file, facts, given), resize=_RESIZE[task])
    if given.mean is None or given.std is None:
        notes.append(f"--mean {_listed(usual.mean)} --std {_listed(usual.std)}")
    if given.resize is None:
        notes.append(f"--resize {usual.resize}")
    if (given.mean is None) != (given.std is None):
        raise BadInput("--mean and --std belong together, only one of them was given", "give both")
    return Preprocessing(
        size=usual.size,
        resize=given.resize or usual.resize,
        mean=given.mean or usual.mean,
        std=given.std or usual.std,
    )


def _size(file: Path, facts: OnnxFacts, given: GivenFacts) -> tuple[int, int]:
    sides = facts.inputs[0].shape[2:] if facts.inputs and len(facts.inputs[0].shape) == 4 else (None, None)
    asked = given.input_size or (None, None)
    for name, fixed, wanted in zip(("height", "width"), sides, asked, strict=True):
        if fixed is not None and wanted not in (None, fixed):
            raise BadInput(
                f"{file} takes images of {fixed} px {name}, --input-size says {wanted}", "leave --input-size out"
            )
    height, width = sides[0] or asked[0], sides[1] or asked[1]
    if height is None or width is None:
        raise BadInput(f"{file} takes images of any size ({told(facts.inputs)})", "say which with --input-size HxW")
    return height, width


def _postprocessing(given: GivenFacts, task: str, notes: list[str]) -> dict[str, float | None]:
    said = dict(given.detections or {})
    if task != "detection":
        if said:
            raise BadInput(
                f"{', '.join('--' + key.replace('_', '-') for key in said)} has no meaning for classification",
                "leave it out",
            )
        return {}
    assumed = {key: value for key, value in _DETECTIONS.items() if key not in said}
    if assumed:
        notes.append(" ".join(f"--{key.replace('_', '-')} {value:g}" for key, value in assumed.items()))
    return {**_DETECTIONS, **said}


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
