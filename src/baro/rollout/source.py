"""Sample, score, prepare, then several epochs of minibatches: the BatchSource of every online method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from baro.batch import Branch, GroupBatch, Sample, pack_samples, unpack_samples
from baro.checkpoints import read_state, write_state
from baro.collate import collate
from baro.config import RolloutConfig
from baro.errors import ConfigError, RewardError
from baro.files import fault_point
from baro.functional.streams import permutation, stream_key
from baro.protocols import LocalWorld, Metrics, Next, Prepare, RewardSource, Sampler, State, World
from baro.records import Completion, Prompt, Rollout, SamplingParams, Score


@dataclass(frozen=True)
class WeightedReward:
    """One term of the reward; its unweighted value is kept as ``score/<name>``, for logs alone."""

    source: RewardSource
    weight: float = 1.0
    name: str = ""  # the source's own unless given

    @property
    def called(self) -> str:
        """Its name in logs."""
        return self.name or self.source.name


def _started(source: RewardSource, rollouts: list[Rollout]) -> Callable[[], list[Score]]:
    """What gives the source's scores; one that waits for others begins at once, if it can."""
    start: Callable[[list[Rollout]], Callable[[], list[Score]]] | None = getattr(source, "start_scoring", None)
    return partial(source.score, rollouts) if start is None else start(rollouts)


