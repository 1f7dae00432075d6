from __future__ import annotations

import gc

import pytest

from paddle_tk.runtime.timing import sample_ms


def test_samples_are_one_per_repeat_and_collection_goes_on_afterwards_when_the_call_fails_or_not() -> None:
    calls = []
    samples = sample_ms(lambda: calls.append(gc.isenabled()), repeats=4, warmup=2)
    assert len(samples) == 4
    assert min(samples) >= 0
    assert calls == [True, True, False, False, False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        sample_ms(lambda: 1 / 0, repeats=1, warmup=0)
    assert gc.isenabled()


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 1), (1, -1)])
def test_sampling_refuses_when_nothing_would_be_timed(repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="repeats >= 1 and warmup >= 0"):
        sample_ms(lambda: None, repeats=repeats, warmup=warmup)
