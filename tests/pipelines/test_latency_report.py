from __future__ import annotations

import json
from dataclasses import replace

import pytest

from paddle_tk.pipelines.latency_bench import CAREFUL, Accuracy, Times
from paddle_tk.pipelines.latency_candidates import Candidate, Settings
from paddle_tk.pipelines.latency_choice import Choice, Search
from paddle_tk.pipelines.latency_limits import LatencyLimits
from paddle_tk.pipelines.latency_report import Facts, Finals, lines, losers, published_targets, report, table
from tests.pipelines.latency_table import CORES, Row, TableBench, model_file

LIMITS = LatencyLimits(target_latency_ms=50)
FP32, INT8 = model_file("fp32", ("onnxruntime",)), model_file("int8", ("onnxruntime",))


def _row(settings: Settings) -> Row:
    return Row(20.0, 0.9) if settings.precision == "fp32" else Row(4.0, 0.9, tail=2.0)


def _found() -> tuple[Choice, Finals]:
    bench = TableBench(_row)
    choice = Search(bench, LIMITS, CORES, (1, 0)).run((FP32, INT8), Accuracy(0.9, 1000))
    own = choice.chosen.candidate.settings
    base = Candidate(FP32, Settings("onnxruntime", "fp32", (64, 64), own.threads, graph_optimization="all"))
    paired, baseline = bench.times([choice.chosen.candidate, base], CAREFUL)
    assert isinstance(paired, Times)
    assert isinstance(baseline, Times)
    rates = ((own, (240.0, 250.0, 260.0)), (replace(own, in_flight=2), (300.0,)))
    return choice, Finals(rates, baseline, paired, 26, 100)


def _said() -> dict[str, object]:
    choice, finals = _found()
    left_out = {"tensorrt": "not installed: x", "paddle": "not asked for"}
    return report(choice, LIMITS, finals, Facts("model", "top1", "fp32", "digits test images", 20, left_out))


def test_report_holds_settings_figures_and_every_candidate_with_its_reason() -> None:
    said = json.loads(json.dumps(_said(), allow_nan=False))
    assert said["settings"]["engine"] == "onnxruntime"
    assert said["settings"]["precision"] == "int8"
    assert (said["p50_ms"], said["p95_ms"], said["n"]) == (4.0, 8.0, 200)
    assert said["judged"] == {
        "percentile": 95, "latency_ms": 8.0, "n": 120, "images_per_second": 250.0,
        "cpu_share": said["cpu_share"], "peak_mib": 100.0,
    }  # fmt: skip
    assert said["accuracy"] == {"metric": "top1", "fp32": 0.9, "chosen": 0.9, "n": 1000, "images": "digits test images"}
    assert [rate["mode"] for rate in said["throughput"]] == ["sync", "async"]
    assert said["throughput"][0]["images_per_second"] == 250
    assert said["cold_start_seconds"] == 0.5
    assert sum(entry["chosen"] for entry in said["candidates"]) == 1
    assert all(entry["reason"] for entry in said["candidates"])
    assert set(said["runner"]) == {
        "engine", "precision", "threads", "affinity", "graph_optimization", "batch_size", "in_flight", "streams",
        "preallocate", "warmup", "arithmetic", "spinning",
    }  # fmt: skip


def test_published_targets_are_met_not_met_or_not_measured_with_their_figures() -> None:
    choice, finals = _found()
    found = {row["target"]: row for row in published_targets(choice, finals, LIMITS)}
    assert {name: row["verdict"] for name, row in found.items()} == {
        "size / 4": "not met", "latency / 4": "met", "latency < 50 ms": "met", "throughput > 100 FPS": "met",
        "memory < 1 GB": "met",
    }  # fmt: skip
    assert found["size / 4"]["figure"] == pytest.approx(0.26)
    assert found["latency / 4"]["figure"] == pytest.approx(0.2)
    assert found["latency < 50 ms"]["figure"] == 8.0
    assert found["memory < 1 GB"]["bound"] == pytest.approx(953.67, abs=0.01)
    unknown = Finals((), None, None, 26, None)
    verdicts = [row["verdict"] for row in published_targets(choice, unknown, LIMITS)]
    assert verdicts == ["not measured", "not measured", "met", "not measured", "met"]


def test_a_human_reads_the_chosen_one_first_why_others_lost_and_the_targets() -> None:
    choice, _ = _found()
    made = table(choice.trials, choice.chosen)
    assert next(iter(made.columns[-1].cells)).endswith("(chosen)")
    assert all(line.startswith("lost: ") for line in losers(choice.trials, choice.chosen)[: made.row_count - 1])
    told = lines(_said())
    assert told[0].startswith("p50 4.00, p95 8.00, p99 8.00 ms (n=200")
    assert "published target size / 4: not met: 0.26 ratio" in told
    assert "left out: tensorrt: not installed: x" in told
    assert not [line for line in told if "paddle" in line]
