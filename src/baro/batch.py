"""The one batch: prompts with their completions, as tokens.

``Sample`` is ragged and small: what sources keep, reorder and store. ``GroupBatch`` is a micro-batch made of samples by
``data.collate``: siblings share their prompt's computation, and only scored tokens exist.

Shapes: R rows, T columns, N scored tokens, C completions, G prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Branch:
    """One completion of a sample.

    ids: the tokens after the prompt, the end-of-turn token included. scored: which of them carry loss (only assistant
    tokens and their end-of-turn tokens do). last: index in ``ids`` of the last end-of-turn token, else of the last
    token; -1 for no token at all. token_fields: one value per scored token, in order. fields: one value per completion.
    units: what this completion adds to each denominator besides ``tokens`` and ``completions``, which are counted.
    skip: it adds its units, and its fields to what is told, and is not computed. partner: it answers another prompt,
    and Prepare takes it out.
    """

    ids: Int[Tensor, "L"]
    scored: Bool[Tensor, "L"]
    last: int
    token_fields: Mapping[str, Float[Tensor, "S"]] = field(default_factory=dict)
    fields: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, float] = field(default_factory=dict)
    skip: bool = False
    partner: bool = False

    @property
    def scored_tokens(self) -> int:
        return int(self.scored.sum())

    def with_(
        self,
        *,
        token_fields: Mapping[str, Tensor] | None = None,
        fields: Mapping[str, float] | None = None,
        units: Mapping[str, float] | None = None,
        skip: bool | None = None,
    ) -> Branch:
        """A copy with more fields and units."""
        return replace(
            self,
            token_fields={**self.token_fields, **(token_fields or {})},
            fields={**self.fields, **(fields or {})},
            units={**self.units, **(units or {})},
            skip=self.skip if skip is None else skip,
        )


@dataclass(frozen=True)
class Sample:
    """One prompt with its completions. ``key`` names the row that it came from, for messages and ledgers."""

    prompt_ids: Int[Tensor, "P"]
    completions: tuple[Branch, ...]
    key: str = ""

    def with_completions(self, completions: list[Branch] | tuple[Branch, ...]) -> Sample:
        return replace(self, completions=tuple(completions))


def branch(ids: list[int] | Tensor, *, scored: list[bool] | Tensor | None = None, last: int | None = None) -> Branch:
    """A Branch from plain lists; all tokens scored and the last one final unless told otherwise."""
    ids = torch.as_tensor(ids, dtype=torch.long)
    marks = torch.ones(len(ids), dtype=torch.bool) if scored is None else torch.as_tensor(scored, dtype=torch.bool)
    return Branch(ids=ids, scored=marks, last=len(ids) - 1 if last is None else last)


def flat(samples: Sequence[Sample], name: str) -> Float[Tensor, "N"]:
    """A token field of all scored tokens, in the order of samples, completions and tokens."""
    parts = [one.token_fields[name] for sample in samples for one in sample.completions]
    return torch.cat(parts) if parts else torch.zeros(0)


def with_flat(samples: Sequence[Sample], values: Mapping[str, Float[Tensor, "N"]]) -> list[Sample]:
    """The samples with more token fields, each given as ``flat`` gives it back. Raises ValueError at a wrong length."""
    lengths = [one.scored_tokens for sample in samples for one in sample.completions]
    for name, one in values.items():
        if len(one) != sum(lengths):
            raise ValueError(f"{name} has {len(one)} values, and the samples have {sum(lengths)} scored tokens")
    parts = {name: iter(one.split(lengths)) for name, one in values.items()}
    return [
        sample.with_completions(
            [one.with_(token_fields={name: next(part) for name, part in parts.items()}) for one in sample.completions]
        )
        for sample in samples
    ]


@dataclass(frozen=True)
class GroupBatch:
    """Prompts with their completions; siblings share their prompt's computation.

    R rows of at most T columns, G prompts, C completions, N scored tokens. A query sees a key iff both are of one
    group, the key's branch is 0 or its own, and the key's column is not later; every column sees itself.
    """

    input_ids: Int[Tensor, "R T"]
    position_ids: Int[Tensor, "R T"]  # every completion starts again at len(prompt)
    group: Int[Tensor, "R T"]  # which prompt a column belongs to; -1 filler
    branch: Int[Tensor, "R T"]  # 0 prompt, 1..K completion, counted within the row
    scored_at: Int[Tensor, "N"]  # flat index (row * T + column) of the hidden state that predicts targets[n]
    targets: Int[Tensor, "N"]
    completion_of: Int[Tensor, "N"]  # 0..C-1, sorted
    group_of: Int[Tensor, "C"]  # sorted
    last_at: Int[Tensor, "C"]  # where a last-token reward head reads
    token_fields: dict[str, Float[Tensor, "N"]]
    completion_fields: dict[str, Float[Tensor, "C"]]
    units: dict[str, float]  # what this batch adds to each denominator; "tokens" is N, "completions" C
    term: str = "main"  # which loss term it is for ("rollout", "ptx", ...)
    skipped_fields: dict[str, Float[Tensor, "S"]] = field(default_factory=dict)  # of those that are not computed

    @property
    def lengths(self) -> Int[Tensor, "C"]:
        """Scored tokens of each completion."""
        return torch.bincount(self.completion_of, minlength=len(self.group_of))

    @property
    def real_tokens(self) -> int:
        """Columns that are not filler."""
        return int((self.group >= 0).sum())

    @property
    def branched(self) -> bool:
        """Whether any row holds more than one completion, so that plain causal attention would be wrong."""
        return bool((self.branch > 1).any())

    def visible(self, window: int | None = None) -> Bool[Tensor, "R T T"]:
        """[r, q, k]: whether the query in column q sees the key in column k, less than ``window`` positions back."""
        same_group = self.group[:, :, None] == self.group[:, None, :]
        own_branch = (self.branch[:, None, :] == 0) | (self.branch[:, None, :] == self.branch[:, :, None])
        columns = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        not_later = columns[None, :] <= columns[:, None]
        itself = torch.eye(len(columns), dtype=torch.bool, device=columns.device)
        seen = same_group & own_branch & not_later
        if window is not None:  # by position: a second completion sits at later columns
            seen &= self.position_ids[:, :, None] - self.position_ids[:, None, :] < window
        return seen | itself

    def unbranched(self, limit: int | None = None) -> GroupBatch:
        """The same tokens with one completion per row, the first ``limit`` completions only; units stay as they are."""
        width = self.input_ids.shape[1]
        row = self.last_at[:limit] // width  # [C]
        if not len(row):
            return self
        number = torch.arange(len(row), device=row.device)
        own = number - torch.searchsorted(row, row) + 1  # branches are numbered within their row
        kept = (self.group[row] >= 0) & ((self.branch[row] == 0) | (self.branch[row] == own[:, None]))  # [C, T]
        order = kept.int().argsort(dim=1, descending=True, stable=True)[:, : int(kept.sum(1).max())]  # [C, T']
        column = kept.cumsum(1) - 1  # where each kept column goes
        scored = self.completion_of < len(row)
        completion_of, scored_at = self.completion_of[scored], self.scored_at[scored] % width
        real = kept.gather(1, order)
        return replace(
            self,
            input_ids=self.input_ids[row].gather(1, order) * real,
            position_ids=torch.arange(order.shape[1], device=row.device).expand_as(order),
            group=self.group[row].gather(1, order).where(real, -1),
            branch=(self.branch[row].gather(1, order) > 0).long() * real,
            scored_at=completion_of * order.shape[1] + column[completion_of, scored_at],
            targets=self.targets[scored],
            completion_of=completion_of,
            group_of=self.group_of[:limit],
            last_at=number * order.shape[1] + column[number, self.last_at[:limit] % width],
            token_fields={name: values[scored] for name, values in self.token_fields.items()},
            completion_fields={name: values[:limit] for name, values in self.completion_fields.items()},
        )

    def to(self, device: torch.device | str) -> GroupBatch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in self.__dict__.items() if isinstance(value, Tensor)
        }
        for name in ("token_fields", "completion_fields", "skipped_fields"):
            fields = getattr(self, name)
            moved[name] = (
                NoFields(device) if isinstance(fields, NoFields) else {k: v.to(device) for k, v in fields.items()}
            )
        return replace(self, **moved)


class NoFields(dict[str, Tensor]):
    """Every field of a batch without tokens: an objective need not know that it is one."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.device = device

    def __missing__(self, name: str) -> Tensor:
        return torch.zeros(0, device=self.device)


