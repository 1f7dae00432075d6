from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

from paddle_tk.commands.compare import main
from paddle_tk.config.load import configs_folder, load_config
from paddle_tk.errors import BadInput
from paddle_tk.evidence import read_evidence
from paddle_tk.pipelines.compare_candidates import candidates, effort_of, require_torch

CONFIG = str(configs_folder() / "compare" / "resnet18.yaml")
TINY = [
    *("trainer.limit_train_batches=3", "data.batch_size=16", "compare.curve_steps=10", "compare.train_steps=2"),
    *("compare.warmup_steps=1", "compare.inference_repeats=5", "compare.throughput_repeats=2", "compare.epochs=1"),
    *("compare.rounds=2", "compare.throughput_batch=4", "compare.target_accuracy=0.001", "trainer.cpu_threads=1"),
    *("quantize.samples=32", "quantize.latency_repeats=2", "quantize.min_agreement=0", "quantize.max_drop=1"),
]


@lru_cache(maxsize=1)
def _make(base: Path) -> Path:
    arguments = ["-c", CONFIG, "--output", str(base / "out"), "--quiet", *TINY, "decide.team=<script>alert(1)</script>"]
    assert main(arguments) == 0
    return base / "out"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole comparison, the smallest there is."""
    return _make(tmp_path_factory.mktemp("compare"))


def test_compare_writes_everything_and_leaves_nothing_else(compared: Path) -> None:
    found = {path.name for path in compared.iterdir()}
    assert found == {
        *("measurements.json", "decision.json", "report.html", "report.md", "report.json", "config.yaml", "plots")
    }
    assert [path.name for path in compared.parent.iterdir()] == ["out"]
    assert list((compared / "plots").glob("*.svg"))


def test_compare_measures_every_figure_of_every_option_with_unit_count_and_origin(compared: Path) -> None:
    evidence = read_evidence(compared / "measurements.json")
    assert [option.name for option in evidence.options] == ["paddle", "torch", "paddle-int8"]
    names = {
        *("training_throughput", "training_throughput_bare", "fit_overhead", "time_to_target", "final_accuracy"),
        *("inference_latency", "inference_throughput", "onnx_latency", "onnx_throughput", "peak_memory_training"),
        *("peak_memory_inference", "import_time", "cold_start", "installed_size", "onnx_export", "onnx_parity"),
        *("int8_available", "int8_latency_ratio", "int8_accuracy", "int8_size_ratio", "recipe_lines"),
    }
    for option in evidence.options:
        found = {f.measurement.name for f in evidence.figures if f.option == option.name}
        assert names <= found, f"{option.name} lacks {names - found}"
        for name in ("gpu_utilisation", "gpu_memory_share"):
            assert evidence.find(option.name, name) is None
            assert evidence.reason(option.name, name) != "no comparison measured it"
    assert all(f.measurement.unit and f.measurement.n >= 1 and f.measurement.origin for f in evidence.figures)
    assert evidence.parity["passed"] is True
    latency = evidence.find("torch", "inference_latency")
    assert latency is not None
    assert latency.n == len(latency.samples) == 10


def test_compare_gives_the_int8_option_its_own_inference_and_its_parents_training(compared: Path) -> None:
    evidence = read_evidence(compared / "measurements.json")
    parent, int8 = (evidence.find(name, "training_throughput") for name in ("paddle", "paddle-int8"))
    assert parent == int8
    latency, file = (evidence.find("paddle-int8", name) for name in ("inference_latency", "onnx_latency"))
    assert latency is not None
    assert file is not None
    assert latency.samples == file.samples
    assert latency.conditions["precision"] == "int8"
    pairs = {(c.a, c.b, c.name) for c in evidence.comparisons}
    assert ("paddle", "torch", "training_throughput") in pairs
    assert ("paddle", "paddle-int8", "training_throughput") not in pairs
    assert ("torch", "paddle-int8", "training_throughput") not in pairs


def test_compare_weighs_what_it_measured_and_repeats_itself_by_its_own_config(compared: Path) -> None:
    decision = json.loads((compared / "decision.json").read_text())
    assert {option["name"] for option in decision["options"]} == {"paddle", "torch", "paddle-int8"}
    assert all(option["score"] is not None for option in decision["options"])
    assert decision["weights"]["team_familiarity"] == 0.3
    again = load_config(compared / "config.yaml").config
    assert again.compare.curve_steps == 10
    assert again.decide.familiarity == {"paddle": 3, "torch": 3}


def test_compare_shows_a_team_name_as_text_when_it_is_markup(compared: Path) -> None:
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_a_quick_comparison_takes_its_speed_from_the_training_to_the_end(tmp_path: Path) -> None:
    few = [*TINY, "trainer.limit_train_batches=12", "compare.options=[paddle, torch]"]
    assert main(["-c", CONFIG, "--output", str(tmp_path / "out"), "--quiet", "--quick", *few]) == 0
    evidence = read_evidence(tmp_path / "out" / "measurements.json")
    for name in ("paddle", "torch"):
        speed = evidence.find(name, "training_throughput")
        assert speed is not None
        assert (speed.n, len(speed.conditions["per_round_median"])) == (8, 2)
        assert "--quick" in str(evidence.reason(name, "fit_overhead"))
        assert evidence.find(name, "onnx_latency") is not None
    assert "training_throughput" in {pair.name for pair in evidence.comparisons}


def _refused(capsys: pytest.CaptureFixture[str], output: Path, *items: str) -> tuple[int, str]:
    code = main(["-c", CONFIG, "--output", str(output), "--quiet", *TINY, *items])
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1, told
    assert not output.exists()
    assert not list(output.parent.glob(".tmp-*"))
    return code, told


def test_compare_gives_no_verdict_when_parity_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _refused(capsys, tmp_path / "out", "compare.parity_tolerance=1e-12")
    assert code == 1
    assert "parity failed, so nothing is compared" in told


def test_compare_gives_no_verdict_when_a_process_takes_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = _refused(capsys, tmp_path / "out", "compare.timeout_seconds=0.2")
    assert code == 1
    assert "gave no answer within" in told


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (["model=vgg11"], "has no twin in torch"),
        (["trainer.ema_decay=0.9"], "trainer.ema_decay=0.9 cannot be compared fairly"),
        (["compare.options=[paddle]"], "at least 2"),
        (["compare.options=[paddle, jax]"], "jax"),
        (["compare.torch_python=/no/such/python"], "/no/such/python is no file"),
        (["data.batch_size=100000"], "data.batch_size"),
        (["decide.weights={performance: 0.4}"], "must sum to 1"),
    ],
)
def test_compare_refuses_with_one_line_when_the_config_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], items: list[str], told: str
) -> None:
    code, line = _refused(capsys, tmp_path / "out", *items)
    assert code == 2
    assert told in line


def test_compare_keeps_a_folder_that_holds_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["-c", CONFIG, "--output", str(tmp_path)]) == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_candidates_are_numbered_when_an_option_is_compared_with_itself() -> None:
    assert [(c.name, c.framework, c.base) for c in candidates(["paddle", "paddle"])] == [
        ("paddle-1", "paddle", "paddle-1"),
        ("paddle-2", "paddle", "paddle-2"),
    ]
    assert [(c.name, c.precision, c.base) for c in candidates(["torch", "paddle-int8"])] == [
        ("torch", "fp32", "torch"),
        ("paddle-int8", "int8", "paddle"),
    ]


def test_quick_effort_is_less_of_everything_and_never_more_than_asked_for() -> None:
    config = load_config(Path(CONFIG), ["compare.rounds=2", "compare.epochs=1"]).config
    whole = effort_of(load_config(Path(CONFIG)).config, threads=2, device="cpu", quick=False)
    quick = effort_of(load_config(Path(CONFIG)).config, threads=2, device="cpu", quick=True)
    assert quick.rounds < whole.rounds
    assert quick.epochs < whole.epochs
    assert whole.timed_phases == ("inference", "bare", "fit")
    assert quick.timed_phases == ("inference",)
    assert quick.curve_steps > 10
    assert effort_of(config, threads=2, device="cpu", quick=True).rounds == 2


def test_effort_refuses_when_the_other_interpreter_is_not_there() -> None:
    config = load_config(Path(CONFIG), ["compare.torch_python=/no/such/python"]).config
    with pytest.raises(BadInput, match="is no file"):
        effort_of(config, threads=1, device="cpu", quick=False)


def test_compare_refuses_when_torch_is_wanted_and_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddle_tk.pipelines.compare_candidates.find_spec", lambda name: None)
    effort = effort_of(load_config(Path(CONFIG)).config, threads=1, device="cpu", quick=False)
    require_torch(candidates(["paddle", "paddle"]), effort)
    with pytest.raises(BadInput, match=r"not both installed.*compare\.torch_python"):
        require_torch(candidates(["paddle", "torch"]), effort)
