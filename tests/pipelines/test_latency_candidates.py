from __future__ import annotations

from pathlib import Path

from paddle_tk.pipelines.latency_candidates import (
    BATCHES,
    Settings,
    combined,
    core_order,
    for_rate,
    other_threads,
    refinements,
    starters,
    thread_counts,
)
from tests.pipelines.latency_table import model_file


def test_thread_counts_are_powers_of_two_up_to_all_cores() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 3, 6, 8)] == [
        (1,), (1, 2), (1, 2, 3), (1, 2, 4, 6), (1, 2, 4, 8),
    ]  # fmt: skip


def test_threads_are_put_on_separate_cores_first(tmp_path: Path) -> None:
    for cpu, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert core_order((0, 1, 2, 3), tmp_path) == (3, 2, 1, 0)
    assert core_order((1, 2, 3), tmp_path) == (3, 2, 1)
    (tmp_path / "cpu2" / "topology" / "thread_siblings_list").write_text("2,3")
    (tmp_path / "cpu3" / "topology" / "thread_siblings_list").write_text("2,3")
    assert core_order((0, 1, 2, 3), tmp_path) == (3, 1, 0, 2)
    assert core_order((0, 1), tmp_path / "missing") == (1, 0)


def test_starters_are_every_engine_with_all_cores_and_openvino_in_both_arithmetics() -> None:
    made = [start.settings for start in starters(model_file("fp32", ("onnxruntime", "openvino", "tensorrt")), 4)]
    assert [(own.engine, own.arithmetic, own.threads) for own in made] == [
        ("onnxruntime", "", 4), ("openvino", "default", 4), ("openvino", "fp32", 4), ("tensorrt", "", 1),
    ]  # fmt: skip
    counts = [[other.settings.threads for other in other_threads(start, 4)] for start in
              starters(model_file("fp32", ("onnxruntime", "tensorrt")), 4)]  # fmt: skip
    assert counts == [[1, 2], []]


def test_refinements_change_one_setting_each_and_fit_the_engine() -> None:
    ort, openvino = starters(model_file("fp32", ("onnxruntime", "openvino")), 2)[:2]
    for best, expected in ((ort, 5), (openvino, 1)):
        made = refinements(best, (1, 0))
        assert len(made) == expected
        for other in made:
            plain, changed = best.settings.to_dict(), other.settings.to_dict()
            assert sum(plain[key] != changed[key] for key in plain) == 1
    one = ort.changed(threads=1)
    pinned = [c.settings for c in refinements(one, (1, 0)) if c.settings.affinity]
    assert [(own.affinity, own.options()) for own in pinned] == [
        ((1,), {"graph_optimization": "all", "preallocate": False})
    ]
    assert not [c for c in refinements(one, (1, 0)) if c.settings.spinning is not None]
    assert refinements(ort.changed(in_flight=2), (1, 0))
    assert not [c for c in refinements(ort.changed(in_flight=2), (1, 0)) if c.settings.preallocate]


def test_helpful_changes_are_combined_and_the_better_value_of_a_setting_counts() -> None:
    best = starters(model_file("fp32", ("onnxruntime",)), 2)[0]
    better = [best.changed(graph_optimization="basic"), best.changed(preallocate=True),
              best.changed(graph_optimization="extended")]  # fmt: skip
    together = combined(best, better)
    assert together is not None
    assert (together.settings.graph_optimization, together.settings.preallocate) == ("basic", True)
    assert combined(best, better[:1]) is None
    assert combined(best, []) is None


def test_a_rate_is_tried_with_batches_that_files_exist_for_and_with_several_in_flight() -> None:
    files = [model_file("fp32", ("openvino",), batch=size, function="f") for size in (1, *BATCHES)]
    other = model_file("int8", ("openvino",), batch=4, function="g")
    start = starters(files[0], 2)[0]
    made = for_rate(start, [*files, other], 2)
    assert [(c.settings.batch_size, c.model.batch_size, c.model.precision) for c in made[:-1]] == [
        (size, size, "fp32") for size in BATCHES
    ]
    flying = made[-1].settings
    assert (flying.in_flight, flying.streams, flying.threads) == (2, 2, 2)
    alone = for_rate(starters(model_file("fp32", ("onnxruntime",)), 1)[0], [], 1)
    assert [(c.settings.in_flight, c.settings.threads) for c in alone] == [(2, 1)]


def test_options_are_those_of_the_engines_predictor() -> None:
    ort = Settings("onnxruntime", "int8", (64, 64), 2, (3, 1), "extended", spinning=False, preallocate=True)
    assert ort.options() == {
        "graph_optimization": "extended", "preallocate": True, "spinning": False, "affinity": [1],
    }  # fmt: skip
    openvino = Settings("openvino", "int8", (64, 64), 2, arithmetic="fp32", streams=2)
    assert openvino.options() == {"precision": "fp32", "streams": 2, "preallocate": False}
    assert Settings("paddle", "fp32", (64, 64)).options() == {}
    assert ort.told() == (
        "onnxruntime int8 64x64, 2 threads, on CPU 3,1, extended optimisation, preallocated, no spinning"
    )
    assert ort.extras == 4
    assert ort.to_dict()["affinity"] == [3, 1]