def pack_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples as a State: a few long tensors, and JSON for what is per completion."""
    branches = [one for sample in samples for one in sample.completions]
    names = list(branches[0].token_fields) if branches else []
    return {
        "keys": [sample.key for sample in samples],
        "prompt_ids": _cat([sample.prompt_ids for sample in samples]),
        "prompt_lengths": torch.tensor([len(sample.prompt_ids) for sample in samples], dtype=torch.long),
        "completions": torch.tensor([len(sample.completions) for sample in samples], dtype=torch.long),
        "ids": _cat([one.ids for one in branches]),
        "scored": _cat([one.scored for one in branches], torch.bool),
        "lengths": torch.tensor([len(one.ids) for one in branches], dtype=torch.long),
        "last": torch.tensor([one.last for one in branches], dtype=torch.long),
        "skip": torch.tensor([one.skip for one in branches], dtype=torch.bool),
        "partner": torch.tensor([one.partner for one in branches], dtype=torch.bool),
        "token_fields": {name: torch.cat([one.token_fields[name] for one in branches]) for name in names},
        "fields": [{k: None if v != v else v for k, v in one.fields.items()} for one in branches],  # JSON has no NaN
        "units": [dict(one.units) for one in branches],
    }


def unpack_samples(state: Mapping[str, Any]) -> list[Sample]:
    """The samples that ``pack_samples`` packed."""
    ids = state["ids"].split(state["lengths"].tolist())
    scored = state["scored"].split(state["lengths"].tolist())
    tokens = [int(marks.sum()) for marks in scored]
    token_fields = {name: values.split(tokens) for name, values in state["token_fields"].items()}
    branches = [
        Branch(
            ids=ids[i],
            scored=scored[i],
            last=int(state["last"][i]),
            token_fields={name: parts[i] for name, parts in token_fields.items()},
            fields={k: float("nan") if v is None else v for k, v in state["fields"][i].items()},
            units=state["units"][i],
            skip=bool(state["skip"][i]),
            partner=bool(state["partner"][i]),
        )
        for i in range(len(tokens))
    ]
    prompts = state["prompt_ids"].split(state["prompt_lengths"].tolist())
    samples, taken = [], 0
    for key, prompt, count in zip(state["keys"], prompts, state["completions"].tolist(), strict=True):
        samples.append(Sample(prompt, tuple(branches[taken : taken + count]), key))
        taken += count
    return samples


def _cat(parts: list[Tensor], dtype: torch.dtype = torch.long) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, dtype=dtype)
