"""The requirements files of a project and the image it is built on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from paddle_tk.decide.project import ProjectSpec
from paddle_tk.decide.scaffold.text import pin
from paddle_tk.errors import BadInput

CPU, GPU = "venv", "docker"
_DEFAULT_CUDA, _DEFAULT_PYTHON = "12.6", "3.10"
_INDEX = {"paddle": "https://www.paddlepaddle.org.cn/packages/stable/", "torch": "https://download.pytorch.org/whl/"}
# What is asked for where the specification names no version: what the templates were written and run with.
_SHARED: Final = {
    "numpy": ">=1.26,<2.4",  # numpy 2.4 made float() of a one-element array an error, which Paddle calls
    "pillow": ">=10",
    "PyYAML": ">=6",
    "safetensors": ">=0.4",
    "scikit-learn": ">=1.4",
}
_OWN: Final = {
    ("paddle", CPU): {"paddlepaddle": ">=3.3,<4", "visualdl": ">=2.5,<2.6"},
    ("paddle", GPU): {"paddlepaddle-gpu": ">=3.3,<4", "visualdl": ">=2.5,<2.6"},
    ("torch", CPU): {"torch": ">=2.6,<3", "pytorch-lightning": ">=2.6,<3", "tensorboard": ">=2.14"},
    ("torch", GPU): {"torch": ">=2.6,<3", "pytorch-lightning": ">=2.6,<3", "tensorboard": ">=2.14"},
}
_EXPORT: Final = {
    "paddle": {"paddle2onnx": ">=2.1,<3", "onnxruntime": ">=1.20"},
    "torch": {"onnx": ">=1.17", "onnxscript": ">=0.5", "onnxruntime": ">=1.20"},
}
# NVIDIA's images by CUDA version, and the Ubuntu whose own Python is the one asked for.
_PATCH: Final = {"11.8": "11.8.0-cudnn8", "12.1": "12.1.1-cudnn8", "12.4": "12.4.1-cudnn", "12.6": "12.6.3-cudnn",
                 "12.8": "12.8.1-cudnn", "12.9": "12.9.1-cudnn"}  # fmt: skip
_UBUNTU: Final = {"3.10": "ubuntu22.04", "3.12": "ubuntu24.04"}


def requirements(spec: ProjectSpec) -> dict[str, str]:
    """Returns the requirements files' texts by name.

    Raises:
        BadInput: A version in ``spec`` is none.
    """
    index = _INDEX[spec.framework]
    folder = "cu" + "".join(cuda(spec).split(".")[:2])
    export = _lines(_EXPORT[spec.framework], spec.versions.get(CPU, {}))
    return {
        "requirements-cpu.txt": _file("CPU", index + ("cpu/" if spec.framework == "paddle" else "cpu"), spec, CPU),
        "requirements-gpu.txt": _file(
            f"GPU, CUDA {cuda(spec)}", index + folder + ("/" if spec.framework == "paddle" else ""), spec, GPU
        ),
        "requirements-export.txt": "# For export.py, beside requirements-cpu.txt.\n" + export,
    }


def _file(title: str, index: str, spec: ProjectSpec, stage: str) -> str:
    wanted = {**_OWN[spec.framework, stage], **_SHARED}
    return f"# {title}\n--extra-index-url {index}\n" + _lines(wanted, spec.versions.get(stage, {}))


def _lines(wanted: Mapping[str, str], versions: Mapping[str, str]) -> str:
    stated = {name.lower(): version for name, version in versions.items()}
    return "".join(pin(name, stated.get(name.lower(), default)) + "\n" for name, default in wanted.items())


def cuda(spec: ProjectSpec) -> str:
    """Returns the CUDA version of the GPU stage ("12.6"), 12.6 where none is stated.

    Raises:
        BadInput: What is stated is no CUDA version.
    """
    stated = spec.versions.get(GPU, {}).get("cuda", _DEFAULT_CUDA)
    if not re.fullmatch(r"\d{1,2}\.\d{1,2}(\.\d{1,2})?", stated):
        raise BadInput(f"the CUDA version is {stated!r}", "give one such as 12.6")
    return stated


def cuda_image(spec: ProjectSpec) -> str:
    """Returns the tag of NVIDIA's image: "12.6.3-cudnn-runtime-ubuntu22.04".

    Raises:
        BadInput: No Ubuntu image has the Python that is stated.
    """
    stated = spec.versions.get(GPU, {}).get("python", _DEFAULT_PYTHON)
    release = ".".join(stated.split(".")[:2])
    if release not in _UBUNTU:
        raise BadInput(
            f"the GPU image is to have Python {stated!r}, which no Ubuntu image of NVIDIA brings",
            f"state one of {', '.join(_UBUNTU)} for it",
        )
    version = cuda(spec)
    whole = f"{version}-cudnn" if version.count(".") == 2 else _PATCH.get(version, f"{version}.0-cudnn")
    return f"{whole}-runtime-{_UBUNTU[release]}"
