"""The trainer section: how a network is trained, and on what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from paddle_tk.config.section import ADDED_LATER, NOT_IDENTITY, Auto, Section
from paddle_tk.config.strategies import known_strategy


class TrainerConfig(Section):
    """How it is trained."""

    max_epochs: int = Field(10, ge=1, le=100000)
    limit_train_batches: int | None = Field(None, ge=1, description="batches per epoch; null: all")
    limit_val_batches: int | None = Field(None, ge=1, description="batches per evaluation; null: all")
    fast_dev_run: bool = Field(False, description="two batches of everything, one epoch: does it run at all?")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="sgd: with momentum")
    learning_rate: float = Field(0.05, gt=0, le=100, description="peak, after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    nesterov: bool = Field(False, description="sgd only")
    beta1: float = Field(0.9, ge=0, lt=1, description="adam and adamw only")
    beta2: float = Field(0.999, ge=0, lt=1, description="adam and adamw only")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="not applied to biases and norms")
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = Field("cosine")
    warmup_epochs: float = Field(0.0, ge=0, description="linear warm-up from 1 % of the rate")
    step_epochs: list[float] = Field([], description="step schedule: epochs at which the rate drops")
    step_gamma: float = Field(0.1, gt=0, le=1, description="step schedule: factor of each drop")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="last / peak rate, cosine and one_cycle")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup_alpha: float = Field(0.0, ge=0, le=10, description="Beta(alpha, alpha); 0: no mixup")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0: no averaged weights")
    precision: str = Field("fp32", description="fp32, bf16 or fp16 (32 and 16 are accepted)")
    amp_level: Literal["O1", "O2"] = Field("O1", description="with bf16 or fp16")
    accumulate_grad_batches: int = Field(1, ge=1, le=4096)
    target_batch_size: int | None = Field(
        None,
        ge=1,
        le=2**24,
        description="images per update, all processes together; sets the accumulation",
        json_schema_extra=ADDED_LATER,
    )
    recompute: bool | list[str] = Field(
        False,
        description="give up activations and compute them again: true for the network's blocks, or layer names",
        json_schema_extra=ADDED_LATER,
    )
    gradient_clip_val: float | None = Field(None, gt=0, description="global norm; null: none")
    early_stopping_patience: int | None = Field(None, ge=1, description="epochs without improvement; null: none")
    early_stopping_min_delta: float = Field(0.0, ge=0)
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", json_schema_extra=NOT_IDENTITY)
    devices: int | str = Field(
        "auto",
        description="process count, 'auto', or a device such as 'gpu:0'",
        json_schema_extra=NOT_IDENTITY,
    )
    strategy: str = Field(
        "ddp",
        description="of several processes; ddp: each holds everything; sharded: parts of it",
        json_schema_extra=ADDED_LATER,
    )
    sharding_level: Literal["os", "os_g", "p_g_os"] = Field(
        "os_g", description="sharded: optimizer state; and gradients; and parameters", json_schema_extra=ADDED_LATER
    )
    offload: bool = Field(
        False, description="sharded: optimizer state in the host's memory", json_schema_extra=ADDED_LATER
    )
    sync_batch_norm: bool = Field(
        False, description="batch-norm statistics over the images of all processes", json_schema_extra=ADDED_LATER
    )
    rank_batch_sizes: list[int] | Auto | None = Field(
        None,
        description="images of each process, for uneven devices; auto: by memory and speed; null: the same for all",
        json_schema_extra=NOT_IDENTITY,
    )
    leak_watch: Literal["off", "warn", "stop"] = Field(
        "warn", description="when memory grows with every step", json_schema_extra=NOT_IDENTITY
    )
    leak_tensors: bool = Field(
        False, description="tell which tensors live on (slow, for debugging)", json_schema_extra=NOT_IDENTITY
    )
    cpu_threads: int | Auto = Field(
        "auto", description="auto: all cores, unless OMP_NUM_THREADS is set", json_schema_extra=NOT_IDENTITY
    )
    fast_conv: bool = Field(True, description="small maps as one product for the batch, when training on a CPU")
    fast_depthwise: bool | Auto = Field(
        "auto", description="depthwise convolutions by a compiled kernel, when training on a CPU; auto: where it runs"
    )
    save_every_n_steps: int | None = Field(
        None, ge=1, description="besides every epoch", json_schema_extra=NOT_IDENTITY
    )
    keep_last: int = Field(2, ge=1, description="newest checkpoints kept", json_schema_extra=NOT_IDENTITY)
    keep_top_k: int = Field(
        1, ge=1, description="best checkpoints kept, by validation metric", json_schema_extra=NOT_IDENTITY
    )
    log_every_n_steps: int = Field(10, ge=1, json_schema_extra=NOT_IDENTITY)
    loggers: list[Literal["visualdl", "tensorboard", "wandb"]] = Field(["visualdl"], json_schema_extra=NOT_IDENTITY)
    max_retries: int = Field(
        3,
        ge=0,
        le=100,
        description="restarts of a crashed run, from its last checkpoint",
        json_schema_extra=NOT_IDENTITY,
    )
    retry_delay: float = Field(
        5.0,
        ge=0,
        le=86400,
        description="seconds before a restart, doubled each time",
        json_schema_extra=NOT_IDENTITY,
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _precision(cls, value: object) -> str:
        known = {"32": "fp32", "fp32": "fp32", "16": "fp16", "fp16": "fp16", "bf16": "bf16"}
        name = str(value).lower()
        if name not in known:
            raise ValueError("must be fp32, bf16 or fp16 (32 and 16 are accepted)")
        return known[name]

    @field_validator("leak_watch", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads the bare word as false

    @field_validator("rank_batch_sizes")
    @classmethod
    def _ranks(cls, value: list[int] | str | None) -> list[int] | str | None:
        if isinstance(value, list) and (not value or min(value) < 1):
            raise ValueError("must be auto, null or a list of image counts from 1 on, such as [8, 4, 20]")
        return value

    @field_validator("strategy")
    @classmethod
    def _strategy(cls, value: str) -> str:
        return known_strategy(value)

    @field_validator("cpu_threads")
    @classmethod
    def _threads(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 1024:
            raise ValueError("must be auto or from 1 to 1024")
        return value

    @field_validator("devices")
    @classmethod
    def _devices(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be auto, a device such as gpu:0, or >= 1")
        if isinstance(value, str) and value not in ("auto", "cpu") and not value.removeprefix("gpu:").isdigit():
            raise ValueError("must be auto, cpu, a device such as gpu:0, or a process count")
        return value

    @model_validator(mode="after")
    def _steps_named(self) -> TrainerConfig:
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("schedule: step needs step_epochs, for instance [30, 60, 90]")
        if self.target_batch_size is not None and self.accumulate_grad_batches > 1:
            raise ValueError("target_batch_size sets accumulate_grad_batches: give only one of them")
        if self.leak_tensors and self.leak_watch == "off":
            raise ValueError("leak_tensors needs leak_watch=warn or stop, which look at the memory")
        return self
