"""A Paddle layer -> ONNX bytes, by Paddle2ONNX.

The conversion itself runs in a child process: what Paddle2ONNX does not support may end the process it runs in
(``SystemExit``, or ``abort`` from its C++ side), and it writes to the standard output past Python.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.runtime.static_graph import save_static

# What Paddle2ONNX 2.1 can write; below 9 its integer constants are not valid.
OLDEST_OPSET, NEWEST_OPSET, DEFAULT_OPSET = 9, 21, 17
_TIMEOUT_SECONDS = 1800
# The default optimize_tool ("polygraphy") installs packages with pip while it runs. Whatever else may try to is ended:
# SystemExit passes through "except Exception". Paddle itself starts programs (which, ldd) while it is imported.
_CHILD = """
import sys
import paddle2onnx

def forbid(event, arguments):
    started = event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty")
    installer = event == "import" and arguments[0].split(".")[0] in ("pip", "ensurepip", "polygraphy")
    if started or installer:
        what = arguments[0] if installer else " ".join(map(str, arguments[:2]))
        sys.exit("ERROR: a conversion installs nothing and starts no program, it was about to: " + what)

sys.addaudithook(forbid)
model, parameters, target, opset = sys.argv[1:]
paddle2onnx.export(model, parameters, target, opset_version=int(opset), verbose=True, optimize_tool="none")
"""


def layer_to_onnx(network: Any, *, input_shape: tuple[int | None, int, int, int], opset: int, debug: bool) -> bytes:
    """Converts a network in evaluation mode.

    Args:
        network: Takes one image batch, returns logits.
        input_shape: (B, 3, H, W); B None: a free batch dimension.
        opset: ONNX operator set, 9 to 21; Paddle2ONNX takes the next higher one that it needs.
        debug: Let Paddle and Paddle2ONNX write to the terminal.

    Raises:
        BadInput: Paddle2ONNX is not installed, the opset is out of range, or the network cannot take the input size.
        CheckFailed: The network cannot be converted.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise BadInput(f"opset {opset} cannot be written", f"choose one from {OLDEST_OPSET} to {NEWEST_OPSET}")
    with tempfile.TemporaryDirectory(prefix="paddle_tk-onnx-") as name:
        folder = Path(name)
        save_static(network, folder / "model", input_shape, debug=debug)
        return _convert(folder, opset, debug)


def _convert(folder: Path, opset: int, debug: bool) -> bytes:
    target = folder / "model.onnx"
    files = [str(folder / "model.json"), str(folder / "model.pdiparams"), str(target)]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *files, str(opset)],
        cwd=folder,  # nothing there can be imported in place of a package
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # Paddle warns of more, which would be taken for the reason
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if debug:
        sys.stderr.write(done.stdout)
    if done.returncode == 0 and target.is_file():
        return target.read_bytes()
    if "No module named 'paddle2onnx'" in done.stdout:
        raise BadInput("Paddle2ONNX is not installed", "pip install paddle2onnx")
    raise CheckFailed(f"Paddle2ONNX cannot convert this network: {_reason(done.stdout)}", "--debug shows all it says")


def _reason(said: str) -> str:
    """Returns the line that tells why, of all that Paddle2ONNX printed."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    errors = [line for line in lines if "ERROR" in line or "Error" in line or "not support" in line]
    first = (errors or [line for line in lines if line] or ["it said nothing"])[0]
    return first.removeprefix("[ERROR]").removeprefix("[Paddle2ONNX]").strip(" .")
