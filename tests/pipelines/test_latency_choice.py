from __future__ import annotations

from collections.abc import Callable

import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.pipelines.latency_bench import Accuracy
from paddle_tk.pipelines.latency_candidates import ModelFile, Settings
from paddle_tk.pipelines.latency_choice import Choice, Search
from paddle_tk.pipelines.latency_limits import LatencyLimits
from tests.pipelines.latency_table import CORES, Row, TableBench, model_file

FP32 = model_file("fp32", ("onnxruntime", "openvino"))
INT8 = model_file("int8", ("onnxruntime", "openvino"))
GIVEN = Accuracy(0.9, 1000)


def _machine(settings: Settings) -> Row:
    """ONNX Runtime 20 ms, INT8 8 ms; OpenVINO 12 ms, bf16 6 ms, INT8 4 ms; two threads take 0.6 of one."""
    fp32 = settings.precision == "fp32"
    if settings.engine == "onnxruntime":
        ms = 20.0 if fp32 else 8.0
    else:
        ms = {(True, "fp32"): 12.0, (True, "default"): 6.0}.get((fp32, settings.arithmetic), 4.0)
    top1 = 0.9 if fp32 and settings.arithmetic != "default" else 0.897 if fp32 else 0.894
    return Row(
        ms if settings.threads == 1 else 0.6 * ms, top1, peak_mib=80 if settings.engine == "onnxruntime" else 150
    )


def _search(
    limits: LatencyLimits,
    row_of: Callable[[Settings], Row] = _machine,
    models: tuple[ModelFile, ...] = (FP32, INT8),
    *,
    allow_slow: bool = False,
) -> tuple[Choice, TableBench]:
    bench = TableBench(row_of)
    return Search(bench, limits, CORES, (1, 0), allow_slow).run(models, GIVEN), bench


def _reason(choice: Choice, **wanted: object) -> str:
    found = [
        trial for trial in choice.trials
        if all(getattr(trial.candidate.settings, key) == value for key, value in wanted.items())
    ]  # fmt: skip
    assert found
    return found[0].reason


def test_the_most_accurate_candidate_is_taken_even_where_others_are_quicker() -> None:
    choice, _ = _search(LatencyLimits(target_latency_ms=50))
    own = choice.chosen.candidate.settings
    assert (own.engine, own.precision, own.arithmetic, own.threads) == ("openvino", "fp32", "fp32", 2)
    assert "less accurate: 0.8940 against 0.9000 (n=1000)" in _reason(choice, precision="int8", engine="openvino")


@pytest.mark.parametrize(
    ("target", "expected"),
    [(9.0, ("openvino", "fp32", "fp32")), (5.0, ("openvino", "fp32", "default")), (3.2, ("openvino", "int8", ""))],
)
def test_less_accurate_candidates_are_taken_as_the_limit_gets_tighter(
    target: float,
    expected: tuple[str, str, str],
) -> None:
    choice, _ = _search(LatencyLimits(target_latency_ms=target))
    own = choice.chosen.candidate.settings
    assert (own.engine, own.precision) == expected[:2]
    assert own.precision == "int8" or own.arithmetic == expected[2]
    assert choice.chosen.figures(95).latency_ms <= 0.9 * target
    assert all(trial.reason for trial in choice.trials if trial is not choice.chosen)
    assert not choice.chosen.reason


def test_equally_accurate_candidates_are_told_apart_by_latency() -> None:
    def equal(settings: Settings) -> Row:
        return Row(_machine(settings).ms, 0.9 if settings.precision == "fp32" else 0.8995)

    choice, _ = _search(LatencyLimits(target_latency_ms=50), equal)
    own = choice.chosen.candidate.settings
    assert (own.engine, own.precision, own.threads) == ("openvino", "int8", 2)
    assert "equally accurate and slower" in _reason(choice, engine="openvino", arithmetic="default", threads=2)


def test_plain_settings_are_taken_where_special_ones_bring_next_to_nothing() -> None:
    def hardly(settings: Settings) -> Row:
        return Row(10.0 - 0.2 * settings.extras)

    choice, _ = _search(LatencyLimits(target_latency_ms=50), hardly, (model_file("fp32", ("onnxruntime",)),))
    assert choice.chosen.candidate.settings.extras == 0
    assert "hardly quicker" in _reason(choice, preallocate=True)


