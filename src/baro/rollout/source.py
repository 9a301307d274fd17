"""Draw, prepare, then several epochs of minibatches: the BatchSource of every online method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from baro.batch import GroupBatch, Sample, pack_samples, unpack_samples
from baro.checkpoints import read_state, write_state
from baro.collate import collate
from baro.functional.streams import permutation
from baro.protocols import LocalWorld, Metrics, Next, Prepare, State, World
from baro.rollout.fresh import OldLogprobs
from baro.rollout.rollouts import Draw, Rollouts, everyones, share


class OnPolicySource:
    """Takes rollouts and cuts each into minibatches.

    A rollout lasts ``config.epochs`` x ``config.minibatches`` optimiser steps of what ``rollouts.config`` says; there
    are ``count`` of them, and where ``steps`` are given the last one ends with them.

    ``old_logprobs`` gives a rollout the log-probs that its ratios start from, before ``prepare`` sees it; without it
    they are the sampler's.

    ``store``, given to rank 0 alone, is a file that receives each prepared rollout before its first update, so that a
    run killed during the updates finds it again, with as many ranks as it then has. With ``same_bits`` False this
    process does not compute the bits of the one that was killed: a rollout that was found gets the present policy's
    log-probs and is prepared anew, since the policy that drew it was another by rounding.

    ``on_rollout`` of rank 0 is told of each rollout before its first update. ``early_stop`` looks at a step's metrics
    and may give up the rest of it.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        *,
        prepare: Prepare,
        old_logprobs: OldLogprobs | None = None,
        count: int,
        steps: int | None = None,
        micro_batch_tokens: int,
        hidden_size: int,
        world: World | None = None,
        store: Path | None = None,
        same_bits: bool = True,
        early_stop: Callable[[Metrics], bool] = lambda metrics: False,
        on_rollout: Callable[[Draw], None] = lambda draw: None,
        term: str = "rollout",
    ) -> None:
        self.rollouts, self.prepare, self.old_logprobs, self.count = rollouts, prepare, old_logprobs, count
        self.config = rollouts.config
        self.steps = count * self.updates if steps is None else min(steps, count * self.updates)
        self.micro_batch_tokens, self.hidden_size = micro_batch_tokens, hidden_size
        self.world: World = world or LocalWorld()
        self.store, self.same_bits = store, same_bits
        self.early_stop, self.on_rollout, self.term = early_stop, on_rollout, term
        self.rollout = self.update = 0  # the rollout in hand, and how many of its updates are committed
        self.samples: list[Sample] | None = None  # this rank's share of it, prepared

    def __len__(self) -> int:
        return self.steps

    @property
    def updates(self) -> int:
        """Optimiser steps of one rollout."""
        return self.config.epochs * self.config.minibatches

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        while self.rollout < self.count:
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
        if self.rollout == self.count:
            return Next.STOP
        return Next.NEXT_ROLLOUT if stopped else Next.CONTINUE

    def state_dict(self) -> State:
        samples = None if self.samples is None else everyones(self.samples, self.config.prompts, self.world)
        return {
            "rollout": self.rollout,
            "update": self.update,
            "samples": {} if samples is None else pack_samples(samples),
            **self._states(),
        }

    def load_state_dict(self, state: State) -> None:
        self.rollout, self.update = state["rollout"], state["update"]
        self.samples = share(unpack_samples(state["samples"]), self.world) if state["samples"] else None
        self._restore(state)

    # ------------------------------------------------------------------------------------------------ one rollout

    def _next_rollout(self) -> list[Sample]:
        """This rank's share of the rollout in hand; rank 0 stores and tells of all of it."""
        draw = self._stored()
        if draw is None:
            draw = self._prepared(self.rollouts.draw(self.rollout))
            if self.store is not None:
                write_state(self.store, {"draw": draw.to_state(), **self._states()})
        if self.world.rank == 0:
            self.on_rollout(draw)
        return share(draw.samples, self.world)

    def _prepared(self, draw: Draw, *, again: bool = False) -> Draw:
        """The rollout with all that its updates need; each rank prepares its share. ``again``: it was drawn before."""
        own = share(draw.samples, self.world)
        if self.old_logprobs is not None:
            own = (self.old_logprobs.recomputed if again else self.old_logprobs)(own, self.world)
        samples = everyones(self.prepare(own, self.world), len(draw.samples), self.world)
        return Draw(draw.number, draw.prompts, samples)

    def _stored(self) -> Draw | None:
        """The whole rollout in hand as a killed process left it, if it got that far; who has the file reads it."""
        read = [] if self.store is None or not self.store.exists() else [read_state(self.store)]
        found = self.world.gather([state for state in read if state["draw"]["number"] == self.rollout])
        if not found:
            return None
        state = found[0]
        draw = Draw.of_state(state["draw"])
        if self.same_bits:
            self._restore(state)
            return draw
        self.rollouts.load_state_dict(state["rollouts"])
        return self._prepared(draw, again=True)

    def _states(self) -> State:
        old = {} if self.old_logprobs is None else self.old_logprobs.state_dict()
        return {"rollouts": self.rollouts.state_dict(), "old_logprobs": old, "prepare": self.prepare.state_dict()}

    def _restore(self, state: State) -> None:
        self.rollouts.load_state_dict(state["rollouts"])
        if self.old_logprobs is not None:
            self.old_logprobs.load_state_dict(state["old_logprobs"])
        self.prepare.load_state_dict(state["prepare"])

    def _minibatch(self, samples: list[Sample]) -> list[Sample]:
        """This rank's share of the next minibatch; the cut is one of global positions, the same for any world."""
        epoch, number = divmod(self.update, self.config.minibatches)
        per_prompt = self.config.completions if self.prepare.atom == "completion" else 1
        count = self.config.prompts * per_prompt
        order = permutation(count, "minibatch", self.rollouts.seed, self.rollout, epoch)
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
