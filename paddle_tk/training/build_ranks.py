"""Config -> how the processes of a job share the work: batches, first weights, what must be the same in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.shares import Share, divide
from paddle_tk.errors import BadInput
from paddle_tk.models.sync_batch_norm import use_sync_batch_norm
from paddle_tk.training.agreement import agreed
from paddle_tk.training.checkpoint import recorded_batch
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.run_folder import CHECKPOINTS
from paddle_tk.training.sharding import Sharding, check_sharding
from paddle_tk.training.together import Together


@dataclass(frozen=True)
class Batches:
    """The batches of a run.

    Attributes:
        share: This process's part of them.
        accumulate: How many make an update.
    """

    share: Share
    accumulate: int

    @property
    def images(self) -> int:
        """Images of a full batch, all processes together."""
        return self.share.whole


def share_batches(config: Config, folder: Path, parallel: Parallel | None, output: Output) -> Batches:
    """Returns the batches: those of the run's checkpoints where there are any, however many processes it has now.

    Raises:
        BadInput: ``trainer.rank_batch_sizes`` is for another number of processes.
    """
    recorded = agreed(parallel, lambda: recorded_batch(folder / CHECKPOINTS))
    world, rank = (1, 0) if parallel is None else (parallel.world, parallel.rank)
    wanted = _wanted_sizes(config, world, bool(recorded))
    if not recorded:
        return Batches(Share(rank, wanted), config.trainer.accumulate_grad_batches)
    sizes = wanted if sum(wanted) == sum(recorded["sizes"]) else divide(sum(recorded["sizes"]), wanted)
    if sizes != tuple(recorded["sizes"]):
        output.say(
            f"the batch stays at {sum(sizes)} images: {_told(recorded['sizes'])} before, {_told(sizes)} from here on"
        )
    return Batches(Share(rank, sizes), int(recorded["accumulate"]))


def _wanted_sizes(config: Config, world: int, resumed: bool) -> tuple[int, ...]:
    sizes = config.trainer.rank_batch_sizes
    if isinstance(sizes, list):
        if len(sizes) == world:
            return tuple(sizes)
        if not resumed:
            raise BadInput(
                f"trainer.rank_batch_sizes={sizes} names {len(sizes)} process(es), the job has {world}",
                "give one number for each process, or leave it out",
            )
    return (int(config.data.batch_size),) * world


def _told(sizes: Any) -> str:
    return f"{' + '.join(str(size) for size in sizes)} in {len(sizes)} process{'es' if len(sizes) > 1 else ''}"


def check_shares(batches: Batches, images: int) -> None:
    """Refuses a job in which a process would never have an image to train on.

    Args:
        batches: The batches.
        images: Of the training split.

    Raises:
        BadInput: There are more processes than images, or the first process's part of a batch leaves one without any.
    """
    sizes = batches.share.sizes
    if len(sizes) == 1:
        return
    if len(sizes) > images:
        raise BadInput(f"{len(sizes)} processes for {images} training images", f"use at most {images} processes")
    idle = [rank for rank, size in enumerate(divide(min(images, sum(sizes)), sizes)) if not size]
    if idle:
        raise BadInput(
            f"a batch of {sum(sizes)} images divided as {list(sizes)} leaves process {idle[0] + 1} of {len(sizes)} "
            f"without any of the {images} training images",
            "use fewer processes, or other trainer.rank_batch_sizes",
        )


def check_same(parallel: Parallel | None, bundle: DatasetBundle, config_sha256: str) -> None:
    """Refuses processes that hold other images or another config than the first one.

    Raises:
        BadInput: In all of them.
    """
    if parallel is None:
        return
    held = parallel.gather_json({"images": bundle.fingerprint, "config": config_sha256})
    for what, fix in (("images", "give all the same dataset"), ("config", "start all with the same command line")):
        other = [rank for rank, one in enumerate(held) if one[what] != held[0][what]]
        if other:
            raise BadInput(f"process {other[0] + 1} of {len(held)} has other {what} than the first", fix)


def build_together(config: Config, device: str, parallel: Parallel | None) -> Together | None:
    """Returns what the processes do besides their own parts; None for one that is alone.

    Raises:
        BadInput: ``trainer.strategy=sharded`` where that cannot be.
    """
    trainer, sharding = config.trainer, None
    if trainer.strategy == "sharded":
        check_sharding(
            device, 1 if parallel is None else parallel.world, level=trainer.sharding_level, offload=trainer.offload,
            half=trainer.precision == "fp16" and trainer.amp_level == "O2", ema=trainer.ema_decay > 0,
        )  # fmt: skip
    elif trainer.offload:
        raise BadInput("trainer.offload=true is a part of trainer.strategy=sharded", "set both, or neither")
    if parallel is None:
        return None
    if trainer.strategy == "sharded":
        sharding = Sharding(parallel, trainer.sharding_level, offload=trainer.offload)
    return Together(parallel, config.seed, synchronised=trainer.sync_batch_norm, sharding=sharding)


def join_network(config: Config, network: Any, parallel: Parallel | None) -> None:
    """Gives all processes the first one's weights, and synchronised batch norms where they are asked for."""
    if parallel is None:
        return
    parallel.broadcast_tensors(network.state_dict().values())
    if config.trainer.sync_batch_norm:
        use_sync_batch_norm(network, parallel)
