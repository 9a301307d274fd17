"""Two blocks of configs: how models are computed, and how they are adapted. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from baro.config import NO_EFFECT, Config


class ComputeConfig(Config):
    """Where and in what numbers models are computed; what is trained and its optimiser are fp32 everywhere."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products; auto: bfloat16 on a GPU, float32 on a CPU, which takes no other"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="layers are computed again in the backward pass: less memory, a third more time",
        json_schema_extra=NO_EFFECT,
    )


class LoraConfig(Config):
    """Low-rank adapters in place of all weights (Hu et al. 2021, arXiv:2106.09685).

    Without dropout: siblings share their prompt's computation, and log-probs of one policy are compared with another's.
    """

    r: int = Field(16, ge=1, description="rank of the adapters")
    alpha: float = Field(32.0, gt=0, description="their output is scaled by alpha / r")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="ends of the names of the layers that get one; all-linear: all but the head"
    )
