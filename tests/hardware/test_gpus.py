from __future__ import annotations

import pytest
from pydantic import ValidationError

from paddle_tk.hardware.gpus import GpuTable, load_gpus, named_memory

# The list.
WANTED = {"rtx3060-8gb", "rtx3060-12gb", "rtx4090", "t4", "a100-40gb", "a100-80gb", "h100", "jetson-nano",
          "jetson-xavier-nx", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin"}  # fmt: skip


def test_table_names_every_gpu_and_cites_every_figure() -> None:
    table = load_gpus()
    assert set(table.gpus) >= WANTED
    assert all(source.url.startswith("https://") for source in table.sources.values())
    assert {name for name, gpu in table.gpus.items() if gpu.shared} == {n for n in table.gpus if "jetson" in n}
    assert table.overhead.total_mb == table.overhead.context_mb.value + table.overhead.workspace_mb.value


def test_a_memory_of_the_users_own_comes_last() -> None:
    *_, (name, gpu) = named_memory(10.5).items()
    assert (name, gpu.memory_mb) == ("10.5gb", 10.5 * 1024)
    assert list(named_memory()) == list(load_gpus().gpus)


def test_a_figure_without_source_is_refused() -> None:
    raw = load_gpus().model_dump()
    raw["gpus"]["t4"]["source"] = "hearsay"
    with pytest.raises(ValidationError, match="hearsay"):
        GpuTable.model_validate(raw)
