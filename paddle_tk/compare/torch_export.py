"""The process that lets torch write an ONNX file from trained weights, by its own exporter."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddle_tk.compare.inputs import open_inputs
from paddle_tk.errors import CheckFailed
from paddle_tk.measure.fresh_process import answer

_OUTPUTS = {"classification": ["logits"], "detection": ["boxes", "scores"]}


def _exported(job: Mapping[str, Any]) -> dict[str, Any]:
    inputs = open_inputs(Path(job["inputs"]))
    import torch

    from paddle_tk.compare.torch_backend import TorchBackend

    network = TorchBackend(inputs.plan, "cpu", threads=1).network(Path(job["weights"])).eval()
    height, width = inputs.plan.model["image_size"]
    file = Path(job["file"])
    file.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    # Two images, so that the batch dimension is not taken for a constant; the exporter reports on stdout.
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(2, 3, height, width),),
                str(file),
                input_names=["image"],
                output_names=_OUTPUTS[inputs.plan.kind],
                opset_version=job["opset"],
                dynamo=True,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
    except Exception as error:  # whatever the exporter may raise
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise CheckFailed(
            f"torch's ONNX exporter failed: {type(error).__name__}: {last}", "compare without ONNX"
        ) from error
    return {"seconds": time.perf_counter() - began, "exporter": "torch.onnx, dynamo", "bytes": file.stat().st_size}


if __name__ == "__main__":
    sys.exit(answer(_exported))