def test_helpful_settings_are_combined() -> None:
    def helped(settings: Settings) -> Row:
        slow = 1.0 if settings.preallocate else 1.5
        return Row(10.0 * slow * (1.0 if settings.graph_optimization == "extended" else 1.4))

    choice, _ = _search(LatencyLimits(target_latency_ms=50), helped, (model_file("fp32", ("onnxruntime",)),))
    own = choice.chosen.candidate.settings
    assert (own.preallocate, own.graph_optimization, own.spinning, own.affinity) == (True, "extended", None, ())


def test_the_limit_holds_at_its_percentile_and_with_its_margin() -> None:
    def long_tail(settings: Settings) -> Row:
        row = _machine(settings)
        return Row(row.ms, row.top1, tail=3.0 if settings.precision == "fp32" else 1.0)

    choice, _ = _search(LatencyLimits(target_latency_ms=20), long_tail)
    assert choice.chosen.candidate.settings.arithmetic == "default"
    assert "p95 21.6 ms (n=120) above 18 (20 with a margin of 10 %) ms" in _reason(
        choice, engine="openvino", arithmetic="fp32", precision="fp32", threads=2, preallocate=False, affinity=()
    )
    median, _ = _search(LatencyLimits(target_latency_ms=20, percentile=50), long_tail)
    assert median.chosen.candidate.settings.arithmetic == "fp32"
    tight, _ = _search(LatencyLimits(target_latency_ms=7.5, margin=0.0))
    assert tight.chosen.candidate.settings.arithmetic == "fp32"
    free, _ = _search(LatencyLimits(target_latency_ms=7.5, margin=0.1))
    assert free.chosen.candidate.settings.arithmetic == "default"


def test_a_candidate_that_fails_alone_loses_to_the_next() -> None:
    def moody(settings: Settings) -> Row:
        row = _machine(settings)
        return Row(row.ms, row.top1, alone_ms=100.0 if settings.arithmetic == "fp32" else None)

    choice, bench = _search(LatencyLimits(target_latency_ms=50), moody)
    assert choice.chosen.candidate.settings.engine == "onnxruntime"
    assert "p95 100 ms (n=200) above 45" in _reason(choice, arithmetic="fp32", precision="fp32", threads=2)
    assert len(bench.alone) > 1


def test_accuracy_below_the_allowed_drop_rules_a_candidate_out_whatever_its_speed() -> None:
    limits = LatencyLimits(target_latency_ms=3.2, max_drop=0.005)
    with pytest.raises(CheckFailed) as caught:
        _search(limits)
    assert caught.value.exit_code == 1
    assert "the closest is openvino fp32" in caught.value.problem


def test_the_closest_candidate_is_told_with_careful_figures_when_nothing_fits() -> None:
    bench = TableBench(_machine)
    with pytest.raises(CheckFailed) as caught:
        Search(bench, LatencyLimits(target_latency_ms=0.01), CORES, (1, 0)).run((FP32, INT8), GIVEN, ("try that",))
    told = str(caught.value)
    assert told.startswith("no candidate keeps p95 <= 0.01 ms: the closest is openvino int8 64x64, 2 threads")
    assert "p50 2.4, p95 2.4, p99 2.4 ms, n=120" in told
    assert "--input-sizes" in told
    assert told.endswith("try that")
    assert len(bench.careful) == 2
    assert not bench.alone
    assert not bench.evaluated  # nothing to choose between


def test_the_margin_is_named_when_only_it_is_in_the_way() -> None:
    with pytest.raises(CheckFailed, match="it fits without the margin of 10 %: --margin 0"):
        _search(LatencyLimits(target_latency_ms=2.5))


def test_memory_limit_prefers_the_engine_that_keeps_it() -> None:
    choice, _ = _search(LatencyLimits(max_memory_mib=100))
    assert choice.chosen.candidate.settings.engine == "onnxruntime"
    assert "peak memory 150 MiB above 100 MiB" in _reason(choice, engine="openvino")
    with pytest.raises(CheckFailed, match="peak memory 80 MiB above 50 MiB"):
        _search(LatencyLimits(max_memory_mib=50))


def test_cpu_limit_leads_to_fewer_threads() -> None:
    choice, _ = _search(LatencyLimits(max_cpu_share=0.6))
    assert choice.chosen.candidate.settings.threads == 1
    assert "CPU 100 % above 60 %" in _reason(choice, engine="openvino", threads=2)


