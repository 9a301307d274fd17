"""A rollout: prompts, the policy's completions of them, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from baro.batch import Branch, Sample, pack_samples, unpack_samples
from baro.errors import RewardError
from baro.files import fault_point
from baro.functional.streams import permutation, stream_key
from baro.online_config import RolloutConfig
from baro.protocols import LocalWorld, Sampler, State, World
from baro.records import Completion, Prompt, Rollout, SamplingParams, said
from baro.rewards.terms import Totals, check_totals, score_by_totals


@dataclass(frozen=True)
class Draw:
    """One rollout of all ranks: which prompts, in the order of their positions, and their scored completions."""

    number: int
    prompts: list[int]
    samples: list[Sample]

    def to_state(self) -> State:
        return {"number": self.number, "prompts": self.prompts, "samples": pack_samples(self.samples)}

    @staticmethod
    def of_state(state: State) -> Draw:
        return Draw(state["number"], state["prompts"], unpack_samples(state["samples"]))


@dataclass
class Errors:
    """The scores of one rollout on this rank: how many there were, and why some failed."""

    failed: list[str] = field(default_factory=list)
    count: int = 0


class Rollouts:
    """Draws one rollout after another from the current policy.

    A rollout takes ``config.prompts`` prompts over all ranks, ``config.completions`` completions each. Prompts come in
    an order that is a function of (seed, pass), from where the last rollout ended; the random stream of each completion
    is one of (seed, rollout, position, sample), so that a rollout is a function of its number, the prompts taken before
    it and the weights. A completion whose score failed is taken out; above ``config.max_error_fraction`` the run stops.

    ``totals``: the reward terms by the name of their sum, which becomes a field of each completion.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        prompt_samples: Sequence[Sample],
        *,
        sampler: Sampler,
        decode: Callable[[Sequence[int]], str],
        totals: Totals,
        sampling: SamplingParams,
        config: RolloutConfig,
        seed: int,
        world: World | None = None,
    ) -> None:
        check_totals(totals)
        self.prompts, self.prompt_samples = list(prompts), list(prompt_samples)
        self.sampler, self.decode, self.totals = sampler, decode, totals
        self.sampling, self.config, self.seed = sampling, config, seed
        self.world: World = world or LocalWorld()
        self.taken = 0  # prompts of all rollouts so far, over all passes
        self._order: tuple[int, np.ndarray[Any, Any]] | None = None  # of a pass

    def draw(self, number: int) -> Draw:
        """The next rollout; all ranks enter together, and each gets all of it.

        With ``config.draws``, prompts whose completions are all alike in every total give way to the next ones, so many
        times; what is tied then stays.
        """
        self.sampler.refresh()
        drawn: dict[int, tuple[int, Sample]] = {}
        wanted = list(range(self.config.prompts))
        errors = Errors()
        for attempt in range(self.config.draws):
            drawn |= self._drawn(number, wanted, attempt, errors)
            wanted = [position for position, (_, sample) in drawn.items() if not differ(sample, self.totals)]
            if not wanted:
                break
        self._check_errors(number, errors)
        found = [drawn[position] for position in range(self.config.prompts)]
        return Draw(number, [i for i, _ in found], [sample for _, sample in found])

    def _drawn(self, number: int, wanted: list[int], attempt: int, errors: Errors) -> dict[int, tuple[int, Sample]]:
        """The next prompts, one for each position of the rollout, with their scored completions."""
        chosen = [self._prompt_at(self.taken + place) for place in range(len(wanted))]
        places = range(self.world.rank, len(chosen), self.world.size)
        own = [chosen[place] for place in places]
        again = [attempt] if attempt else []
        drawn = self.sampler.generate(
            [self.prompt_samples[i].prompt_ids.tolist() for i in own],
            self.config.completions,
            self.sampling,
            [stream_key("sample", self.seed, number, wanted[place], *again) for place in places],
        )
        fault_point("after-sampling")
        samples = everyones(self._score(number, own, drawn, errors), len(chosen), self.world)
        self.taken += len(chosen)
        if self.config.draws > 1:
            told = {"draws": attempt + 1.0}
            samples = [s.with_completions([one.with_(fields=told) for one in s.completions]) for s in samples]
        return dict(zip(wanted, zip(chosen, samples, strict=True), strict=True))

    def texts(self, draw: Draw) -> list[Rollout]:
        """A rollout's completions as text, in the order of its samples' completions."""
        return [
            self._text(i, tuple(one.ids.tolist()), bool(one.fields["finished"]))
            for i, sample in zip(draw.prompts, draw.samples, strict=True)
            for one in sample.completions
        ]

    def state_dict(self) -> State:
        return {"taken": self.taken}

    def load_state_dict(self, state: State) -> None:
        self.taken = state["taken"]

    def _prompt_at(self, taken: int) -> int:
        """The index of the prompt that is taken after so many; each pass has its own permutation."""
        number, place = divmod(taken, len(self.prompts))
        if self._order is None or self._order[0] != number:
            self._order = number, permutation(len(self.prompts), "prompts", self.seed, number)
        return int(self._order[1][place])

    def _score(self, number: int, chosen: list[int], drawn: list[list[Completion]], errors: Errors) -> list[Sample]:
        """The completions that could be scored; a prompt keeps its place even if none of its could."""
        pairs = [(i, completion) for i, group in zip(chosen, drawn, strict=True) for completion in group]
        found = score_by_totals(self.totals, [self._text(i, one.ids, one.finished) for i, one in pairs])
        errors.failed += [one for one in found if isinstance(one, str)]
        errors.count += len(found)
        fields = iter(found)
        samples = []
        for i, group in zip(chosen, drawn, strict=True):
            scored = [(completion, next(fields)) for completion in group]
            kept = [_branch(number, completion, own) for completion, own in scored if not isinstance(own, str)]
            samples.append(self.prompt_samples[i].with_completions(kept))
        return samples

    def _text(self, i: int, ids: tuple[int, ...], finished: bool) -> Rollout:
        prompt = self.prompts[i]
        return Rollout(prompt.prompt, said(self.decode(ids)), ids, finished, dict(prompt.extra))

    def _check_errors(self, number: int, errors: Errors) -> None:
        counts = self.world.sum({"failed": len(errors.failed), "all": errors.count})
        if counts["failed"] > self.config.max_error_fraction * counts["all"]:
            first = errors.failed[0] if errors.failed else "on another rank"
            raise RewardError(
                f"rollout {number}: {counts['failed']:.0f} of {counts['all']:.0f} scores failed, more than "
                f"rollout.max_error_fraction={self.config.max_error_fraction} allows; the first: {first}"
            )


def differ(sample: Sample, totals: Iterable[str]) -> bool:
    """Whether the completions of a prompt differ in one of the totals, so that there is something to learn."""
    return any(len({one.fields[total] for one in sample.completions}) > 1 for total in totals)


def everyones(own: list[Sample], count: int, world: World) -> list[Sample]:
    """All ranks' shares in the order of their positions, of which there are ``count``; all ranks enter together."""
    shares = iter(world.gather(own))
    by_position: dict[int, Sample] = {}
    for rank in range(world.size):
        by_position |= {position: next(shares) for position in range(rank, count, world.size)}
    return [by_position[position] for position in range(count)]


def share(samples: list[Sample], world: World) -> list[Sample]:
    """This rank's share of samples in the order of their positions."""
    return samples[world.rank :: world.size]


def _branch(number: int, completion: Completion, fields: dict[str, float]) -> Branch:
    ids = torch.tensor(completion.ids, dtype=torch.long)
    return Branch(
        ids=ids,
        scored=torch.tensor(completion.scored or [True] * len(ids), dtype=torch.bool),
        last=len(ids) - 1,
        token_fields={"old_logprobs": torch.tensor(completion.logprobs)},
        fields={**fields, "finished": float(completion.finished), "rollout": float(number)},
    )
