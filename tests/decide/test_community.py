from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddle_tk.decide import community
from paddle_tk.decide.community import community_scores, load_community
from paddle_tk.errors import BadInput
from tests.decide.cases import PADDLE, PADDLE_INT8, TORCH

SOURCE = "https://example.org/figures"


def _entry(value: float | None) -> dict[str, Any]:
    return {"value": value, "date": "2025-10-30", "source": SOURCE}


def _raw() -> dict[str, Any]:
    return {
        "factor_per_point": 4,
        "figures": {
            "stars": {
                "what": "Stars", "unit": "stars", "weight": 0.75,
                "frameworks": {"paddle": _entry(1000), "torch": _entry(4000)},
            },
            "answer_time": {
                "what": "Median time to the first answer", "unit": "h", "weight": 0.25, "better": "lower",
                "frameworks": {"paddle": _entry(2), "torch": _entry(32)},
            },
        },
    }  # fmt: skip


def _write(folder: Path, raw: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_score_loses_a_point_for_every_factor_that_the_file_names(tmp_path: Path) -> None:
    paddle, torch = community_scores(load_community(_write(tmp_path, _raw())), (PADDLE, TORCH))
    assert paddle.value == pytest.approx(0.75 * 4 + 0.25 * 5, abs=1e-12)
    assert torch.value == pytest.approx(0.75 * 5 + 0.25 * 3, abs=1e-12)
    assert "0.75 x 4 [stars 1,000 stars, 2025-10-30: 5 - log4(4,000 / 1,000)]" in paddle.formula
    assert all(m.origin == "cited" and m.conditions["source"] == SOURCE for m in paddle.evidence)
    assert paddle.evidence[0].conditions["date"] == "2025-10-30"


def test_score_does_not_change_when_the_largest_framework_is_not_an_option() -> None:
    shipped = load_community()
    together = community_scores(shipped, (PADDLE, TORCH))[0]
    assert community_scores(shipped, (PADDLE, PADDLE_INT8))[0] == together


def test_options_of_one_framework_score_the_same() -> None:
    fp32, int8 = community_scores(load_community(), (PADDLE, PADDLE_INT8))
    assert fp32.value == int8.value


def test_a_figure_without_a_source_widens_the_score_of_both(tmp_path: Path) -> None:
    raw = _raw()
    raw["figures"]["stars"]["frameworks"]["torch"] = {"value": None}
    paddle, torch = community_scores(load_community(_write(tmp_path, raw)), (PADDLE, TORCH))
    assert (torch.value, torch.low, torch.high) == (None, pytest.approx(0.75), pytest.approx(4.5))
    assert (paddle.value, paddle.low, paddle.high) == (None, pytest.approx(1.25), pytest.approx(5.0))
    assert torch.missing[0].startswith("stars (no sourced value for torch in")
    assert paddle.missing[0].startswith("stars of torch (no sourced value in")


def test_a_framework_that_is_not_in_the_file_has_an_open_score(tmp_path: Path) -> None:
    raw = _raw()
    for figure in raw["figures"].values():
        del figure["frameworks"]["torch"]
    paddle, torch = community_scores(load_community(_write(tmp_path, raw)), (PADDLE, TORCH))
    assert (torch.low, torch.high) == (0.0, 5.0)
    assert paddle.value == 5.0


def test_every_shipped_figure_is_dated_sourced_and_known_for_both_frameworks() -> None:
    shipped = load_community()
    assert math.fsum(f.weight for f in shipped.figures) == pytest.approx(1)
    for figure in shipped.figures:
        assert set(figure.values) == {"paddle", "torch"}
        for measurement in figure.values.values():
            assert measurement is not None
            assert measurement.unit == figure.unit
            assert measurement.conditions["source"].startswith("https://")
            assert measurement.conditions["date"] == "2025-10-30"


def test_the_shipped_file_can_be_copied_and_edited(tmp_path: Path) -> None:
    text = Path(community.__file__).with_name("community.yaml").read_text(encoding="utf-8")
    path = tmp_path / "copy.yaml"
    path.write_text(text.replace("value: 23363", "value: 94399"), encoding="utf-8")
    before, after = (community_scores(c, (PADDLE,))[0].value for c in (load_community(), load_community(path)))
    assert before is not None
    assert after is not None
    assert after > before


def _set(*keys: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = to

    return change


STARS = ("figures", "stars")
TORCH_STARS = (*STARS, "frameworks", "torch")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("factor_per_point", to=1), r"factor_per_point: .* greater than 1, got 1"),
        (_set("figures", to={}), r"figures: .*at least 1 item"),
        (_set(*STARS, "weight", to=0.5), r"weights of the figures must sum to 1, they sum to 0\.75"),
        (_set(*STARS, "weight", to="much"), r"figures\.stars\.weight: .*got 'much'"),
        (_set(*STARS, "wieght", to=1), r"figures\.stars\.wieght: Extra inputs are not permitted, got 1"),
        (_set(*STARS, "better", to="more"), r"figures\.stars\.better: .*got 'more'"),
        (_set(*STARS, "unit", to=""), r"figures\.stars\.unit: .*got ''"),
        (_set(*TORCH_STARS, "value", to=-3), r"figures\.stars\.frameworks\.torch\.value: .*got -3"),
        (_set(*TORCH_STARS, "value", to=True), r"torch\.value: .*got True"),
        (_set(*TORCH_STARS, "value", to=math.inf), r"torch\.value: .*got inf"),
        (_set(*TORCH_STARS, "date", to="last year"), r"torch\.date: .*got 'last year'"),
        (_set(*TORCH_STARS, "source", to="javascript:alert(1)"), r"torch\.source: .*got 'javascript"),
        (_set(*TORCH_STARS, to={"value": 3}), r"frameworks\.torch: a value needs its date and its source"),
        (_set(*TORCH_STARS, to={"date": "2025-10-30"}), r"frameworks\.torch\.value: Field required"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_key_and_value(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    raw = copy.deepcopy(_raw())
    change(raw)
    path = _write(tmp_path, raw)
    with pytest.raises(BadInput, match=told) as caught:
        load_community(path)
    assert str(path) in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"figures: [", b"\xff\xfe\x00", b"", b"- 1\n"])
def test_a_file_of_another_kind_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.yaml") as caught:
        load_community(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml cannot be read"):
        load_community(tmp_path / "none.yaml")
