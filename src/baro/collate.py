"""Samples to GroupBatches within a token budget.

How many completions share a row, which rows share a micro-batch, and in which order, is chosen here for speed alone:
every layout gives the same losses and gradients (tests/seams and tests/data prove it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baro.batch import Branch, GroupBatch, NoFields, Sample

FILLER_COLUMNS = 128
"""What starting one more micro-batch costs, in columns (measured: a 0.9M model on two cores)."""


@dataclass(frozen=True)
class Row:
    """A prompt with some of its completions, side by side in one row."""

    sample: int
    completions: tuple[int, ...]  # indices into the sample's completions
    length: int


@dataclass(frozen=True)
class Atom:
    """Rows that must stay in one micro-batch, and the completions whose units they carry."""

    rows: tuple[Row, ...]
    sample: int
    counted: tuple[int, ...]

    def skipped(self, samples: Sequence[Sample]) -> list[int]:
        """Those of the counted that are not computed."""
        return [i for i in self.counted if samples[self.sample].completions[i].skip]


def collate(
    samples: Sequence[Sample],
    *,
    micro_batch_tokens: int,
    hidden_size: int,
    atom: Literal["completion", "group"] = "group",
    per_row: int | None = None,
    term: str = "main",
) -> list[GroupBatch]:
    """Cut samples into micro-batches of at most ``micro_batch_tokens`` columns (one atom at least).

    ``per_row`` fixes the number of completions per row; None takes the cheapest of 1, 2, 4, ... for each sample by
    6·hidden_size·T + T² (linear layers and attention of a row of T columns). Raises TypeError for a partner that no
    Prepare has taken out.
    """
    left = next((sample.key for sample in samples for one in sample.completions if one.partner), None)
    if left is not None:
        raise TypeError(f"{left}: holds the completion of another prompt, which its Prepare has to take out")
    atoms = [a for i, sample in enumerate(samples) for a in _atoms(i, sample, atom, per_row, hidden_size)]
    atoms.sort(key=lambda a: max((row.length for row in a.rows), default=0))
    return [_build(samples, batch, term) for batch in _cut(atoms, micro_batch_tokens)]


def _cut(atoms: list[Atom], micro_batch_tokens: int) -> list[list[Atom]]:
    """Atoms of rising length into micro-batches: full, but with no more filler than another micro-batch would cost."""
    batches: list[list[Atom]] = []
    rows = real = 0
    for atom in atoms:
        widest = max((row.length for row in atom.rows), default=0)  # the widest so far: atoms are sorted
        length = sum(row.length for row in atom.rows)
        columns = (rows + len(atom.rows)) * widest
        if not batches or columns > micro_batch_tokens or columns - real - length > FILLER_COLUMNS:
            batches.append([])
            rows = real = 0
        batches[-1].append(atom)
        rows, real = rows + len(atom.rows), real + length
    return batches


def empty_batch(term: str) -> GroupBatch:
    """A micro-batch of one filler token that weighs nothing: what a rank runs when others still have work."""
    nothing = torch.zeros(0, dtype=torch.long)
    zeros = torch.zeros(1, 1, dtype=torch.long)
    ids = (zeros, zeros, zeros - 1, zeros, nothing, nothing, nothing, nothing, nothing)
    return GroupBatch(*ids, NoFields(), NoFields(), {}, term)


def _atoms(index: int, sample: Sample, atom: str, per_row: int | None, hidden_size: int) -> list[Atom]:
    everyone = tuple(range(len(sample.completions)))
    kept = [i for i in everyone if not sample.completions[i].skip]
    rows = _rows(index, sample, kept, per_row or _cheapest_per_row(sample, kept, hidden_size))
    if atom == "group" or not rows:
        return [Atom(rows=tuple(rows), sample=index, counted=everyone)]
    skipped = tuple(i for i in everyone if i not in kept)
    return [
        Atom(rows=(row,), sample=index, counted=row.completions + (skipped if row is rows[0] else ())) for row in rows
    ]


def _rows(index: int, sample: Sample, kept: list[int], per_row: int) -> list[Row]:
    prompt = len(sample.prompt_ids)
    chunks = [tuple(kept[i : i + per_row]) for i in range(0, len(kept), per_row)]
    return [Row(index, chunk, prompt + sum(len(sample.completions[i].ids) for i in chunk)) for chunk in chunks]


def _cheapest_per_row(sample: Sample, kept: list[int], hidden_size: int) -> int:
    def cost(per_row: int) -> int:
        return sum(6 * hidden_size * row.length + row.length**2 for row in _rows(0, sample, kept, per_row))

    choices = [1]
    while choices[-1] < len(kept):
        choices.append(min(2 * choices[-1], len(kept)))
    return min(choices, key=cost)


def _build(samples: Sequence[Sample], atoms: list[Atom], term: str) -> GroupBatch:
    atoms = sorted(atoms, key=lambda a: (a.sample, a.counted))  # a group's completions side by side, in their order
    rows = [row for atom in atoms for row in atom.rows]
    width = max([row.length for row in rows] + [1])
    shape = (max(len(rows), 1), width)
    branched = any(len(row.completions) > 1 for row in rows)
    columns = torch.arange(width).expand(shape)
    input_ids, group = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    # Filler after a single completion counts on: transformers takes a restart for a packed document and cuts there.
    position_ids = torch.zeros(shape, dtype=torch.long) if branched else columns.clone()
    branches = torch.zeros(shape, dtype=torch.long)
    group_ids = {s: g for g, s in enumerate(dict.fromkeys(row.sample for row in rows))}
    scored_at: list[Tensor] = []
    last_at: list[int] = []
    members: list[tuple[int, Branch]] = []
    for r, row in enumerate(rows):
        sample = samples[row.sample]
        start = prompt = len(sample.prompt_ids)
        input_ids[r, :prompt] = sample.prompt_ids
        position_ids[r, :prompt] = columns[r, :prompt]
        group[r, : row.length] = group_ids[row.sample]
        for b, i in enumerate(row.completions, start=1):
            one = sample.completions[i]
            end = start + len(one.ids)
            input_ids[r, start:end] = one.ids
            position_ids[r, start:end] = prompt + torch.arange(len(one.ids))
            branches[r, start:end] = b
            scored_at.append(r * width + _predictors(one, prompt, start))
            last_at.append(r * width + (start + one.last if one.last >= 0 else prompt - 1))
            members.append((group_ids[row.sample], one))
            start = end
    return GroupBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        group=group,
        branch=branches,
        scored_at=_cat(scored_at),
        targets=_cat([one.ids[one.scored] for _, one in members]),
        completion_of=torch.repeat_interleave(torch.tensor([len(at) for at in scored_at], dtype=torch.long)),
        group_of=torch.tensor([g for g, _ in members], dtype=torch.long),
        last_at=torch.tensor(last_at, dtype=torch.long),
        token_fields=_stack_token_fields([one for _, one in members]),
        completion_fields=_stack_fields([one for _, one in members]),
        units=_units(samples, atoms, sum(len(at) for at in scored_at)),
        term=term,
        skipped_fields=dict(
            _stack_fields([samples[a.sample].completions[i] for a in atoms for i in a.skipped(samples)])
        ),
    )


def _predictors(one: Branch, prompt: int, start: int) -> Tensor:
    """The columns whose hidden states predict the scored tokens; the first token is predicted by the prompt's last."""
    at = start - 1 + one.scored.nonzero().squeeze(-1)
    at[at == start - 1] = prompt - 1
    assert (at >= 0).all(), "the first token of a sample without a prompt cannot be scored"
    return at


def _units(samples: Sequence[Sample], atoms: list[Atom], tokens: int) -> dict[str, float]:
    completions = sum(len(row.completions) for atom in atoms for row in atom.rows)
    skipped = sum(len(atom.skipped(samples)) for atom in atoms)
    units = {"tokens": float(tokens), "completions": float(completions)} | (
        {"skipped": float(skipped)} if skipped else {}
    )
    for atom in atoms:
        for i in atom.counted:
            for name, amount in samples[atom.sample].completions[i].units.items():
                units[name] = units.get(name, 0.0) + amount
    return units


def _stack_token_fields(members: list[Branch]) -> dict[str, Tensor]:
    if not members:  # skipped completions alone, which count and are not computed
        return NoFields()
    names = members[0].token_fields
    return {name: torch.cat([one.token_fields[name] for one in members]) for name in names}


def _stack_fields(members: list[Branch]) -> dict[str, Tensor]:
    if not members:
        return NoFields()
    names = members[0].fields
    return {name: torch.tensor([one.fields[name] for one in members], dtype=torch.float32) for name in names}


def _cat(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)
