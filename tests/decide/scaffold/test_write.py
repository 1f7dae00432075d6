import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paddle_tk.decide.project import DatasetSpec, ProjectSpec
from paddle_tk.decide.scaffold import write_scaffold
from paddle_tk.decide.scaffold.configs import MODELS
from paddle_tk.decide.scaffold.write import rendered
from paddle_tk.errors import BadInput
from tests.decide.scaffold.projects import FRAMEWORKS, project

COMMON = {
    *("README.md", "BUILD_LOG.md", "Makefile", "Dockerfile", "docker-compose.yml", ".dockerignore", ".gitignore"),
    *("requirements-cpu.txt", "requirements-gpu.txt", "requirements-export.txt"),
    *("configs/default.yaml", "configs/quick.yaml", "tests/__init__.py", "tests/test_smoke.py"),
    *("train.py", "eval.py", "export.py", "model.py", "data.py", "settings.py"),
}
OWN = {"paddle": {"threads.py"}, "torch": {"threads.py", "networks.py"}}
HOSTILE = (
    "A & B \"team\" 'x' {{ 7*7 }} @@slug@@ {% raw %} <script>alert(1)</script>\n- key: value\nRUN rm -rf /\x00\x1b[31m"
)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("scaffold") / "my project"
    write_scaffold(folder, project(request.param))
    return request.param, folder


def test_write_scaffold_writes_the_whole_tree_and_returns_it(written: tuple[str, Path]) -> None:
    framework, folder = written
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == COMMON | OWN[framework]


def test_write_scaffold_returns_the_files_sorted(tmp_path: Path) -> None:
    files = write_scaffold(tmp_path / "new" / "project", project())
    assert list(files) == sorted(files)
    assert all(path.is_file() for path in files)
    assert set(files) == {path for path in (tmp_path / "new" / "project").rglob("*") if path.is_file()}


