"""What leaves a quantity undefined, as a code with its values, so that it can be told in any language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

Told = Union[int, str, "Undefined"]
"""A number, one already rounded as it is read, or the reason behind the reason."""

REASONS: Mapping[str, str] = {
    "no_two_ratings": "no item has two ratings, so no two can agree",
    "no_common_item": "no item was rated by both raters",
    "same_category": "both raters named the same one category throughout; chance alone would agree as much",
    "no_items": "no items; Fleiss' kappa needs equally many ratings on every item (alpha does not)",
    "unequal_ratings": (
        "{least} to {most} ratings; Fleiss' kappa needs equally many ratings on every item (alpha does not)"
    ),
    "one_category": "only one category was used; chance alone would agree as much",
    "no_scale": "only one category was used, which leaves no scale to agree on",
    "one_value": "every rating that can be compared is {value}; nothing varied to agree about",
    "too_few_ranked": "{n} ranked; an order needs at least two",
    "first_tied": "the first list ties all {n}",
    "second_tied": "the second list ties all {n}",
    "too_few_to_concord": "{raters} raters and {items} items; concordance needs at least two of each",
    "all_tied": "every rater ties all items, which is no order to agree on",
    "in_resamples": "undefined in {n} of {tried} resamples, first because: {because}",
    "unvaried": "no resample varies: each gives {value} (n = {n}), which says nothing of its interval",
    "one_part": "all judgments are of one part of a sitting; there is nothing to compare them with",
    "same_length": "no two answers that were compared differ in length",
    "below_chance": "raters agree in {share} of pairs; independent errors never push it below 50 %",
    "nothing_counted": "nothing to count yet",
    "no_ranking_twice": "no task was ranked by two raters in a way that can be compared",
}
"""The English sentence of each code; its values stand in braces."""


class Undefined(ValueError):
    """The data leave the quantity undefined; ``code`` is one of REASONS and ``values`` fill its sentence."""

    def __init__(self, code: str, **values: Told) -> None:
        self.code, self.values = code, values
        super().__init__(REASONS[code].format(**values))


class Unvaried(Undefined):
    """No resample varies, so that a bootstrap would claim certainty: the value is known, an interval is not.

    value: what every resample gives. n: the items or groups that it rests on.
    """

    def __init__(self, value: float, n: int) -> None:
        self.value, self.n = value, n
        super().__init__("unvaried", value=f"{value:.3f}", n=n)
