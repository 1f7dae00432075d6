"""Writes a project: templates filled from a specification, in one step or not at all."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import paddle_tk
from paddle_tk.decide.project import ProjectSpec
from paddle_tk.decide.scaffold.configs import check_spec, configs, data_root, kind_of
from paddle_tk.decide.scaffold.packages import GPU, cuda, cuda_image, requirements
from paddle_tk.decide.scaffold.text import fill, markdown, slug, templates
from paddle_tk.errors import BadInput
from paddle_tk.files import atomic_folder, write_error

_LABEL = {"paddle": "PaddlePaddle", "torch": "PyTorch Lightning"}
_MONITOR = {
    "paddle": (
        8040,
        '["-m", "visualdl.server.app", "--logdir", "runs", "--host", "0.0.0.0", "--port", "8040", '
        '"--language", "en", "--disable-telemetry"]',
    ),
    "torch": (6006, '["-m", "tensorboard.main", "--logdir", "runs", "--host", "0.0.0.0", "--port", "6006"]'),
}
_LOG = {
    "paddle": "`visualdl --logdir runs --host 127.0.0.1 --language en --disable-telemetry` shows the logs.",
    "torch": "`tensorboard --logdir runs --host 127.0.0.1` shows the logs.",
}
_NETWORK_FILES = {"paddle": ", `threads.py`", "torch": ", `networks.py`, `threads.py`"}


def write_scaffold(folder: Path, spec: ProjectSpec) -> tuple[Path, ...]:
    """Writes the standard project for the chosen framework. It runs without paddle_tk.

    Args:
        folder: Does not exist yet, or is empty.
        spec: What the project is made of. Its texts are user text: they are made fit for each file.

    Returns:
        The files, sorted.

    Raises:
        BadInput: ``folder`` is not empty or cannot be written, or ``spec`` asks for what no scaffold has; nothing
            is left behind.
    """
    check_spec(spec)
    _refuse_what_exists(folder)
    files = rendered(spec)
    with atomic_folder(folder) as staging:
        for name, text in files.items():
            path = staging / PurePosixPath(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return tuple(folder / PurePosixPath(name) for name in sorted(files))


def _refuse_what_exists(folder: Path) -> None:
    try:
        taken = folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
    except OSError as error:
        raise write_error(folder, error) from error
    if taken:
        raise BadInput(f"{folder} exists and is not an empty folder", "choose another folder for the project")


def rendered(spec: ProjectSpec) -> dict[str, str]:
    """Returns the project's files: text by path, the folders with "/".

    Raises:
        BadInput: A version in ``spec`` is none.
    """
    values = _values(spec)
    filled = {name: fill(text, values) for name, text in templates("common", spec.framework).items()}
    return {**filled, **requirements(spec), **configs(spec)}


def _values(spec: ProjectSpec) -> dict[str, str]:
    port, command = _MONITOR[spec.framework]
    return {
        "slug": slug(spec.name, "project"),
        "title": markdown(spec.name) or "project",
        "team": markdown(spec.team) or "not stated",
        "framework_label": _LABEL[spec.framework],
        "model": spec.model,
        "dataset": markdown(spec.dataset.name) or "images",
        "data_note": _data_note(spec),
        "num_classes": str(spec.dataset.num_classes),
        "height": str(spec.dataset.image_size[0]),
        "width": str(spec.dataset.image_size[1]),
        "initial_sha256": markdown(spec.initial_sha256) or "not from a file",
        "toolkit_version": paddle_tk.__version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "version_rows": _version_rows(spec),
        "driver": markdown(spec.versions.get(GPU, {}).get("driver", "")) or f"one for CUDA {cuda(spec)}",
        "cuda": cuda(spec),
        "cuda_image": cuda_image(spec),
        "log_note": _LOG[spec.framework],
        "network_files": _NETWORK_FILES[spec.framework],
        "monitor_port": str(port),
        "monitor_command": command,
    }


def _data_note(spec: ProjectSpec) -> str:
    kind, root = kind_of(spec.dataset.name), data_root(spec)
    if kind == "digits":
        return "Nothing to put anywhere: the digits come with scikit-learn."
    if kind == "cifar10":
        return f"Unpack `cifar-10-python.tar.gz` (https://www.cs.toronto.edu/~kriz/cifar.html) so that `{root}` exists."
    return f"Put the images in `{root}`, one folder per class, or give another place as `dataset.root`."


def _version_rows(spec: ProjectSpec) -> str:
    rows = [
        f"| {markdown(stage)} | {markdown(package)} | {markdown(version)} |"
        for stage, versions in spec.versions.items()
        for package, version in versions.items()
    ]
    return "\n".join(rows or ["| both | all | none stated: the requirements files hold ranges |"])
