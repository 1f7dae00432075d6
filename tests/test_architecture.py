"""Import direction, framework fences, sizes: read from the syntax trees, nothing is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "paddle_tk"
MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 60

# Lower level: may be imported by every higher one. Names are the first part below paddle_tk.
LEVELS = [
    {"errors"},
    {"types"},
    {"files"},
    {"manifest", "registry", "console", "evidence"},
    {"config", "environment"},
    {"processing", "unpickle"},
    {"data", "models", "metrics"},
    {"runtime"},  # the Paddle predictor rebuilds networks from models
    {"training", "evaluate", "quantize", "export", "measure", "hardware"},
    {"compare", "decide", "report"},
    {"cli", "pipelines"},
    {"commands"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}

# Packages on one level that may use each other, and why.
SAME_LEVEL = {("cli", "console"), ("environment", "config")}

# Data of the package: copied into bundles, where it runs by itself.
RUNNER = "export/edge/runner/runner_engines.py"
FENCES = {
    "paddleslim": {"quantize"},
    "paddle2onnx": {"export"},
    "onnx": {"export"},
    "onnxruntime": {"runtime/onnx_predictor.py", "measure", "export/qdq.py", RUNNER},
    "openvino": {"runtime/openvino_predictor.py", RUNNER},
    "tensorrt": {"runtime/tensorrt_engine.py", RUNNER},
    "torch": {"compare"},
    "ppdet": {"models/picodet.py"},
}
NO_FRAMEWORK = ("types.py", "config", "metrics", "decide", "report", "processing.py", "unpickle.py", "console.py",
                "data/fetch.py", "data/fetching", "data/catalog", "data/unpack.py", "data/setup.py", "data/states.py",
                "data/check", "data/balance.py", "data/epoch_order.py", "data/select.py", "data/subset.py",
                "data/shard", "data/streams.py", "data/formats/shards.py")  # fmt: skip
FRAMEWORKS = {"paddle", "torch"}
EARLY = ("__init__.py", "cli.py", "console.py", "config", "commands", "environment/threads.py",
         "environment/matrix_kernels.py", "environment/start.py")  # fmt: skip


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join([*parts, *([base] if base else [])])
            yield base, node.lineno
            if base in ("paddle_tk", *(f"paddle_tk.{n}" for n in LEVEL)):
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def _level_name(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "paddle_tk" and len(parts) > 1 and parts[1] in LEVEL else None


@pytest.mark.parametrize("path", _files(), ids=_id)
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        own = "manifest"  # the package itself only re-exports errors and types
    for module, line in _imports(path):
        other = _level_name(module)
        if other is None or other == own:
            continue
        assert LEVEL[other] < LEVEL[own] or (own, other) in SAME_LEVEL, f"{_id(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", _files(), ids=_id)
def test_frameworks_stay_behind_their_fences(path: Path) -> None:
    name = _id(path)
    for module, line in _imports(path):
        root = module.split(".")[0]
        allowed = FENCES.get(root)
        assert allowed is None or any(name == a or name.startswith(a + "/") for a in allowed), f"{name}:{line} {module}"
        if root in FRAMEWORKS:
            assert not name.startswith(NO_FRAMEWORK), f"{name}:{line} imports {module}"


@pytest.mark.parametrize("path", [p for p in _files() if _id(p).startswith(EARLY)], ids=_id)
def test_paddle_is_not_imported_before_threads_are_set(path: Path) -> None:
    for module, line in _imports(path, top_level_only=True):
        assert module.split(".")[0] not in FRAMEWORKS, f"{_id(path)}:{line} imports {module} at import time"


def test_processing_imports_only_numpy_and_cv2() -> None:
    roots = {m.split(".")[0] for m, _ in _imports(PACKAGE / "processing.py")}
    assert roots - sys.stdlib_module_names <= {"numpy", "cv2"}


def test_tensorrt_engine_can_be_copied_to_a_device() -> None:
    path = PACKAGE / "runtime" / "tensorrt_engine.py"
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
    roots = {m.split(".")[0] for m, _ in _imports(path)}
    assert roots - sys.stdlib_module_names <= {"numpy", "tensorrt"}


def _sources() -> list[Path]:
    folders = ("paddle_tk", "tools", "benchmarks", "tests")
    return sorted(p for f in folders for p in (ROOT / f).rglob("*.py"))


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda p: p.name)
def test_tools_only_call_a_command(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert (PACKAGE / "commands" / path.name).is_file()


def test_every_package_is_on_a_level() -> None:
    found = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in _files()} - {"__init__"}
    assert found <= set(LEVEL)


def test_no_eval_exec_or_pickle_load_outside_the_restricted_unpickler() -> None:
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), _id(path)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr not in ("load", "loads"), _id(path)