def test_every_program_compiles_passes_ruff_and_needs_no_paddle_tk(written: tuple[str, Path]) -> None:
    framework, folder = written
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        roots = {name.split(".")[0] for name in names}
        assert "paddle_tk" not in roots
        assert not roots & {"paddle": {"torch", "pytorch_lightning"}, "torch": {"paddle", "paddle2onnx"}}[framework]
    for arguments in (["check", "--isolated", "--no-cache"], ["format", "--isolated", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_placeholder_is_left(written: tuple[str, Path]) -> None:
    for path in written[1].rglob("*"):
        assert path.is_dir() or "@@" not in path.read_text(encoding="utf-8"), path


def test_configs_hold_the_specification(written: tuple[str, Path]) -> None:
    default = yaml.safe_load((written[1] / "configs" / "default.yaml").read_text(encoding="utf-8"))
    assert default["model"]["name"] == "resnet18"
    assert default["dataset"] | {"kind": "digits", "num_classes": 10, "image_size": [16, 16]} == default["dataset"]
    assert default["train"] | {"epochs": 3, "batch_size": 32, "learning_rate": 0.05} == default["train"]
    quick = yaml.safe_load((written[1] / "configs" / "quick.yaml").read_text(encoding="utf-8"))
    assert (quick["dataset"]["kind"], quick["train"]["epochs"]) == ("digits", 1)


def test_requirements_pin_what_the_specification_states_and_name_the_framework_s_own_index() -> None:
    paddle, torch = rendered(project("paddle")), rendered(project("torch"))
    assert "\npaddlepaddle==3.3.1\n" in paddle["requirements-cpu.txt"]
    assert "\npaddlepaddle-gpu<4,>=3.3\n" in paddle["requirements-gpu.txt"]
    assert "https://www.paddlepaddle.org.cn/packages/stable/cu126/" in paddle["requirements-gpu.txt"]
    assert "\nnumpy==2.2.6\n" in paddle["requirements-gpu.txt"]
    assert "\ntorch==2.13.0\n" in torch["requirements-cpu.txt"]
    assert "https://download.pytorch.org/whl/cpu\n" in torch["requirements-cpu.txt"]
    assert "https://download.pytorch.org/whl/cu126\n" in torch["requirements-gpu.txt"]


def test_compose_opens_ports_on_this_machine_only_and_runs_as_nobody_special(written: tuple[str, Path]) -> None:
    compose = yaml.safe_load((written[1] / "docker-compose.yml").read_text(encoding="utf-8"))
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["user"] == "${TRAINER_UID:-1000}:${TRAINER_GID:-1000}"
    devices = compose["services"]["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    docker = (written[1] / "Dockerfile").read_text(encoding="utf-8")
    assert "FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04\n" in docker
    assert "\nUSER trainer\n" in docker


def test_build_log_opens_with_what_was_written(written: tuple[str, Path]) -> None:
    log = (written[1] / "BUILD_LOG.md").read_text(encoding="utf-8")
    assert "0123456789abcdef" * 4 in log
    assert "| docker | cuda | 12.6 |" in log
    assert "## Form of an entry" in log


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_hostile_texts_stay_text_in_every_file(framework: str, tmp_path: Path) -> None:
    data = DatasetSpec(HOSTILE, 4, (32, 32))
    folder = tmp_path / "project"
    write_scaffold(folder, project(framework, data, name=HOSTILE, team=HOSTILE, initial_sha256=HOSTILE))
    plain = rendered(project(framework, DatasetSpec("images", 4, (32, 32))))
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(folder))
        assert not {c for c in text if not c.isprintable()} - {"\n", "\t"}, name
        assert "<script>" not in text, name
        assert not [line for line in text.splitlines() if line.startswith(("RUN rm", "- key"))], name
        assert len(text.splitlines()) == len(plain[name].splitlines()), name
        if name.endswith(".yaml") or name.endswith(".yml"):
            yaml.safe_load(text)
        if name.endswith(".py"):
            assert text == plain[name]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "{{ 7\\*7 }} @@slug@@ {% raw %} \\<script\\>" in readme
    assert yaml.safe_load((folder / "docker-compose.yml").read_text(encoding="utf-8"))["name"].startswith("a-b-team-x")
    root = yaml.safe_load((folder / "configs" / "default.yaml").read_text(encoding="utf-8"))["dataset"]["root"]
    assert root.startswith("data/a-b-team")
    assert ".." not in root


@pytest.mark.parametrize("name", ["货架检查", "...", "", "null", "../../etc"])
def test_names_become_fit_for_folders_and_images_when_little_is_left_of_them(name: str) -> None:
    files = rendered(project(dataset=DatasetSpec(name, 3, (64, 64)), name=name))
    compose = yaml.safe_load(files["docker-compose.yml"])
    assert compose["name"] in ("project", "null", "etc")
    root = yaml.safe_load(files["configs/default.yaml"])["dataset"]["root"]
    assert root in ("data/images", "data/null", "data/etc")


@pytest.mark.parametrize("stage", ["venv", "docker"])
@pytest.mark.parametrize("version", ["3.3.1\n--index-url http://evil", "3.3; rm", "latest", "-e git+ssh://x"])
def test_a_version_that_is_none_is_refused_and_nothing_is_written(stage: str, version: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the version of numpy"):
        write_scaffold(tmp_path / "p", project(versions={stage: {"numpy": version}}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("versions", "said"),
    [({"cuda": "12.6 && rm"}, "the CUDA version"), ({"python": "3.9"}, "Python '3.9'"), ({"cuda": ""}, "the CUDA")],
)
def test_an_image_that_does_not_exist_is_refused(versions: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        rendered(project(versions={"docker": versions}))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (project(task="detection"), "python tools/train.py"),
        (project(framework="jax"), "choose paddle or torch"),
        (project(model="efficientnet_b0"), "choose one of resnet18"),
        (project(model="__import__('os')"), "choose one of resnet18"),
        (project(batch_size=0), "the batch size is 0"),
        (project(epochs=0), "the number of epochs is 0"),
        (project(learning_rate=float("nan")), "the learning rate is nan"),
        (project(dataset=DatasetSpec("own", 1, (32, 32))), "the number of classes is 1"),
        (project(dataset=DatasetSpec("own", 3, (32, 4))), "the image width is 4"),
        (project(dataset=DatasetSpec("cifar10", 7, (32, 32))), "has 10 classes"),
    ],
)
def test_a_specification_that_no_scaffold_serves_is_refused(spec: ProjectSpec, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        write_scaffold(tmp_path / "p", spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_when_it_is_not_empty(tmp_path: Path) -> None:
    kept = tmp_path / "p" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(BadInput, match="not an empty folder"):
        write_scaffold(kept.parent, project())
    with pytest.raises(BadInput, match="not an empty folder"):
        write_scaffold(kept, project())
    assert [path.name for path in tmp_path.rglob("*")] == ["p", "mine.txt"]
    assert kept.read_text() == "mine"


def test_an_existing_folder_is_filled_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    assert write_scaffold(tmp_path / "p", project())
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_networks_that_are_offered_are_those_the_templates_can_build(framework: str) -> None:
    files = rendered(project(framework))
    source = files["model.py" if framework == "paddle" else "networks.py"]
    values = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and "NETWORKS" in ast.dump(node)
    ]
    assert len(values) == 1
    offered = values[0].keys if isinstance(values[0], ast.Dict) else values[0].elts  # type: ignore[union-attr]
    assert tuple(node.value for node in offered) == MODELS  # type: ignore[union-attr]
