"""The section of a plan that says how long one training is and in what arithmetic it computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cifar_tune.plan.section import Auto, Flag, PositiveInt, Section


class TrainConfig(Section):
    """One training: its length and its arithmetic."""

    max_epochs: Annotated[int, Field(ge=1, le=1_000_000), Flag("N")] = 9
    """Passes over the training data."""
    precision: Auto | Literal["32", "bf16", "16"] = "auto"
    """Arithmetic: float32, or autocast to bfloat16 or (GPU) float16; auto: what the machine has
    instructions for, bfloat16 before float16."""
    tf32: bool = False
    """Whether a GPU may multiply float32 in TensorFloat-32: faster, with a mantissa of 10 bits."""
    deterministic: Auto | bool = "auto"
    """Whether a seed gives the same bits each time; auto: on a CPU, where it costs nothing. On a
    GPU it is slower, and an operation that torch has no such way for is an error."""
    channels_last: Auto | bool = "auto"
    """Memory layout of convolutions; auto: on a CPU, and on a GPU with bf16 and 16."""
    threads: Auto | PositiveInt = "auto"
    """CPU threads of a training; auto: the CPUs of a trial."""
    compile: bool = False
    """Whether torch.compile makes faster code of the network; a process compiles each architecture
    and batch size once, for all its trials. It needs a C++ compiler."""
    sync_batchnorm: bool = False
    """Whether BatchNorm normalises over the batch of all workers of a trial, not each its part."""

    @field_validator("precision", mode="before")
    @classmethod
    def _accept_numbers(cls, precision: object) -> object:
        return str(precision) if precision in (16, 32) else precision
