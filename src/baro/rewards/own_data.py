"""Verifiers tried on their own data before a run: what a row says is right, they must call right."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise

from baro.bar import in_parts
from baro.errors import MAX_ERROR_FRACTION, DataError
from baro.records import Prompt, Rollout, said
from baro.reward_config import ScoredBy
from baro.rewards.verified import Verified
from baro.rewards.verifiers import VerifierReward, load_verifier

log = logging.getLogger("baro")
CHUNK = 256
CROSSED = 100
"""Rows whose right answers are tried on other rows: a verifier that calls all of these right tells nothing apart."""
FEWEST_CROSSED = 5
"""Pairs of rows with different right answers below which nothing is concluded from that."""


def try_on_own_data(
    asked: Mapping[str, ScoredBy],
    prompts: Sequence[Prompt],
    keys: Sequence[str],
    max_error_fraction: float = MAX_ERROR_FRACTION,
) -> None:
    """DataError for the first verifier that does not fit the rows it is to verify.

    It calls a row's own answer wrong, it cannot look at more than ``max_error_fraction`` of them, or it calls the
    answers of other rows right as well. Fewer rows that it cannot look at are told in the log. ``keys``: file:line.
    """
    for name, one in asked.items():
        if one.verifier is not None:
            _try(load_verifier(one.verifier, name=name), prompts, keys, max_error_fraction)


def _try(reward: VerifierReward, prompts: Sequence[Prompt], keys: Sequence[str], max_error_fraction: float) -> None:
    own = [reward.verifier.right(prompt.extra) for prompt in prompts]
    found = _checked(reward, [_answered(prompt, text or "") for prompt, text in zip(prompts, own, strict=True)])
    failed = [i for i, one in enumerate(found) if one.error is not None]
    wrong = [i for i, one in enumerate(found) if own[i] is not None and one.score is not None and one.score < 1]
    if wrong:
        raise DataError(
            f"{keys[wrong[0]]}: {reward.name} calls the row's own answer wrong ({found[wrong[0]].reason}), and so "
            f"{len(wrong)} of {len(prompts)} rows; mend or remove them, or take a verifier or options that fit them"
        )
    if failed:
        told = f"{keys[failed[0]]}: {found[failed[0]].error}, and so {len(failed)} of {len(prompts)} rows"
        if len(failed) > max_error_fraction * len(prompts):
            raise DataError(f"{told}; name the right column with answer: NAME, or mend these rows")
        log.warning("%s; their completions get no score", told)
    _refuse_one_that_accepts_everything(reward, prompts, keys, own, [one.read for one in found])
    if known := sum(text is not None and one.error is None for text, one in zip(own, found, strict=True)):
        log.info("%s: calls the answers of its own data right (%d rows)", reward.name, known)


def _refuse_one_that_accepts_everything(
    reward: VerifierReward,
    prompts: Sequence[Prompt],
    keys: Sequence[str],
    own: Sequence[str | None],
    read: Sequence[str | None],
) -> None:
    """``read``: what was taken for each row's answer, where the verifier says so: 18 and 18.0 are one answer."""
    known = [i for i, text in enumerate(own) if text is not None]
    answers = [own[i] if read[i] is None else read[i] for i in range(len(own))]
    pairs = [(i, k) for i, k in pairwise(known) if answers[i] != answers[k]][:CROSSED]
    found = _checked(reward, [_answered(prompts[i], str(own[k])) for i, k in pairs])
    if len(pairs) >= FEWEST_CROSSED and all(one.score is not None and one.score >= 1 for one in found):
        raise DataError(
            f"{keys[pairs[0][0]]}: {reward.name} calls the answer of {keys[pairs[0][1]]} right here too, and so "
            f"in all of {len(pairs)} rows that were tried; it tells right from wrong in none of them"
        )


def _answered(prompt: Prompt, text: str) -> Rollout:
    return Rollout(prompt.prompt, said(text), extra=prompt.extra)


def _checked(reward: VerifierReward, rollouts: Sequence[Rollout]) -> list[Verified]:
    return [one for part in in_parts(rollouts, CHUNK, f"{reward.name}: its own data") for one in reward.check(part)]
