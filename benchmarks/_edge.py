"""What benchmarks/edge_bundle.py runs a bundle with: other Pythons, fresh venvs, an emulated aarch64."""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "opencv-python-headless")
# All of onnxruntime that a bundle may use: each is in 1.10.0, the last version for the Python 3.6 of JetPack 4.6.
ONNXRUNTIME_1_10 = frozenset({
    "InferenceSession", "SessionOptions", "__version__", "bind_input", "bind_output", "intra_op_num_threads",
    "io_binding", "log_severity_level", "run_with_iobinding",
})  # fmt: skip
_OBJECTS = ("onnxruntime", "options", "session", "_session", "_binding")
_MINORS = range(6, 15)
# Of the processor that is emulated, Cortex-A76 as in a Raspberry Pi 5. Without it the host's own /proc/cpuinfo, that of
# an x86 processor, shows through, and onnxruntime crashes on import.
_QEMU_CPU, _PART = "cortex-a76", "0xd0b"
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


class NotDone(Exception):
    """Something that this machine or its network does not allow; the text says what."""


def call(command: Sequence[str | Path], *, seconds: float, cwd: Path | None = None, **extra: str) -> str:
    """Runs a program and returns what it prints.

    Raises:
        NotDone: It is not there, takes too long, or fails; with its last line.
    """
    name = " ".join(str(part) for part in command[:3])
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=max(1.0, seconds),
            check=False, env={**os.environ, **extra},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotDone(f"{name}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotDone(f"{name}: exit code {done.returncode}, {lines[-1] if lines else 'no output'}")
    return done.stdout


def pythons() -> dict[tuple[int, int], str]:
    """Returns interpreters that this machine has, oldest first: on the path, pyenv's, and the running one."""
    names = [shutil.which(f"python3.{minor}") for minor in _MINORS]
    candidates = [*sorted(str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")), *names]
    found = {sys.version_info[:2]: sys.executable}
    for candidate in filter(None, candidates):
        try:
            version = call([str(candidate), "-c", "import sys, venv; print(*sys.version_info[:2])"], seconds=20)
        except NotDone:
            continue
        major, minor = (int(part) for part in version.split())
        found.setdefault((major, minor), str(candidate))
    return dict(sorted(found.items()))


def fresh_venv(python: str, folder: Path, packages: Sequence[str], *, seconds: float = 300) -> Path:
    """Makes a venv that holds nothing but the packages and what they need.

    Raises:
        NotDone: They cannot be installed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    call([python, "-m", "venv", folder], seconds=seconds)
    made = folder / "bin" / "python"
    if packages:
        # The pip of an old Python does not know today's wheels.
        call([made, "-m", "pip", "install", "-q", "-U", "pip"], seconds=seconds)
        call([made, "-m", "pip", "install", "-q", "--only-binary=:all:", *packages], seconds=seconds)
    return made


def oldest_runtime(python: Path, least: str = "1.10.0") -> str:
    """Returns the oldest onnxruntime from ``least`` on that has a wheel for an interpreter.

    Raises:
        NotDone: There is none.
    """
    said = call([python, "-m", "pip", "index", "versions", "onnxruntime"], seconds=60)
    listed = next((line for line in said.splitlines() if line.startswith("Available versions:")), "")
    versions = re.findall(r"\d+\.\d+\.\d+", listed)
    wanted = [version for version in versions if _numbers(version) >= _numbers(least)]
    if not wanted:
        raise NotDone(f"no onnxruntime from {least} on for this Python")
    return min(wanted, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def run_bundle(command: Sequence[str | Path], bundle: Path, *arguments: str, cwd: Path, seconds: float) -> Any:
    """Runs a bundle's runner and returns its report; Python's own variables are not handed on.

    Raises:
        NotDone: It fails.
    """
    clean = dict.fromkeys(("PYTHONPATH", "PYTHONHOME"), "")
    return json.loads(call([*command, bundle / "runner.py", *arguments], seconds=seconds, cwd=cwd, **clean))


def foreign_names(bundle: Path) -> list[str]:
    """Returns what a bundle's modules use of onnxruntime beyond ``ONNXRUNTIME_1_10``."""
    tree = ast.parse((bundle / "runner_engines.py").read_text(encoding="utf-8"))
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name.startswith("_OnnxRuntime")]
    used = {n.attr for c in classes for n in ast.walk(c) if isinstance(n, ast.Attribute) and _is_runtime(n.value)}
    if not used:
        raise RuntimeError("the runner's use of onnxruntime was not found: its classes have other names")
    return sorted(used - ONNXRUNTIME_1_10)


def _is_runtime(value: ast.expr) -> bool:
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return name in _OBJECTS


def emulated(bundle: Path, work: Path, *, seconds: float) -> tuple[str, list[Mapping[str, Any]]]:
    """Tries a bundle's self-test on an emulated aarch64: QEMU, Debian's Python and wheels for it.

    Args:
        bundle: One for a Raspberry Pi.
        work: A folder; what was downloaded is kept there.
        seconds: For everything.

    Returns:
        What happened, and the reports of the self-tests; empty where nothing ran.
    """
    until = time.monotonic() + seconds
    try:
        qemu, root, site = _aarch64(work, until)
        python = next(iter(sorted((root / "usr" / "bin").glob("python3.[0-9]*"))))
        command = [qemu, "-L", root, "-cpu", _QEMU_CPU, "-E", f"PYTHONPATH={site}", "-E", "PYTHONHOME=/usr", python]
        machine = call([*command, "-c", "import platform; print(platform.machine())"], seconds=_left(until)).strip()
        if machine != "aarch64":
            raise NotDone(f"Python says that it runs on {machine}")
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        reports = []
        for precision in dict.fromkeys(run["precision"] for run in manifest["runs"]):
            arguments = ("--selftest", "--threads", "1", "--precision", precision)
            reports.append(run_bundle(command, bundle, *arguments, cwd=work, seconds=_left(until)))
    except NotDone as problem:
        return f"not run: {problem}", []
    told = "; ".join(
        f"{report['precision']} {'passed' if report['passed'] else 'FAILED'}, largest difference "
        f"{max(report['output_differences']):.2g} of the largest output"
        for report in reports
    )
    return f"ran ({_QEMU_CPU} by QEMU, {python.name}, onnxruntime {reports[0]['engine_version']}): {told}", reports


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise NotDone("the time is up")
    return left


def _aarch64(work: Path, until: float) -> tuple[Path, Path, Path]:
    """Returns QEMU, a root folder with Python, and a folder with the runner's packages."""
    if platform.machine() == "aarch64":
        raise NotDone("this machine is an aarch64 itself")
    root, site, host = work / "root", work / "site", work / "host"
    for folder, packages, machine in (
        (host, ["qemu-user-static"], "amd64"),
        (root, ["python3", "libstdc++6"], "arm64"),
    ):
        if not folder.is_dir():
            _debian(packages, machine, work / f"apt-{machine}", folder, until)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("".join(_processor(number) for number in range(2)))
    python = next(iter(sorted((root / "usr" / "bin").glob("python3.[0-9]*"))), None)
    if python is None:
        raise NotDone("Debian's packages hold no Python")
    if not site.is_dir():
        _wheels(python.name.removeprefix("python"), work / "wheels", site, until)
    return host / "usr" / "bin" / "qemu-aarch64-static", root, site


def _processor(number: int) -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {_FEATURES}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: {_PART}\nCPU revision\t: 1\n\n"
    )


def _debian(packages: Sequence[str], machine: str, apt: Path, folder: Path, until: float) -> None:
    """Unpacks packages and all they need; the system's own packages are not touched."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {
        "Dir::State": apt / "state", "Dir::Cache": apt / "cache", "Dir::State::status": apt / "status",
        "APT::Architecture": machine, "APT::Architectures": machine, "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    call(["apt-get", *options, "update"], seconds=_left(until))
    get = ["install", "-y", "--download-only", "--no-install-recommends"]
    if machine == "amd64":  # a static program: nothing of what Debian says it needs
        call(["apt-get", *options, "download", *packages], seconds=_left(until), cwd=apt / "cache" / "archives")
    else:
        call(["apt-get", *options, *get, *packages], seconds=_left(until))
    made = folder.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    for archive in sorted((apt / "cache" / "archives").glob("*.deb")):
        call(["dpkg-deb", "-x", archive, made], seconds=_left(until))
    made.rename(folder)


def _wheels(version: str, wheels: Path, site: Path, until: float) -> None:
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    call(
        [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", version, *platforms,
         "-d", wheels, *PACKAGES, "onnxruntime"],
        seconds=_left(until),
    )  # fmt: skip
    made = site.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    for wheel in sorted(wheels.glob("*.whl")):
        shutil.unpack_archive(wheel, made, "zip")
    made.rename(site)
