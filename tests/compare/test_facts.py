from __future__ import annotations

import pytest

from paddle_tk.compare.facts import installed_mib
from paddle_tk.errors import CheckFailed


def test_installed_size_counts_what_a_distribution_needs_when_it_is_installed() -> None:
    alone, names = installed_mib(["numpy"])
    both, more = installed_mib(["numpy", "scipy"])
    assert names == ("numpy",)
    assert set(more) == {"numpy", "scipy"}
    assert 5 < alone < both
    assert installed_mib(["scipy"]) == installed_mib(["scipy", "numpy", "SciPy"])


def test_installed_size_refuses_when_a_framework_is_not_installed() -> None:
    with pytest.raises(CheckFailed, match="no-such-framework is not installed"):
        installed_mib(["no-such-framework"])
