"""Two blocks of configs: how models are computed, and how they are adapted. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from baro.config import NO_EFFECT, Config


class ComputeConfig(Config):
    """Where and in what numbers models are computed; weights and optimiser are fp32 everywhere."""

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
    """Low-rank adapters in place of all weights (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, description="rank of the adapters")
    alpha: float = Field(32.0, gt=0, description="their output is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="must be 0")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="ends of the names of the layers that get one; all-linear: all but the head"
    )

    @model_validator(mode="after")
    def _no_dropout(self) -> LoraConfig:
        if self.dropout > 0:
            raise ValueError(
                "dropout must be 0: siblings share their prompt's computation, and the reference's log-probs are "
                "compared with the policy's; hold the policy back with fewer steps or a lower rank"
            )
        return self
