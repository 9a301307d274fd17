"""Rewards to advantages by what a config compares them with: their prompt's, their siblings', or the whole rollout's;
and what these weigh where the sampler is not exact.

Shapes: C completions of this rank, of ``count`` prompts; ``group`` says which. All ranks enter together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from baro.batch import Sample, flat
from baro.functional.groups import group_centered, group_rank, group_standardized, group_std, leave_one_out
from baro.functional.ratios import sampler_weights
from baro.functional.tokens import segment_sum
from baro.grpo_config import AdvantageConfig, SamplerGateConfig
from baro.methods.shaping import everywhere
from baro.protocols import World

log = logging.getLogger("baro")
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


class SamplerGate:
    """What each token's advantage weighs by π_old/π_sampler, and how far a sampler that is not exact is off.

    An exact sampler's ratios are all 1, so that nothing is weighed; where a gate was asked for, the log says so once.
    """

    def __init__(self, config: SamplerGateConfig | None) -> None:
        self.config, self.told = config, False

    def __call__(self, samples: Sequence[Sample], lengths: Tensor) -> tuple[list[Tensor], list[dict[str, float]]]:
        """The weights [S] of each completion's tokens, and what is told of it, as sums over its tokens."""
        count, own = len(lengths), self.config
        if not any("sampler_logprobs" in one.token_fields for sample in samples for one in sample.completions):
            if own is not None and count and not self.told:
                log.info(
                    "sampler_gate: the sampler is exact here (float32), all its ratios are 1, and nothing is gated"
                )
                self.told = True
            fields = {} if own is None else {"gated_tokens": 0.0}
            return [torch.ones(int(length)) for length in lengths], [dict(fields) for _ in range(count)]
        old, sampled = flat(samples, "old_logprobs"), flat(samples, "sampler_logprobs")
        of = torch.arange(count).repeat_interleave(lengths)
        told = {"sampler_gap": segment_sum((old.exp() - sampled.exp()).abs(), of, count)}
        weights = torch.ones_like(old)
        if own is not None:
            statistic = "token" if own.level == "token" else own.statistic or "product"
            weights, beyond = sampler_weights(
                old, sampled, of, count, statistic=statistic, mode=own.mode, band=own.band
            )
            told["gated_tokens"] = segment_sum(beyond.to(old.dtype), of, count)
        return list(weights.split(lengths.tolist())), [{k: float(v[i]) for k, v in told.items()} for i in range(count)]
