"""An INT8 model made by hand from an exported one: its input goes through one pair of Q/DQ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from paddle_tk.files import sha256_file
from paddle_tk.manifest import load_manifest, write_manifest
from tests.export.edge.graphs import held

FILE = "model.int8.onnx"


def write_int8(exported: Path, folder: Path, *, variant: str = "arm", opset: int | None = None) -> Path:
    """Writes ``folder`` with an INT8 model and its manifest; its weights stay what they are."""
    folder.mkdir(parents=True)
    artifact = load_manifest(exported)
    model = onnx.load(str(exported / artifact.path))
    name = model.graph.input[0].name
    for node in model.graph.node:
        for place, given in enumerate(node.input):
            if given == name:
                node.input[place] = "input_dq"
    constants = [held("input_s", np.float32(0.05)), held("input_z", np.int8(0))]
    pair = [
        helper.make_node("QuantizeLinear", [name, "input_s", "input_z"], ["input_q"], name="q"),
        helper.make_node("DequantizeLinear", ["input_q", "input_s", "input_z"], ["input_dq"], name="dq"),
    ]
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    if opset is not None:
        model.opset_import[0].version = opset
    onnx.save(model, str(folder / FILE))
    changed = replace(
        artifact, path=FILE, precision="int8", variant=variant, metrics={}, sha256={FILE: sha256_file(folder / FILE)}
    )
    write_manifest(folder, changed)
    return folder
