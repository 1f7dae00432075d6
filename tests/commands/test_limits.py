from __future__ import annotations

import argparse

import pytest

from paddle_tk.commands.limits import (
    add_limit_options,
    limits_of,
    parse_cpu,
    parse_latency,
    parse_memory,
    parse_names,
    parse_percent,
    parse_rate,
    parse_sizes,
)


@pytest.mark.parametrize(
    ("text", "ms"), [("50ms", 50), ("0.05s", 50), ("50", 50), (" 12.5 ms ", 12.5), ("500us", 0.5), (".5S", 500)]
)
def test_latency_is_read_in_ms(text: str, ms: float) -> None:
    assert parse_latency(text) == pytest.approx(ms)


@pytest.mark.parametrize(
    ("text", "mib"),
    [("1GB", 953.674), ("1GiB", 1024), ("512MiB", 512), ("512mb", 488.281), ("512", 488.281), ("1048576B", 1)],
)
def test_memory_is_read_in_mib(text: str, mib: float) -> None:
    assert parse_memory(text) == pytest.approx(mib, abs=0.001)


def test_rates_shares_sizes_and_names_are_read() -> None:
    assert (parse_rate("100"), parse_rate("29.5 fps")) == (100, 29.5)
    assert (parse_cpu("50%"), parse_cpu("100")) == (0.5, 1.0)
    assert (parse_percent("0"), parse_percent("12.5%")) == (0.0, 0.125)
    assert parse_sizes("64x48, 32,32x32") == ((64, 48), (32, 32))
    assert parse_names("openvino, onnxruntime,openvino") == ("openvino", "onnxruntime")


@pytest.mark.parametrize("text", ["", "ms", "0", "0ms", "-5ms", "5 min", "5msec", "nan", "inf", "1e3"])
def test_a_latency_that_makes_no_sense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 50ms"):
        parse_latency(text)


def test_other_values_that_make_no_sense_are_refused() -> None:
    wrong = (
        (parse_memory, "1TB"), (parse_rate, "0"), (parse_cpu, "101"), (parse_cpu, "0"), (parse_percent, "100"),
        (parse_percent, "-1"), (parse_sizes, "4x4"), (parse_names, "a,,b"),
    )  # fmt: skip
    for parse, text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="must be"):
            parse(text)


def _limits(*options: str) -> object:
    parser = argparse.ArgumentParser()
    add_limit_options(parser)
    return limits_of(parser.parse_args(options))


def test_limits_are_none_unless_one_is_given() -> None:
    assert _limits("--margin", "5", "--input-sizes", "64") is None
    found = _limits("--target-latency", "50ms", "--max-memory", "512MiB", "--max-cpu", "50", "--percentile", "99")
    assert vars(found) == {
        "target_latency_ms": 50.0, "percentile": 99, "min_fps": None, "max_memory_mib": 512.0, "max_cpu_share": 0.5,
        "margin": 0.1, "max_drop": 0.01, "same_accuracy": 0.001,
    }  # fmt: skip
