"""Samples as a reward model's losses want them: scores of the wanted criteria, orders without doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from baro.batch import Sample
from baro.data.encode import encode_comparisons
from baro.data.formats import Loaded
from baro.data.ledger import Ledger
from baro.data.template import Template
from baro.errors import DataError


def rated(sample: Sample, criteria: Mapping[str, float], *, squashed: bool) -> Sample:
    """Completions with the wanted scores alone, and a rank by their weighted sum. Raises DataError for missing ones."""
    done = []
    for number, one in enumerate(sample.completions, start=1):
        wanted = {name: one.fields[f"score/{name}"] for name in criteria if f"score/{name}" in one.fields}
        missing = [name for name in criteria if name not in wanted]
        if missing:
            raise DataError(
                f"{sample.key}: completion {number} has no score for {missing[0]!r}; give it one, leave the row out, "
                "or name other criteria"
            )
        outside = [name for name, score in wanted.items() if squashed and not 0 <= score <= 1]
        if outside:
            raise DataError(
                f"{sample.key}: completion {number} has {outside[0]!r} at {wanted[outside[0]]}, and sigmoid needs "
                "scores from 0 to 1; scale them, or leave sigmoid out"
            )
        rank = -sum(weight * wanted[name] for name, weight in criteria.items())
        fields = {f"score/{name}": score for name, score in wanted.items()} | {"rank": rank}
        done.append(replace(one, fields=fields))
    return sample.with_completions(done)


def encode_order(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Iterator[Sample]:
    """The same for a loss of whole orders. Raises DataError for a row with doubt or a margin."""
    for sample in encode_comparisons(loaded, template, max_length, ledger):
        first = sample.completions[0].fields
        if first["p_chosen"] != 1.0 or first["margin"] != 0.0:
            raise DataError(
                f"{sample.key}: has p_chosen or margin, which loss plackett_luce cannot take into account; "
                "use loss bradley_terry"
            )
        yield sample
