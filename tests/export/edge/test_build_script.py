from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_tk.export.edge.build_script import build_script
from paddle_tk.export.edge.devices import load_device
from paddle_tk.export.edge.plan import make_plan
from paddle_tk.files import sha256_file
from tests.export.edge.built import copy

# Stand-ins for what only a device has: they write down how they were called.
TRTEXEC = """#!/bin/bash
if [ "$1" = --help ]; then echo "  {option}=N  size of the workspace"; exit 1; fi
echo "trtexec $*" >> "$LOG"
for argument in "$@"; do
  case $argument in --saveEngine=*) echo engine > "${{argument#--saveEngine=}}" ;; esac
done
"""
LOGGED = '#!/bin/bash\necho "{name} $*" >> "$LOG"\n'
MODES = """< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class _Machine:
    """A folder of stand-ins, and what they were called with."""

    def __init__(self, folder: Path, option: str = "--workspace") -> None:
        folder.mkdir()
        self.log, self._folder = folder / "log", folder
        _script(folder / "trtexec", TRTEXEC.format(option=option))
        _script(folder / "python3", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
        for name in ("sudo", "nvpmodel"):
            _script(folder / name, LOGGED.format(name=name))
        (folder / "nvpmodel.conf").write_text(MODES)

    def build(self, bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "PATH": f"{self._folder}:{os.environ['PATH']}", "LOG": str(self.log),
            "TRTEXEC": str(self._folder / "trtexec"), "NVPMODEL_CONF": str(self._folder / "nvpmodel.conf"),
        }  # fmt: skip
        return subprocess.run(
            ["bash", str(bundle / "build_engine.sh"), *arguments],
            cwd="/", capture_output=True, text=True, timeout=120, check=False, env=environment,
        )  # fmt: skip

    def called(self, name: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(name)]


@pytest.mark.parametrize(
    ("device", "flag"),
    [
        ("jetson-nano", '--workspace="$workspace"'),
        ("jetson-xavier-nx", '--memPoolSize=workspace:"$workspace"'),
        ("jetson-orin-nano", '--memPoolSize=workspace:"$workspace"'),
        ("jetson-agx-orin", '--memPoolSize=workspace:"$workspace"'),
    ],
)
def test_build_script_has_the_flags_of_the_devices_tensorrt(device: str, flag: str) -> None:
    target = load_device(device)
    script = build_script(target, make_plan(target, "int8").runs)
    assert f'"$trtexec" --onnx="$model" --saveEngine="$engine.part" {flag} $flags' in script
    assert not [word for word in script.split() if word.startswith("@") and word.endswith("@")]
    assert f"recommended here: {target.recommended_power_mode})" in script
    assert ("int8)" in script) == target.int8
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_build_script_builds_the_default_and_records_what_it_was_built_from(bundles: Path, tmp_path: Path) -> None:
    bundle, machine = copy(bundles / "nano", tmp_path / "b"), _Machine(tmp_path / "bin")
    done = machine.build(bundle)
    engine = bundle / "engines" / "model.fp16.engine"
    assert machine.called("trtexec") == [
        "trtexec --onnx=models/model.onnx --saveEngine=engines/model.fp16.engine.part --workspace=1024 --fp16"
    ]
    assert Path(f"{engine}.sha256").read_text().split() == [
        json.loads((bundle / "manifest.json").read_text())["files"]["models/model.onnx"], sha256_file(engine),
    ]  # fmt: skip
    assert machine.called("sudo") == []
    # The self-test comes last, and this machine has no TensorRT; the engine itself is accepted.
    assert done.returncode == 2
    assert done.stderr.startswith("error: TensorRT's Python package cannot be imported")


def test_build_script_takes_precision_and_workspace_when_they_are_given(bundles: Path, tmp_path: Path) -> None:
    bundle, machine = copy(bundles / "nano", tmp_path / "b"), _Machine(tmp_path / "bin")
    machine.build(bundle, "--precision", "fp32", "--workspace", "256")
    assert machine.called("trtexec")[0].rstrip().endswith("model.fp32.engine.part --workspace=256")
    assert (bundle / "engines" / "model.fp32.engine").is_file()


def test_build_script_sets_a_power_mode_by_its_name_when_asked_to(bundles: Path, tmp_path: Path) -> None:
    bundle, machine = copy(bundles / "nano", tmp_path / "b"), _Machine(tmp_path / "bin")
    machine.build(bundle, "--power-mode", "25W")
    assert machine.called("sudo") == ["sudo nvpmodel -m 1", "sudo jetson_clocks"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--power-mode", "MAXN"], "knows no power mode MAXN. Fix: use one of: 15W 25W MAXN_SUPER"),
        (["--power-mode", "a;b"], "is no name of a power mode"),
        (["--precision", "int8"], "no model for an engine of precision 'int8'. Fix: use one of fp16|fp32"),
        (["--workspace", "much"], "--workspace must be a number of MiB, got 'much'"),
        (["--precision"], "--precision needs a value"),
        (["--fast", "yes"], "unknown option --fast"),
    ],
)
def test_build_script_refuses_in_one_line_and_builds_nothing(
    arguments: list[str], told: str, bundles: Path, tmp_path: Path
) -> None:
    bundle, machine = copy(bundles / "nano", tmp_path / "b"), _Machine(tmp_path / "bin")
    done = machine.build(bundle, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
    assert machine.called("trtexec") == machine.called("sudo") == []


def test_build_script_refuses_trtexec_of_another_release_and_changed_files(bundles: Path, tmp_path: Path) -> None:
    bundle = copy(bundles / "nano", tmp_path / "b")
    newer = _Machine(tmp_path / "newer", option="--memPoolSize")
    done = newer.build(bundle)
    assert (done.returncode, newer.called("trtexec")) == (2, [])
    assert "has no option --workspace: it is not TensorRT 8.2.1" in done.stderr
    (bundle / "models" / "model.onnx").write_bytes(b"other")
    machine = _Machine(tmp_path / "bin")
    done = machine.build(bundle)
    assert (done.returncode, machine.called("trtexec")) == (2, [])
    assert "is damaged or was changed" in done.stderr
