"""Held-out prompts answered along an online run: rewards that are not trained on, and a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baro.batch import Sample
from baro.errors import RewardError
from baro.functional.streams import stream_key
from baro.protocols import LocalWorld, PairJudge, Sampler, World
from baro.records import Prompt, Rollout, SamplingParams, said
from baro.rewards.judging import judged_in_both_orders
from baro.rewards.terms import WeightedReward

WIN_RATE = "win_rate"
"""The judge's metric: how often it prefers the policy's answer to the reference's."""


class HeldOutAnswers:
    """Answers every prompt and gives the mean of each reward, the win rate against the reference, and lengths.

    The random stream of an answer is one of (seed, position, sample), the same at every measure, so that two measures
    differ by the weights alone. Rewards and judge see the answers of this rank's prompts; means are over all ranks. A
    reward without an opinion has no part in the mean; above ``max_error_fraction`` of failures the run stops.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        prompt_samples: Sequence[Sample],
        *,
        sampler: Sampler,
        reference: Sampler,
        decode: Callable[[Sequence[int]], str],
        rewards: Sequence[WeightedReward],
        judge: PairJudge | None,
        sampling: SamplingParams,
        completions: int,
        seed: int,
        max_error_fraction: float,
        world: World | None = None,
    ) -> None:
        self.world: World = world or LocalWorld()
        self.positions = range(self.world.rank, len(prompts), self.world.size)
        self.prompts, self.samples = list(prompts), list(prompt_samples)
        self.sampler, self.reference, self.decode = sampler, reference, decode
        self.rewards, self.judge, self.sampling = list(rewards), judge, sampling
        self.completions, self.seed, self.max_error_fraction = completions, seed, max_error_fraction
        self._opponents: list[Rollout] | None = None  # the reference's answers, drawn once

    def __call__(self) -> dict[str, float]:
        """The metrics; all ranks enter together."""
        answers = self._answers(self.sampler)
        found = {
            "tokens": self._mean("tokens", [float(len(one.completion_ids)) for one in answers]),
            "finished_fraction": self._mean("finished_fraction", [float(one.finished) for one in answers]),
        }
        for term in self.rewards:
            scores = term.source.score(answers)
            failed = [one.error for one in scores if one.error is not None]
            values = [float(one.value) for one in scores if one.value is not None]
            found[f"score/{term.called}"] = self._mean(term.called, values, failed)
        if self.judge is not None:
            if self._opponents is None:
                self._opponents = self._answers(self.reference)
            verdicts = judged_in_both_orders(self.judge, list(zip(answers, self._opponents, strict=True)))
            failed = [one.error or "no verdict" for one in verdicts if one.p_first is None]
            wins = [one.p_first for one in verdicts if one.p_first is not None]
            found[WIN_RATE] = self._mean(WIN_RATE, wins, failed)
        return found

    def _answers(self, sampler: Sampler) -> list[Rollout]:
        """This rank's, as text."""
        sampler.refresh()
        keys = [stream_key("held_out", self.seed, position) for position in self.positions]
        ids = [self.samples[position].prompt_ids.tolist() for position in self.positions]
        drawn = sampler.generate(ids, self.completions, self.sampling, keys)
        return [
            Rollout(prompt.prompt, said(self.decode(one.ids)), one.ids, one.finished, dict(prompt.extra))
            for prompt, group in zip((self.prompts[position] for position in self.positions), drawn, strict=True)
            for one in group
        ]

    def _mean(self, name: str, values: Sequence[float], failed: Sequence[str] = ()) -> float:
        """Over all ranks; NaN where there is no value."""
        sums = self.world.sum({"total": sum(values), "count": len(values), "failed": len(failed)})
        everything = sums["count"] + sums["failed"]
        if sums["failed"] > self.max_error_fraction * everything:
            first = failed[0] if failed else "on another rank"
            raise RewardError(
                f"evaluation: {sums['failed']:.0f} of {everything:.0f} judgments of {name} failed, more than "
                f"rollout.max_error_fraction={self.max_error_fraction} allows; the first: {first}"
            )
        return sums["total"] / sums["count"] if sums["count"] else float("nan")
