from __future__ import annotations

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.registry import Registry


def _registry() -> Registry:
    registry = Registry("thing")
    registry.add("resnet18", "collections:OrderedDict")
    registry.add("lazy", "no.such.module:nothing")
    return registry


def test_load_imports_what_is_asked_for_and_nothing_else() -> None:
    from collections import OrderedDict

    assert _registry().load("resnet18") is OrderedDict


def test_load_lists_names_and_the_closest_when_unknown() -> None:
    with pytest.raises(
        BadInput, match=r"unknown thing 'resnet81'\. Fix: did you mean 'resnet18'\? known: lazy, resnet18"
    ):
        _registry().load("resnet81")


def test_add_refuses_a_name_twice() -> None:
    registry = _registry()
    with pytest.raises(ValueError, match="duplicate thing name 'lazy'"):
        registry.add("lazy", "a:b")


def test_add_refuses_a_target_without_attribute() -> None:
    with pytest.raises(ValueError, match="module:attribute"):
        _registry().add("x", "module")
