"""Where benchmarks/edge_bundle.py runs a bundle: fresh environments, old Pythons, an emulated aarch64 processor.

Packages come from the configured package sources of pip and apt; nothing is installed outside the folder given.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Last pip that runs on these Pythons and knows today's wheel tags.
PIP_OF_PYTHON_3_6 = "pip==21.3.1"
# Oldest first: what JetPack 4.6 has, then what is nearest to it.
OLD_PYTHONS = {
    "3.6": ("onnxruntime==1.10.0", "numpy<1.20", "opencv-python-headless<4.7"),
    "3.7": ("onnxruntime==1.10.0", "numpy", "opencv-python-headless<4.7"),
    "3.8": ("onnxruntime==1.10.0", "numpy", "opencv-python-headless<4.7"),
    "3.9": ("onnxruntime==1.10.0", "numpy<2", "opencv-python-headless<4.7"),
    "3.10": ("onnxruntime==1.11.0", "numpy<2", "opencv-python-headless<4.10"),
}
_ARM_PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "libcrypt1", "libdb5.3", "libncursesw6", "libtinfo6", "libreadline8", "libnsl2"),
    *("libtirpc3", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
)
_ARM_WHEELS = ("numpy", "opencv-python-headless", "onnxruntime==1.32.0")
_ARM_TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")

# Main ID register's part number, and what the kernel calls the instructions, of the processors that are emulated.
_PARTS = {"cortex-a57": "0xd07", "cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_MORE_FEATURES = {"cortex-a76": " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"}


@dataclass
class Place:
    """Somewhere that the runner can be started.

    Attributes:
        name: For the report.
        command: Starts Python there.
        environment: Variables it needs.
        tried: What was done to make it, in order, with outcomes.
        works: Whether it is there.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    works: bool = False

    def run(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs Python there; one that is stopped after ``timeout`` seconds has failed."""
        command = [*self.command, *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False,
                env={**os.environ, **self.environment},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"stopped after {timeout:g} s")

    def attempt(self, what: str, command: Sequence[str], deadline: float, cwd: Path | None = None) -> bool:
        """Runs one step of making it and notes how it went; False where it failed."""
        left = deadline - time.monotonic()
        try:
            done = subprocess.run(
                list(command), capture_output=True, text=True, timeout=max(1.0, left), check=False, cwd=cwd
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.tried.append(f"{what}: {type(error).__name__}")
            return False
        said = (done.stderr or done.stdout).strip().splitlines()
        self.tried.append(f"{what}: " + ("done" if done.returncode == 0 else (said or ["no reason given"])[-1][:200]))
        return done.returncode == 0


def emulate_processor(place: Place, folder: Path, name: str) -> None:
    """Makes ``emulated_aarch64`` emulate another processor.

    Without a /proc/cpuinfo of its own the host's, of an x86 processor, shows through, and ONNX Runtime, which reads
    there what the processor can do, crashes when it is imported.

    Args:
        place: From ``emulated_aarch64``.
        folder: Its folder.
        name: One of "cortex-a57", "cortex-a72", "cortex-a76".
    """
    features = _FEATURES + _MORE_FEATURES.get(name, "")
    entry = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {_PARTS[name]}\nCPU revision\t: 3\n\n"
    )
    file = folder / "root" / "proc" / "cpuinfo"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"processor\t: {number}\n{entry}" for number in range(os.cpu_count() or 1)))
    place.environment["QEMU_CPU"] = name


def fresh_environment(folder: Path, requirements: Path, minutes: float = 10) -> Place:
    """Makes a virtual environment of this Python that holds what a bundle's requirements.txt names, and no more."""
    place, deadline = Place("fresh environment"), time.monotonic() + 60 * minutes
    python = folder / "bin" / "python"
    place.works = place.attempt("venv", [sys.executable, "-m", "venv", str(folder)], deadline) and place.attempt(
        "pip install -r requirements.txt",
        [str(python), "-m", "pip", "install", "-q", "-r", str(requirements)],
        deadline,
    )
    place.command = (str(python),)
    return place


def old_python(folder: Path, minutes: float = 10) -> Place:
    """Makes an environment of the oldest Python at hand for which ONNX Runtime 1.10 (or nearly) installs."""
    place, deadline = Place("oldest ONNX Runtime"), time.monotonic() + 60 * minutes
    for version, packages in OLD_PYTHONS.items():
        interpreter = _interpreter(version)
        if interpreter is None:
            place.tried.append(f"Python {version}: none on this machine")
            continue
        target = folder / version
        python = str(target / "bin" / "python")
        steps = [
            (f"Python {version}: venv", [interpreter, "-m", "venv", str(target)]),
            (f"Python {version}: {packages[0]}",
             [python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *packages]),
        ]  # fmt: skip
        if version == "3.6":
            steps.insert(1, (PIP_OF_PYTHON_3_6, [python, "-m", "pip", "install", "-q", PIP_OF_PYTHON_3_6]))
        if all(place.attempt(what, command, deadline) for what, command in steps):
            place.command, place.works = (python,), True
            return place
    return place


def _interpreter(version: str) -> str | None:
    """Returns a Python of a version that starts, from the PATH or from pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(str(p / "bin" / "python") for p in root.glob(f"{version}.*"))]
    for path in (candidate for candidate in reversed(found) if candidate):
        told = subprocess.run(
            [path, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False
        )
        if told.returncode == 0 and told.stdout.startswith(version + "."):
            return path
    return None


def emulated_aarch64(folder: Path, minutes: float = 15) -> Place:
    """Unpacks an aarch64 Python 3.11 of Debian 12 and its wheels, to be run by qemu's user emulation."""
    place, deadline = Place("emulated aarch64"), time.monotonic() + 60 * minutes
    if platform.system() != "Linux" or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        place.tried.append("apt: none on this machine")
        return place
    for name in ("apt/state/lists/partial", "apt/cache/archives/partial", "debs", "tools", "root", "site", "wheels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt" / "status").touch()
    options = [
        *("-o", f"Dir::State={folder}/apt/state", "-o", f"Dir::Cache={folder}/apt/cache"),
        *("-o", f"Dir::State::status={folder}/apt/status", "-o", "APT::Sandbox::User=root"),
        *("-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64"),
    ]
    tags = [part for tag in _ARM_TAGS for part in ("--platform", tag)]
    wheels = [sys.executable, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--python-version", "3.11",
              "--implementation", "cp", *tags, "--target", str(folder / "site"), *_ARM_WHEELS]  # fmt: skip
    steps = (
        ("apt-get update (arm64, lists of its own)", ["apt-get", *options, "update", "-qq"], folder),
        ("aarch64 Python 3.11 and its libraries", ["apt-get", *options, "download", "-qq", *_ARM_PACKAGES],
         folder / "debs"),
        ("qemu-user-static", ["apt-get", "download", "-qq", "qemu-user-static"], folder / "tools"),
        ("aarch64 wheels of NumPy, OpenCV and ONNX Runtime", wheels, folder),
    )  # fmt: skip
    if not all(place.attempt(what, command, deadline, cwd) for what, command, cwd in steps):
        return place
    unpacked = [("root", deb) for deb in sorted((folder / "debs").glob("*.deb"))]
    unpacked += [("tools", deb) for deb in sorted((folder / "tools").glob("*.deb"))]
    for where, deb in unpacked:
        if not place.attempt(deb.name, ["dpkg-deb", "-x", str(deb), str(folder / where)], deadline):
            return place
    place.tried = [line for line in place.tried if not line.endswith(".deb: done")]
    emulator = folder / "tools" / "usr" / "bin" / "qemu-aarch64-static"
    place.command = (str(emulator), "-L", str(folder / "root"), str(folder / "root" / "usr" / "bin" / "python3.11"))
    place.environment = {"PYTHONPATH": str(folder / "site"), "PYTHONHOME": "/usr"}
    told = place.run("-c", "import platform; print(platform.machine())")
    place.works = told.returncode == 0 and told.stdout.strip() == "aarch64"
    place.tried.append(f"start Python under qemu: {told.stdout.strip() or told.stderr.strip()[-200:]}")
    return place
