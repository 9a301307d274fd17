"""Rewards to advantages by what a config compares them with: their prompt's, their siblings', or the whole rollout's.

Shapes: C completions of this rank, of ``count`` prompts; ``group`` says which. All ranks enter together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from baro.functional.groups import group_centered, group_rank, group_standardized, group_std, leave_one_out
from baro.grpo_config import AdvantageConfig
from baro.methods.shaping import everywhere
from baro.protocols import World

_BASELINES: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "group": group_centered,
    "leave_one_out": leave_one_out,
    "rank": group_rank,
}


def advantages(rewards: Tensor, group: Tensor, count: int, config: AdvantageConfig, world: World) -> Tensor:
    """The advantage of each completion, [C], by its reward and its prompt's number; all ranks enter together."""
    whole = everywhere(rewards, world, ddof=config.ddof)
    compare = _BASELINES.get(config.baseline)
    found = rewards - whole["mean"] if compare is None else compare(rewards, group, count)
    if config.scale == "group":
        return found / (group_std(rewards, group, count, ddof=config.ddof)[group] + config.epsilon)
    return found / (whole["variance"] ** 0.5 + config.epsilon) if config.scale == "batch" else found


def standardised_each(
    terms: Sequence[tuple[float, Tensor]], group: Tensor, count: int, config: AdvantageConfig, world: World
) -> Tensor:
    """Each reward standardised by prompt, then their weighted sum over the rollout: none drowns in another's scale.

    A reward without an opinion (NaN) on a completion has no part in its sum, nor in the prompt's mean. GDPO,
    arXiv:2601.05242, has it so, and TRL (normalize_then_sum).
    """
    total = torch.zeros(len(group), dtype=torch.float64)
    for weight, scores in terms:
        known = ~scores.isnan()
        own = group_standardized(scores[known], group[known], count, ddof=config.ddof, epsilon=config.epsilon)
        total[known] += weight * own
    whole = everywhere(total, world, ddof=config.ddof)
    done: Tensor = (total - whole["mean"]) / (whole["variance"] ** 0.5 + config.epsilon)
    return done