class OnPolicySource:
    """Draws rollouts from the current policy and cuts them into minibatches.

    One rollout takes ``config.prompts`` prompts over all ranks, ``config.completions`` completions each, and lasts
    ``config.epochs`` x ``config.minibatches`` optimiser steps; where ``steps`` are given the last rollout ends with
    them. Prompts come in an order that is a function of (seed, pass); the random stream of each completion is one of
    (seed, rollout, position, sample). A completion whose score failed is taken out; above
    ``config.max_error_fraction`` the run stops.

    ``store``, given to rank 0 alone, is a file that receives each finished rollout before its first update, so that a
    run killed during the updates finds it again, with as many ranks as it then has. ``recompute`` is given where this
    process does not compute the bits of the one that was killed: it puts the present policy's log-probs into a rollout
    that was found, which is then prepared anew, since the policy that drew it was another by rounding.

    ``on_rollout`` of rank 0 is told of each rollout before its first update: its number, the completions that were
    scored, and their samples. ``early_stop`` looks at a step's metrics and may give up the rest of it.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        prompt_samples: Sequence[Sample],
        *,
        sampler: Sampler,
        decode: Callable[[Sequence[int]], str],
        rewards: Sequence[WeightedReward],
        prepare: Prepare,
        sampling: SamplingParams,
        config: RolloutConfig,
        rollouts: int,
        steps: int | None = None,
        seed: int,
        micro_batch_tokens: int,
        hidden_size: int,
        world: World | None = None,
        store: Path | None = None,
        recompute: Callable[[list[Sample], World], list[Sample]] | None = None,
        early_stop: Callable[[Metrics], bool] = lambda metrics: False,
        on_rollout: Callable[[int, list[Rollout], list[Sample]], None] = lambda number, rollouts, samples: None,
        term: str = "rollout",
    ) -> None:
        self.prompts, self.prompt_samples = list(prompts), list(prompt_samples)
        self.sampler, self.decode, self.rewards, self.prepare = sampler, decode, list(rewards), prepare
        self.sampling, self.config, self.rollouts, self.seed = sampling, config, rollouts, seed
        self.steps = rollouts * self.updates if steps is None else min(steps, rollouts * self.updates)
        self.micro_batch_tokens, self.hidden_size = micro_batch_tokens, hidden_size
        self.world: World = world or LocalWorld()
        self.recompute = recompute
        self.store, self.early_stop, self.on_rollout, self.term = store, early_stop, on_rollout, term
        if len({one.called for one in self.rewards}) < len(self.rewards):
            raise ConfigError(f"two of the rewards {[one.called for one in self.rewards]} have one name; rename one")
        self.rollout = self.update = 0  # the rollout in hand, and how many of its updates are committed
        self.samples: list[Sample] | None = None  # this rank's share of it, prepared

    def __len__(self) -> int:
        return self.steps

    @property
    def updates(self) -> int:
        """Optimiser steps of one rollout."""
        return self.config.epochs * self.config.minibatches

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        while self.rollout < self.rollouts:
            if self.samples is None:
                self.samples = self._next_rollout()
            yield collate(
                self._minibatch(self.samples),
                micro_batch_tokens=self.micro_batch_tokens,
                hidden_size=self.hidden_size,
                atom=self.prepare.atom,
                term=self.term,
            )

    def advance(self, metrics: Metrics) -> Next:
        self.update += 1
        stopped = self.early_stop(metrics)
        if stopped or self.update == self.updates:
            self.rollout, self.update, self.samples = self.rollout + 1, 0, None
        if self.rollout == self.rollouts:
            return Next.STOP
        return Next.NEXT_ROLLOUT if stopped else Next.CONTINUE

    def state_dict(self) -> State:
        return {
            "rollout": self.rollout,
            "update": self.update,
            "samples": {} if self.samples is None else pack_samples(self._everyones(self.samples)),
            "prepare": self.prepare.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        self.rollout, self.update = state["rollout"], state["update"]
        self.samples = self._own(unpack_samples(state["samples"])) if state["samples"] else None
        self.prepare.load_state_dict(state["prepare"])

    # ------------------------------------------------------------------------------------------------ one rollout

    def _next_rollout(self) -> list[Sample]:
        """This rank's share of the rollout in hand; rank 0 stores and tells of all of it."""
        everyones = self._stored()
        if everyones is None:
            everyones = self._everyones(self._draw())
            if self.store is not None:
                state = {"samples": pack_samples(everyones), "prepare": self.prepare.state_dict()}
                write_state(self.store, state | {"rollout": self.rollout})
        if self.world.rank == 0:
            self.on_rollout(self.rollout, self._rollouts(everyones), everyones)
        return self._own(everyones)

    def _own(self, everyones: list[Sample]) -> list[Sample]:
        """This rank's share of samples in the order of their positions."""
        return everyones[self.world.rank :: self.world.size]

    def _everyones(self, own: list[Sample]) -> list[Sample]:
        """All ranks' shares in the order of their positions; all ranks enter together."""
        shares = iter(self.world.gather(own))
        everyones: dict[int, Sample] = {}
        for rank in range(self.world.size):
            everyones |= {p: next(shares) for p in range(rank, self.config.prompts, self.world.size)}
        return [everyones[position] for position in sorted(everyones)]

    def _draw(self) -> list[Sample]:
        positions = range(self.world.rank, self.config.prompts, self.world.size)
        chosen = [self._prompt_at(position) for position in positions]
        drawn = self.sampler.generate(
            [self.prompt_samples[i].prompt_ids.tolist() for i in chosen],
            self.config.completions,
            self.sampling,
            [stream_key("sample", self.seed, self.rollout, position) for position in positions],
        )
        fault_point("after-sampling")
        return self.prepare(self._score(chosen, drawn), self.world)

    def _stored(self) -> list[Sample] | None:
        """The whole rollout in hand as a killed process left it, if it got that far; who has the file reads it."""
        read = [] if self.store is None or not self.store.exists() else [read_state(self.store)]
        found = self.world.gather([state for state in read if state["rollout"] == self.rollout])
        if not found:
            return None
        state = found[0]
        samples = unpack_samples(state["samples"])
        if self.recompute is not None:
            return self._everyones(self.prepare(self.recompute(self._own(samples), self.world), self.world))
        self.prepare.load_state_dict(state["prepare"])
        return samples

    def _prompt_at(self, position: int) -> int:
        """The index of the prompt at a position of the rollout in hand; each pass has its own permutation."""
        passed, place = divmod(self.rollout * self.config.prompts + position, len(self.prompts))
        return int(permutation(len(self.prompts), "prompts", self.seed, passed)[place])

    def _score(self, chosen: list[int], drawn: list[list[Completion]]) -> list[Sample]:
        flat = [(i, completion) for i, group in zip(chosen, drawn, strict=True) for completion in group]
        rollouts = [self._rollout(i, completion.ids, completion.finished) for i, completion in flat]
        started = [_started(one.source, rollouts) for one in self.rewards]
        scores = [finish() for finish in started]  # by the reward's place in the list
        errors = [self._error([found[k] for found in scores]) for k in range(len(flat))]
        self._check_errors(errors)
        samples, k = [], 0
        for i, group in zip(chosen, drawn, strict=True):
            kept = []
            for completion in group:
                if errors[k] is None:
                    kept.append(self._branch(completion, [found[k].value for found in scores]))
                k += 1
            samples.append(self.prompt_samples[i].with_completions(kept))
        return samples

    def _rollouts(self, samples: list[Sample]) -> list[Rollout]:
        """The rollout in hand as text; what a killed process stored can be told again."""
        return [
            self._rollout(self._prompt_at(position), tuple(one.ids.tolist()), bool(one.fields["finished"]))
            for position, sample in enumerate(samples)
            for one in sample.completions
        ]

    def _rollout(self, i: int, ids: tuple[int, ...], finished: bool) -> Rollout:
        prompt = self.prompts[i]
        return Rollout(prompt.prompt, self.decode(ids), ids, finished, dict(prompt.extra))

    def _error(self, scores: Sequence[Score]) -> str | None:
        """Why a completion has no reward: a source failed, or none has an opinion."""
        if all(one.value is None and one.error is None for one in scores):
            names = ", ".join(one.called for one in self.rewards)
            return f"no reward scores this completion ({names} returned None)"
        return next((one.error for one in scores if one.error is not None), None)

    def _branch(self, completion: Completion, scores: Sequence[float | None]) -> Branch:
        """Sources without an opinion have no part in the sum; their own score is NaN."""
        ids = torch.tensor(completion.ids, dtype=torch.long)
        terms = list(zip(self.rewards, scores, strict=True))
        total = sum(one.weight * score for one, score in terms if score is not None)
        return Branch(
            ids=ids,
            scored=torch.ones(len(ids), dtype=torch.bool),
            last=len(ids) - 1,
            token_fields={"old_logprobs": torch.tensor(completion.logprobs)},
            fields={
                "score": total,
                "finished": float(completion.finished),
                "rollout": float(self.rollout),
                **{f"score/{one.called}": math.nan if score is None else float(score) for one, score in terms},
            },
        )

    def _check_errors(self, errors: list[str | None]) -> None:
        failed = [error for error in errors if error is not None]
        counts = self.world.sum({"failed": len(failed), "all": len(errors)})
        if counts["failed"] > self.config.max_error_fraction * counts["all"]:
            first = failed[0] if failed else "on another rank"
            raise RewardError(
                f"rollout {self.rollout}: {counts['failed']:.0f} of {counts['all']:.0f} scores failed, more than "
                f"rollout.max_error_fraction={self.config.max_error_fraction} allows; the first: {first}"
            )

    def _minibatch(self, samples: list[Sample]) -> list[Sample]:
        """This rank's share of the next minibatch; the cut is one of global positions, the same for any world."""
        epoch, number = divmod(self.update, self.config.minibatches)
        per_prompt = self.config.completions if self.prepare.atom == "completion" else 1
        count = self.config.prompts * per_prompt
        order = permutation(count, "minibatch", self.seed, self.rollout, epoch)
        chosen: dict[int, list[int]] = {}
        for place in np.array_split(order, self.config.minibatches)[number].tolist():
            position, k = divmod(place, per_prompt)
            if position % self.world.size == self.world.rank:
                chosen.setdefault(position // self.world.size, []).append(k)
        whole = self.prepare.atom == "group"
        minibatch = [samples[i] if whole else _only(samples[i], sorted(ks)) for i, ks in sorted(chosen.items())]
        return [sample for sample in minibatch if sample.completions]  # all scores of a prompt may have failed


def _only(sample: Sample, completions: list[int]) -> Sample:
    """A sample with some of its completions; a completion whose score failed is not there to be chosen."""
    return sample.with_completions([sample.completions[k] for k in completions if k < len(sample.completions)])
