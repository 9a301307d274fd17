"""Sampling from the live policy: continuous batching in slots, every prompt computed once per group.

    queue ─ admit: prefill new prompts ─▶ slots 0..n-1 ─ step: one token each ─▶ retire: the last slots fill the holes

The model is the one that is being trained: no copy of the weights, no other implementation of the architecture. What
is sampled depends on (prompt, key, sample index) alone, up to the rounding of logits, never on slots or neighbours.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from baro.errors import ConfigError, GuardStop
from baro.models.attention import decoding, decoding_obstacle
from baro.protocols import LocalWorld, World
from baro.records import Completion, SamplingParams
from baro.rollout.decode import decode, decoding_fault, fitting_slots, prefill, recompute, slot_cache
from baro.rollout.sampling import draw

if TYPE_CHECKING:
    from baro.models.forward import ScoredModel

REFILL_FRACTION = 0.25  # of the slots must be free before new prompts are computed: small prefills waste time
PREFILL_TOKENS = 8192  # columns of one prefill forward, padding included
RECOMPUTED_AT_ONCE = 64  # rows, where nothing is cached
PREFILL_WASTE = 0.2  # of those may be padding

log = logging.getLogger("baro")
Progress = Callable[[int, int], None]


class Engine:
    """A Sampler on a live model.

    end_ids: a sequence is finished when it draws one of them. slots: how many sequences run at once, as many as a
    quarter of the memory holds unless given.
    on_progress: called with (finished sequences, all sequences) whenever some finish. world: the ranks over which the
    model is sharded; they call ``generate`` together, each with its own prompts, or none.
    """

    def __init__(
        self,
        model: ScoredModel,
        *,
        end_ids: frozenset[int],
        slots: int | None = None,
        on_progress: Progress | None = None,
        world: World | None = None,
    ) -> None:
        self.world: World = world or LocalWorld()
        self.model, self.end_ids, self.slots, self.on_progress = model, end_ids, slots, on_progress
        self._slots_work: bool | None = None  # not known yet

    @property
    def exact(self) -> bool:
        """In fp32 the slots give the training forward's log-probs; in bf16 each of the two rounds in its own way."""
        return self.model.compute_dtype.itemsize >= 4

    def refresh(self) -> None:
        """Nothing to do: the model is the one that is trained."""

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Completion]]:
        """Draw ``n`` completions of every prompt: result[prompt][sample].

        Token t of sample s of a prompt with key k uses the t-th number of the stream Philox(k, s), so 0 ≤ k < 2^64.
        What the slots cannot decode is computed anew for every token by the model's own forward: the same, and slow.
        Raises ConfigError for an empty prompt and for sequences beyond the model's positions; GuardStop where the
        model's logits are NaN.
        """
        assert len(keys) == len(prompts), "one key per prompt"
        _refuse(self.model.model.config.get_text_config(), prompts, params)
        with self.world.unsharded(self.model.holder):
            return self._generate(prompts, n, params, keys)

    def _generate(
        self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Completion]]:
        if not len(prompts) or n < 1:
            return [[] for _ in prompts]
        with torch.no_grad(), _evaluating(self.model.model), self.model.in_role(), self.model.autocast():
            if not self._can_use_slots():
                return self._recompute(prompts, n, params, keys)
            run = Run(self.model, prompts, n, params, keys, end_ids=self.end_ids, slots=self._fitting(prompts, params))
            with decoding(self.model.model, run.cache):
                for done in run.steps():
                    self._tell(done, run.total)
        return run.completions()

    def _fitting(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> int:
        longest = max(len(prompt) for prompt in prompts) + params.max_new_tokens
        return self.slots or fitting_slots(self.model, longest)

    def _tell(self, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(done, total)

    def _can_use_slots(self) -> bool:
        """Whether slots give what the model's own forward gives; asked once, and a no is said."""
        if self._slots_work is None:
            reason = decoding_obstacle(self.model.model) or decoding_fault(self.model)
            self._slots_work = reason is None
            if reason is not None:
                log.warning(
                    "%s cannot decode from a cache of ours: %s; every token is sampled from a whole forward of its "
                    "sequence, which is exact and slow",
                    type(self.model.model).__name__,
                    reason,
                )
        return self._slots_work

    def _recompute(
        self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Completion]]:
        """``generate`` without any cache: prompts of one length side by side, so that nothing is ever padded."""
        uniforms = torch.as_tensor(uniform_table(keys, n, params.max_new_tokens), device=self.model.device)
        order = sorted(range(n * len(prompts)), key=lambda q: len(prompts[q // n]))
        found: dict[int, Completion] = {}
        for _, of_one_length in groupby(order, key=lambda q: len(prompts[q // n])):
            sequences = list(of_one_length)
            at_once = self.slots or RECOMPUTED_AT_ONCE
            for start in range(0, len(sequences), at_once):
                rows = sequences[start : start + at_once]
                ids = torch.tensor([list(prompts[q // n]) for q in rows], device=self.model.device)
                found |= zip(rows, recompute(self.model, ids, uniforms[rows], params, self.end_ids), strict=True)
                self._tell(len(found), len(order))
        return [[found[p * n + s] for s in range(n)] for p in range(len(prompts))]


class Slots(NamedTuple):
    """What each slot knows on the device, views of one tensor [4, slots]; only the first ``running`` are in use."""

    sequence: Int[Tensor, "S"]  # which of the n × prompts sequences
    drawn: Int[Tensor, "S"]  # how many tokens it has drawn
    token: Int[Tensor, "S"]  # the last of them
    position: Int[Tensor, "S"]  # where that token goes


class Run:
    """One call of ``generate``. Sequence q is sample q % n of prompt q // n.

    The host keeps, per slot, numbers that change only when slots do, and reads one flag per slot and step from the
    device; everything per token stays in tensors.
    """

    def __init__(
        self,
        model: ScoredModel,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        keys: Sequence[int],
        *,
        end_ids: frozenset[int],
        slots: int,
    ) -> None:
        self.model, self.prompts, self.n, self.params = model, prompts, n, params
        self.total = n * len(prompts)
        self.capacity = min(slots, self.total)
        self.device = model.device
        # Long prompts first: neighbours in the queue are of similar length, and the last to start are the cheapest.
        order = sorted(range(len(prompts)), key=lambda p: -len(prompts[p]))
        self.queue = deque(p * n + s for p in order for s in range(n))
        self.uniforms = self._tensor(uniform_table(keys, n, params.max_new_tokens), torch.float64)
        self.tokens = torch.zeros(self.total, params.max_new_tokens, dtype=torch.long, device=self.device)
        self.logprobs = torch.zeros(self.total, params.max_new_tokens, dtype=torch.float64, device=self.device)
        self.lengths = [0] * self.total
        self.ends = self._tensor(sorted(end_ids), torch.long)
        self.end_ids = end_ids
        # One row more than there are slots: it holds the prompt of a group that was not admitted whole.
        longest = max(len(prompt) for prompt in prompts) + params.max_new_tokens
        self.cache = slot_cache(model, self.capacity + 1, longest)
        self.held: tuple[int, Float[Tensor, "1 V"]] | None = None
        self.table = torch.zeros(4, self.capacity, dtype=torch.long, device=self.device)
        self.slots = Slots(*self.table)
        self.running = 0
        self.finished = 0
        self.clock = 0  # decoding steps so far
        self.sequence: list[int] = []  # per running slot
        self.admitted: list[int] = []  # the clock when it was
        self.reach = 0  # the largest prompt length - admitted of the running slots: with the clock, their longest

    def steps(self) -> Iterator[int]:
        """Run until every sequence is done; yields how many are, each time that some are added."""
        while self.queue or self.running:
            before = self.finished
            free = self.capacity - self.running
            if self.queue and (not self.running or free >= max(1, REFILL_FRACTION * self.capacity)):
                self._admit(min(free, len(self.queue)))
            else:
                self._step()
            if self.finished > before:
                yield self.finished

    def completions(self) -> list[list[Completion]]:
        """The result; to be called when all steps have been taken."""
        found = []
        for ids, logprobs, length in zip(self.tokens.tolist(), self.logprobs.tolist(), self.lengths, strict=True):
            found.append(Completion(tuple(ids[:length]), tuple(logprobs[:length]), ids[length - 1] in self.end_ids))
        return [found[start : start + self.n] for start in range(0, self.total, self.n)]

    def _admit(self, count: int) -> None:
        """Give ``count`` free slots to the head of the queue: prefill the prompts, draw the first tokens."""
        start = self.running
        sequences = [self.queue.popleft() for _ in range(count)]
        self.sequence += sequences
        self.admitted += [self.clock] * count
        self.running += count
        lengths = [len(self.prompts[q // self.n]) for q in sequences]
        self.table[:, start : self.running] = self._tensor([sequences, [0] * count, [0] * count, lengths], torch.long)
        logits = []
        for bucket in self._buckets(sequences):
            logits.append(self._place(bucket, start))
            start += len(bucket)
        self._hold(logits[-1])
        self._measure()
        self._draw(torch.cat(logits), self.running - count)

    def _buckets(self, sequences: list[int]) -> Iterator[list[int]]:
        """Cut the sequences, in their order, into prefills of prompts of similar length; the held prompt alone."""
        bucket: list[int] = []
        prompts: list[int] = []
        for q in sequences:
            prompt = q // self.n
            if prompts and prompt != prompts[-1] and not self._fits([*prompts, prompt]):
                yield bucket
                bucket, prompts = [], []
            bucket.append(q)
            if not prompts or prompt != prompts[-1]:
                prompts.append(prompt)
        yield bucket

    def _fits(self, prompts: list[int]) -> bool:
        if self.held is not None and self.held[0] == prompts[0]:
            return False
        lengths = [len(self.prompts[p]) for p in prompts]
        columns = len(lengths) * max(lengths)
        return columns <= PREFILL_TOKENS and columns - sum(lengths) <= PREFILL_WASTE * columns

    def _place(self, bucket: list[int], start: int) -> Float[Tensor, "m V"]:
        """Fill the slots from ``start`` with the prompts of ``bucket``; logits of each slot's first token."""
        owners = [q // self.n for q in bucket]
        if self.held is not None and self.held[0] == owners[0]:
            target = torch.arange(start, start + len(bucket), device=self.device)
            source = torch.full_like(target, self.capacity)
            self.cache.copy(source, target, len(self.prompts[owners[0]]))
            return self.held[1].expand(len(bucket), -1)
        unique = list(dict.fromkeys(owners))
        where = {prompt: row for row, prompt in enumerate(unique)}
        source = self._tensor([where[p] for p in owners], torch.long)
        lengths = self._tensor([len(self.prompts[p]) for p in owners], torch.long)
        self.cache.begin_prefill(slice(start, start + len(bucket)), source, lengths)
        return prefill(self.model, [self.prompts[p] for p in unique], self.device)[source]

    def _hold(self, logits: Float[Tensor, "m V"]) -> None:
        """Keep the last admitted prompt if siblings still wait, so that it is not computed again."""
        prompt = self.sequence[-1] // self.n
        if not self.queue or self.queue[0] // self.n != prompt:
            self.held = None
        elif self.held is None or self.held[0] != prompt:
            source = torch.tensor([self.running - 1], device=self.device)
            self.cache.copy(source, torch.full_like(source, self.capacity), len(self.prompts[prompt]))
            self.held = prompt, logits[-1:].clone()

    def _step(self) -> None:
        """Feed every slot's last token and draw its next one."""
        n = self.running
        self.clock += 1
        positions = self.slots.position[:n]
        mask = self.cache.begin_decode(positions, self.reach + self.clock)
        logits = decode(self.model, self.slots.token[:n], positions, mask)
        positions += 1
        self._draw(logits, 0)

    def _measure(self) -> None:
        """How far the longest running sequence reaches; it grows by one a step until slots change."""
        lengths = (len(self.prompts[q // self.n]) - t for q, t in zip(self.sequence, self.admitted, strict=True))
        self.reach = max(lengths, default=0)

    def _draw(self, logits: Float[Tensor, "m V"], start: int) -> None:
        """Draw a token in each slot from ``start`` on, record it, and retire the slots that are done."""
        here = slice(start, self.running)
        sequence, drawn = self.slots.sequence[here], self.slots.drawn[here]
        tokens, logprobs = draw(logits, self.uniforms[sequence, drawn], self.params)
        self.tokens[sequence, drawn] = tokens
        self.logprobs[sequence, drawn] = logprobs.double()
        self.slots.token[here] = tokens
        drawn += 1
        done = (drawn == self.params.max_new_tokens) | (tokens[:, None] == self.ends).any(-1)
        flags = (done + 2 * logprobs.isnan()).tolist()
        if any(flags):
            self._retire(flags, start)

    def _retire(self, flags: list[int], start: int) -> None:
        """Take finished sequences out; running slots from the end fill their places, so that 0..n-1 stay in use."""
        if max(flags) > 1:
            prompt, sample = divmod(self.sequence[start + flags.index(max(flags))], self.n)
            raise GuardStop(f"the policy's logits are not finite while sampling completion {sample} of prompt {prompt}")
        holes = [start + i for i, flag in enumerate(flags) if flag]
        for slot in holes:
            self.lengths[self.sequence[slot]] = self.clock - self.admitted[slot] + 1
        self.finished += len(holes)
        left = self.running - len(holes)
        staying = sorted(set(range(left, self.running)) - set(holes))
        filled = [slot for slot in holes if slot < left]
        for source, target in zip(staying, filled, strict=True):
            self.sequence[target], self.admitted[target] = self.sequence[source], self.admitted[source]
        if staying:
            sources, targets = self._tensor(staying, torch.long), self._tensor(filled, torch.long)
            self.table[:, targets] = self.table[:, sources]
            self.cache.copy(sources, targets, self.reach + self.clock)
        del self.sequence[left:], self.admitted[left:]
        self.running = left
        self._measure()

    def _tensor(self, values: object, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)


def uniform_table(keys: Sequence[int], n: int, count: int) -> np.ndarray:
    """[len(keys) * n, count] numbers in [0, 1): row k * n + s is the stream Philox(key=(keys[k], s)).

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": streams of different keys are independent.
    """
    table = np.empty((len(keys) * n, count))
    for row in range(len(table)):
        key = np.array([keys[row // n], row % n], dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=table[row])
    return table


def _refuse(config: object, prompts: Sequence[Sequence[int]], params: SamplingParams) -> None:
    """Everything that can be said before the model is touched."""
    if params.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {params.max_new_tokens}; at least one token must be drawn")
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ConfigError(f"prompt {index} has no tokens; the model needs at least one (a BOS token, for instance)")
        if positions and len(prompt) + params.max_new_tokens > positions:
            raise ConfigError(
                f"prompt {index} has {len(prompt)} tokens; with max_new_tokens {params.max_new_tokens} that is more "
                f"than the model's {positions} positions: shorten the prompts or lower max_new_tokens"
            )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode; afterwards each in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