def test_a_rate_is_reached_by_several_batches_in_flight() -> None:
    def machine(settings: Settings) -> Row:
        ms = 10.0 if settings.precision == "fp32" else 9.0
        return Row(ms, rate=(1e3 / ms) * (1.8 if settings.in_flight > 1 else 1.0))

    choice, _ = _search(LatencyLimits(min_fps=150), machine)
    own = choice.chosen.candidate.settings
    assert own.in_flight == 2
    assert (own.streams if own.engine == "openvino" else 2) == 2
    assert "images/s below 150" in _reason(choice, in_flight=1)


def test_larger_batches_are_tried_only_for_a_rate_and_where_files_for_them_exist() -> None:
    files = (
        model_file("fp32", ("onnxruntime",), function="f"),
        model_file("fp32", ("onnxruntime",), batch=16, function="f"),
    )

    def machine(settings: Settings) -> Row:
        return Row(10.0 if settings.batch_size == 1 else 40.0)

    choice, bench = _search(LatencyLimits(min_fps=300), machine, files)
    assert choice.chosen.candidate.settings.batch_size == 16
    assert {settings.batch_size for settings in bench.screened} == {1, 16}
    _, bench = _search(LatencyLimits(target_latency_ms=20), machine, files)
    assert {settings.batch_size for settings in bench.screened} == {1}


def test_int8_that_is_slower_than_fp32_is_dropped_unless_it_is_allowed() -> None:
    def slow(settings: Settings) -> Row:
        return Row(10.0 if settings.precision == "fp32" else 14.0, 0.9 if settings.precision == "fp32" else 0.93)

    files = (model_file("fp32", ("onnxruntime",)), model_file("int8", ("onnxruntime",)))
    choice, _ = _search(LatencyLimits(target_latency_ms=50), slow, files)
    assert choice.chosen.candidate.settings.precision == "fp32"
    assert "slower than FP32 in the same engine: p50 14 (n=7) against 10 ms" in _reason(choice, precision="int8")
    choice, _ = _search(LatencyLimits(target_latency_ms=50), slow, files, allow_slow=True)
    assert choice.chosen.candidate.settings.precision == "int8"


def test_an_engine_far_behind_is_not_tried_with_other_settings() -> None:
    def machine(settings: Settings) -> Row:
        return Row(100.0 if settings.engine == "paddle" else 5.0)

    files = (model_file("fp32", ("onnxruntime",)), model_file("fp32", ("paddle",), batch=None))
    choice, bench = _search(LatencyLimits(target_latency_ms=50), machine, files)
    assert [settings.threads for settings in bench.screened if settings.engine == "paddle"] == [2]
    assert "more than 3 times as slow as onnxruntime fp32 64x64, 2 threads" in _reason(choice, engine="paddle")
    _, bench = _search(LatencyLimits(target_latency_ms=500, max_cpu_share=0.5), machine, files)
    assert 1 in [settings.threads for settings in bench.screened if settings.engine == "paddle"]


def test_a_candidate_that_cannot_be_timed_is_told_and_the_others_go_on() -> None:
    def broken(settings: Settings) -> Row:
        return Row(None) if settings.engine == "openvino" else _machine(settings)

    choice, _ = _search(LatencyLimits(target_latency_ms=50), broken)
    assert choice.chosen.candidate.settings.engine == "onnxruntime"
    assert _reason(choice, engine="openvino") == "failed: it cannot be loaded"
    with pytest.raises(CheckFailed, match=r"no candidate can be used: .*it cannot be loaded"):
        _search(LatencyLimits(target_latency_ms=50), lambda settings: Row(None))


def test_screening_lets_few_candidates_of_a_kind_through_and_stops_measuring_at_the_first_that_fits() -> None:
    _, bench = _search(LatencyLimits(target_latency_ms=50))
    assert len(bench.careful) <= 4 < len(bench.screened)
    assert len(bench.alone) == 1
    assert len(bench.screened) == len(set(bench.screened))


def test_without_labelled_images_only_what_computes_the_same_is_taken() -> None:
    unlabelled = Accuracy(None, 0)

    def machine(settings: Settings) -> Row:
        return Row(_machine(settings).ms, None)

    bench = TableBench(machine)
    choice = Search(bench, LatencyLimits(target_latency_ms=50), CORES, (1, 0)).run((FP32,), unlabelled)
    assert choice.chosen.candidate.settings.arithmetic == "default"
    with pytest.raises(CheckFailed, match="its outputs differ from the given model's"):
        Search(TableBench(machine, same=False), LatencyLimits(target_latency_ms=50), CORES, (1, 0)).run(
            (FP32,), unlabelled
        )
