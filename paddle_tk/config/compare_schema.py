"""The sections of a comparison: what is measured, how it is weighed, how it is told. A training reads none of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from paddle_tk.config.section import NOT_IDENTITY, Section

CRITERIA = ("team_familiarity", "deployment_ease", "performance", "community")
OptionName = Literal["paddle", "torch", "paddle-int8", "torch-int8"]
_SUM_TOLERANCE = 1e-6


class CompareConfig(Section):
    """What is measured, and how often."""

    options: list[OptionName] = Field(
        ["paddle", "torch", "paddle-int8"],
        min_length=2,
        max_length=8,
        description="what is compared; the same one twice is an A/A test",
        json_schema_extra=NOT_IDENTITY,
    )
    rounds: int = Field(
        5, ge=2, le=100, description="fresh processes of each option, in turn", json_schema_extra=NOT_IDENTITY
    )
    turns: int = Field(
        8,
        ge=1,
        le=1000,
        description="that a round's processes take in each series of samples, one timed while the others wait; "
        "1: each process at a stretch, as always on a GPU",
        json_schema_extra=NOT_IDENTITY,
    )
    train_steps: int = Field(
        16, ge=2, le=10000, description="timed training steps in each of them", json_schema_extra=NOT_IDENTITY
    )
    warmup_steps: int = Field(
        4, ge=1, le=1000, description="steps and inferences before them", json_schema_extra=NOT_IDENTITY
    )
    inference_repeats: int = Field(
        60, ge=5, le=100000, description="timed inferences of one image", json_schema_extra=NOT_IDENTITY
    )
    throughput_batch: int = Field(
        32, ge=1, le=4096, description="images at once where throughput is measured", json_schema_extra=NOT_IDENTITY
    )
    throughput_repeats: int = Field(
        10, ge=2, le=10000, description="timed inferences of such a batch", json_schema_extra=NOT_IDENTITY
    )
    epochs: int = Field(
        5, ge=1, le=10000, description="of the training to the end, high-level API", json_schema_extra=NOT_IDENTITY
    )
    target_accuracy: float = Field(
        0.9, gt=0, le=1, description="validation metric whose time is taken", json_schema_extra=NOT_IDENTITY
    )
    curve_steps: int = Field(
        50, ge=10, le=1000, description="steps whose losses must agree", json_schema_extra=NOT_IDENTITY
    )
    parity_tolerance: float = Field(
        1e-5, gt=0, le=1, description="largest difference of outputs, equal weights", json_schema_extra=NOT_IDENTITY
    )
    loss_tolerance: float = Field(
        1e-4, gt=0, le=1, description="relative, of the first 10 steps' losses", json_schema_extra=NOT_IDENTITY
    )
    loss_tolerance_late: float = Field(
        1e-2, gt=0, le=1, description="relative, of the later steps' losses", json_schema_extra=NOT_IDENTITY
    )
    same_within: float = Field(
        0.03, ge=0, lt=1, description="a ratio this close to 1 is no difference", json_schema_extra=NOT_IDENTITY
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="of the intervals", json_schema_extra=NOT_IDENTITY)
    timeout_seconds: float = Field(
        900.0, gt=0, le=864000, description="for one process; then nothing is compared", json_schema_extra=NOT_IDENTITY
    )
    torch_python: str | None = Field(
        None,
        description="an interpreter that has torch, where this one must not; null: this one",
        json_schema_extra=NOT_IDENTITY,
    )


class DecideConfig(Section):
    """How measurements become a choice."""

    weights: dict[str, float] = Field(
        {"team_familiarity": 0.30, "deployment_ease": 0.25, "performance": 0.25, "community": 0.20},
        description="by criterion; they sum to 1",
        json_schema_extra=NOT_IDENTITY,
    )
    threshold: float = Field(
        3.5, ge=0, le=5, description="weighted sum from which an option may be adopted", json_schema_extra=NOT_IDENTITY
    )
    margin: float = Field(
        0.02,
        ge=0,
        le=5,
        description="least lead in the weighted sum that counts; below it, no choice",
        json_schema_extra=NOT_IDENTITY,
    )
    familiarity: dict[str, float] = Field(
        {},
        description="the team's own answer by framework or option, 0..5; none: the criterion is missing",
        json_schema_extra=NOT_IDENTITY,
    )
    community_file: str | None = Field(
        None, description="figures of the projects' communities; null: the shipped ones", json_schema_extra=NOT_IDENTITY
    )
    team: str = Field("", max_length=200, description="whose decision it is", json_schema_extra=NOT_IDENTITY)
    samples: int = Field(
        10000, ge=100, le=10000000, description="weights sampled for the sensitivity", json_schema_extra=NOT_IDENTITY
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of that sampling", json_schema_extra=NOT_IDENTITY)

    @field_validator("familiarity")
    @classmethod
    def _scores(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= score <= 5 for score in value.values()):
            raise ValueError("every answer must be from 0 to 5")
        return value

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> DecideConfig:
        if not self.weights or min(self.weights.values()) < 0:
            raise ValueError("weights: needs at least one criterion, none below 0")
        total = sum(self.weights.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"weights: must sum to 1, they sum to {total:g}")
        return self


class ReportConfig(Section):
    """How it is told."""

    language: Literal["en", "zh"] = Field("en", description="of the report", json_schema_extra=NOT_IDENTITY)
    title: str = Field("", max_length=200, description="'': from model and data", json_schema_extra=NOT_IDENTITY)
