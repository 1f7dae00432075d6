from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.export.convert import layer_to_onnx
from tests.models.yolov10.small import images, settle_norms, small_network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")

# What TensorRT 8.2 has no layer for, or only where an activation asks for it.
UNWANTED = {"Mod", "NonZero", "TopK", "OneHot", "HardSwish", "NonMaxSuppression", "RoiAlign", "If", "Loop"}


@pytest.mark.parametrize(("opset", "fused"), [(13, True), (17, False)])
def test_the_exported_network_gives_paddles_boxes_and_scores(opset: int, fused: bool) -> None:
    network = small_network(num_classes=3)
    settle_norms(network)
    network.eval()
    x = images(1, 64, 96)
    expected = [output.numpy() for output in network(x)]
    exported = network.inference_form() if fused else network
    content = layer_to_onnx(exported, input_shape=(1, 3, 64, 96), opset=opset, debug=False)

    model = onnx.load_from_string(content)
    assert model.opset_import[0].version == opset
    assert not UNWANTED & {node.op_type for node in model.graph.node}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    boxes, scores = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert (boxes.shape, scores.shape) == ((1, 126, 4), (1, 126, 3))
    np.testing.assert_allclose(boxes, expected[0], atol=1e-2)
    # Rounding, which depends on the processor's matrix kernels, moves them by up to 1.0e-4.
    np.testing.assert_allclose(scores, expected[1], atol=5e-4)
