from __future__ import annotations

import numpy as np
import onnx

from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.sensitivity import box_distance, logit_distance, rank_nodes
from paddle_tk.export.qdq.view import GraphView
from tests.export.qdq.graphs import WEIGHT_BITS, Array, images, ranges_of, residual, run


def test_layer_whose_input_has_an_outlier_is_ranked_first() -> None:
    model = residual()
    plan = make_plan(GraphView(model), "x86")
    ranges = ranges_of(model, plan.ranges, images())
    spoiled = ranges["relu1.out"]
    ranges["relu1.out"] = type(spoiled)(0.0, spoiled.high * 200, spoiled.threshold * 200, "abs_max", 1)
    batch = images(seed=5)[0]
    done: list[int] = []

    def runner(candidate: onnx.ModelProto) -> tuple[Array, ...]:
        return run(candidate, batch)

    ranked = rank_nodes(
        model, "x86", ranges, runner, nodes=plan.weighted, distance=logit_distance, weight_bits=WEIGHT_BITS,
        advance=done.append,
    )  # fmt: skip

    # conv1 writes the tensor and conv2 reads it, so both suffer from its scale.
    assert {ranked[0].node, ranked[1].node} == {"conv1", "conv2"}
    assert ranked[0].error > 5 * ranked[2].error
    assert sum(done) == len(ranked) == len(plan.weighted)
    assert all(np.isfinite(entry.error) for entry in ranked)


def test_rounding_to_fewer_bits_moves_the_outputs_more() -> None:
    model = residual()
    plan = make_plan(GraphView(model), "tensorrt")
    ranges, batch = ranges_of(model, plan.ranges, images()), images(seed=5)[0]

    def errors(bits: int) -> float:
        found = rank_nodes(
            model, "tensorrt", ranges, lambda m: run(m, batch), nodes=plan.weighted, distance=logit_distance,
            weight_bits=bits,
        )  # fmt: skip
        return sum(entry.error for entry in found)

    assert errors(4) > 2 * errors(8)


def test_boxes_are_compared_where_something_is_seen() -> None:
    boxes = np.asarray([[[0, 0, 10, 10], [0, 0, 10, 10]]], np.float32)
    scores = np.asarray([[[0.9], [0.01]]], np.float32)
    moved = boxes.copy()
    moved[0, 1] += 5  # where nothing is seen
    assert box_distance((boxes, scores), (moved, scores)) == 0

    moved[0, 0] += 1
    assert np.isclose(box_distance((boxes, scores), (moved, scores)), 0.1)
    assert np.isclose(box_distance((boxes, scores), (boxes, scores - np.float32(0.2))), 0.2)
    nothing = scores * 0
    assert box_distance((boxes, nothing), (moved, nothing)) > 0
