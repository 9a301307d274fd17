"""Several reward sources as one, which also says by how much they differ: see functional/ensembles.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from baro.errors import ConfigError, check_failures
from baro.functional.ensembles import PENALTY, Combine, Scale, combined_score, common_scale, mean_and_variance
from baro.protocols import RewardSource
from baro.records import Rollout, Score
from baro.rewards.learned import LearnedReward


@dataclass(frozen=True)
class Member:
    """A source of an ensemble, and its mean and sd on the samples on which all members were measured."""

    source: RewardSource
    scale: Scale


class EnsembleReward:
    """The mean of its members' scores, the least of them, or their mean less λ times their variance.

    Members are centred and scaled first, and the result is in their common units; ``Score.std`` is the sd of the
    members in these units. A member that fails fails the score. Members without an opinion have no part in it, and
    where none has one there is none. The order of the members changes nothing.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        name: str,
        combine: Combine = "mean",
        penalty: float | None = None,
        scale: Scale | None = None,
    ) -> None:
        self.members, self.name, self.combine = list(members), name, combine
        self.penalty = PENALTY if penalty is None else penalty
        self.scale = scale or common_scale([member.scale for member in self.members])

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return self.start_scoring(rollouts)()

    def start_scoring(self, rollouts: Sequence[Rollout]) -> Callable[[], list[Score]]:
        """Begin to score; what is returned waits for the scores. Members that wait for others do so side by side."""
        started = [_started(member.source, rollouts) for member in self.members]

        def finish() -> list[Score]:
            found = [finish_one() for finish_one in started]
            return [self._score(scores) for scores in zip(*found, strict=True)]

        return finish

    def with_(self, combine: Combine, penalty: float | None) -> EnsembleReward:
        """The same members, combined in another way."""
        return EnsembleReward(self.members, name=self.name, combine=combine, penalty=penalty)

    def scaled_members(self) -> list[EnsembleReward]:
        """The members one by one, each in the ensemble's units."""
        return [
            EnsembleReward([member], name=f"{self.name}/{number}", scale=self.scale)
            for number, member in enumerate(self.members)
        ]

    def _score(self, scores: Sequence[Score]) -> Score:
        """One completion's score from those of the members."""
        if failed := sorted(one.error for one in scores if one.error is not None):
            return Score(None, f"{self.name}: {failed[0]}", std=math.nan)
        known = [
            member.scale.scaled(one.value)
            for member, one in zip(self.members, scores, strict=True)
            if one.value is not None
        ]
        if not known:
            return Score(None, std=math.nan)
        value = combined_score(known, combine=self.combine, penalty=self.penalty)
        spread = math.sqrt(mean_and_variance(known)[1])
        return Score(self.scale.mean + self.scale.sd * value, std=self.scale.sd * spread)


def combined_as(source: RewardSource, by: str, combine: Combine | None, penalty: float | None) -> RewardSource:
    """One source, an ensemble combined as asked. ConfigError where one model is to be combined."""
    if isinstance(source, EnsembleReward):
        return source.with_(combine or "mean", penalty)
    if combine is not None:
        raise ConfigError(
            f"{by}: is one reward model, and combine is for several; leave combine out, or train the run with "
            "members: 4"
        )
    return source


def measured(
    sources: Sequence[RewardSource], rollouts: Sequence[Rollout], *, where: str
) -> tuple[list[Scale], list[bool]]:
    """Each source's mean and sd on the rollouts that all of them can score, and which these are.

    ``where`` names their file in errors: RewardError where too many scores fail, ConfigError for a source that gives
    all of them the same score.
    """
    found = [source.score(rollouts) for source in sources]
    for source, scores in zip(sources, found, strict=True):
        check_failures([one.error for one in scores if one.error is not None], len(scores), source.name, "scores")
    kept = [all(scores[k].value is not None for scores in found) for k in range(len(rollouts))]
    scales = []
    for source, scores in zip(sources, found, strict=True):
        values = [one.value for one, known in zip(scores, kept, strict=True) if known and one.value is not None]
        try:
            scales.append(Scale.of(values))
        except ValueError as error:
            raise ConfigError(f"{where}: {source.name} cannot be scaled on it: its {error}; give other rows") from None
    return scales, kept


def scales_of_training(names: Sequence[str], sources: Sequence[RewardSource]) -> list[Scale]:
    """Reward models' means and sds on the rows that they were trained on. ConfigError where these are not the same."""
    found: list[Scale] = []
    rows: dict[str, str] = {}
    for name, source in zip(names, sources, strict=True):
        kept = source.model.measured if isinstance(source, LearnedReward) else None
        if kept is None:
            raise ConfigError(f"{name}: does not say on which rows its scores have which mean; give scaled_on: FILE")
        rows[kept.sha256] = name
        found.append(Scale(kept.mean, kept.sd))
    if len(rows) > 1:
        one, other, *_ = rows.values()
        raise ConfigError(
            f"{one} and {other} were trained on different rows, so that their scores cannot be compared; give "
            "scaled_on: FILE, rows on which both are centred and scaled"
        )
    return found


def check_same_template(names: Sequence[str], sources: Sequence[RewardSource]) -> None:
    """Raises ConfigError where the models among an ensemble's members read other tokens than each other."""
    both = zip(names, sources, strict=True)
    read = {one.template.fingerprint: name for name, one in both if isinstance(one, LearnedReward)}
    if len(read) > 1:
        one, other, *_ = read.values()
        raise ConfigError(
            f"{one} and {other} have different tokenizers or templates, and an ensemble's members share one; make two "
            "rewards of them, or train both from one model"
        )


def _started(source: RewardSource, rollouts: Sequence[Rollout]) -> Callable[[], list[Score]]:
    start: Callable[[Sequence[Rollout]], Callable[[], list[Score]]] | None = getattr(source, "start_scoring", None)
    return (lambda: source.score(rollouts)) if start is None else start(rollouts)
