from __future__ import annotations

import os
from pathlib import Path

import paddle
import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.export.convert import layer_to_onnx

_EXPORT = """
import os, subprocess, sys
def export(model, parameters, target, **options):
    try:
        {attempt}
    except Exception:
        pass  # as Paddle2ONNX does
    open(target, "wb").write(b"written")
"""


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        ("import pip", "pip"),
        ("from pip._internal.cli import main", "pip"),
        ("import polygraphy", "polygraphy"),
        ("subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])", "-m"),
        ("subprocess.check_call('echo installed', shell=True)", "sh"),
        ("os.system('echo installed')", "echo installed"),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", "-c"),
        ("os.fork()", "start"),
    ],
)
def test_conversion_fails_loudly_when_the_converter_would_install_or_start_anything(
    attempt: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "paddle2onnx.py").write_text(_EXPORT.format(attempt=attempt))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(CheckFailed, match="installs nothing and starts no program") as caught:
        layer_to_onnx(paddle.nn.ReLU(), input_shape=(1, 3, 8, 8), opset=17, debug=False)
    assert expected in caught.value.problem
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
