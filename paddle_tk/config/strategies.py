"""Names of ``trainer.strategy``, and what other frameworks call the same."""

from __future__ import annotations

STRATEGIES = ("ddp", "sharded")
# Beginnings of other frameworks' names -> what it is here.
_FOREIGN = {
    "deepspeed": "strategy: sharded with sharding_level: os_g (stage 2) or p_g_os (stage 3)",
    "fsdp": "strategy: sharded with sharding_level: p_g_os",
    "zero": "strategy: sharded with sharding_level: os (stage 1), os_g (stage 2) or p_g_os (stage 3)",
    "fairscale": "strategy: sharded",
    "colossalai": "strategy: sharded",
    "bagua": "strategy: ddp",
    "horovod": "strategy: ddp",
    "ddp_": "strategy: ddp",
    "dp": "strategy: ddp",
    "auto": "strategy: ddp",
}


def known_strategy(name: str) -> str:
    """Returns the strategy's name.

    Raises:
        ValueError: It is none of ours; another framework's plug-in is answered with what it is called here.
    """
    lowered = name.lower()
    if lowered in STRATEGIES:
        return lowered
    ours = next((ours for start, ours in _FOREIGN.items() if lowered.startswith(start)), None)
    if ours is not None:
        raise ValueError(f"'{name}' is another framework's plug-in: use {ours}")
    raise ValueError(f"must be {' or '.join(STRATEGIES)}, got '{name}'")
