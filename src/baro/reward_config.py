"""Who scores, and the terms of a reward: models, functions, verifiers. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from baro.config import Config
from baro.declared import Object, Records, Scorer, check_names, default_name, is_object
from baro.functional.ensembles import Combine
from baro.judge_config import PairJudgeConfig, RubricConfig
from baro.verifier_config import VerifierConfig


class ScoredBy(Config):
    """Who scores: one source, or several whose scores are combined. An ensemble run is several."""

    by: Scorer | list[Scorer] | None = Field(
        None, description="a reward run or folder, or a function module:NAME; or a list of them, which are combined"
    )
    verifier: VerifierConfig | None = Field(
        None, description="a verifier in place of by: its name, or a block with its name and its options"
    )
    rubric: RubricConfig | None = Field(
        None, description="in place of by: a chat model that scores by criteria, a block with model or server"
    )
    combine: Combine | None = Field(
        None, description="of an ensemble: the members' mean (unless given), the worst of them, or mean less variance"
    )
    penalty: float | None = Field(
        None, gt=0, description="λ of combine: variance, in units of the members' sd; 0.5 unless given"
    )
    scaled_on: Records | None = Field(
        None,
        description="of a list: rows on which members are centred and scaled; what they learned from unless given",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ScoredBy:
        named = [
            name
            for name in ("by", "verifier", "rubric", "judge", "constitution")
            if getattr(self, name, None) is not None
        ]
        if len(named) != 1:
            others = {
                "rubric": "a chat model that scores",
                "judge": "one who compares answers",
                "constitution": "principles to compare answers by",
            }
            more = "".join(f", or {key} ({what})" for key, what in others.items() if key in type(self).model_fields)
            raise ValueError(f"give either by (a reward run or a function) or verifier (the name of one){more}")
        members = [name for name in ("combine", "penalty", "scaled_on") if getattr(self, name) is not None]
        if self.by is None and members:
            raise ValueError(f"{members[0]} is for several members, and a {named[0]} is one; leave it out")
        return self

    @model_validator(mode="after")
    def _members_fit_together(self) -> ScoredBy:
        several = isinstance(self.by, list)
        if isinstance(self.by, list) and len(self.by) < 2:
            raise ValueError("by is a list of one, and an ensemble has two members at least; name it without a list")
        if several and self.scaled_on is None and (functions := [one for one in self.sources if is_object(one)]):
            raise ValueError(
                f"scaled_on is missing, and nothing says what zero and unit the scores of {functions[0]} have; name "
                "rows on which to centre and scale the members"
            )
        if not several and self.scaled_on is not None:
            raise ValueError("scaled_on is for a list in by (an ensemble run has its scales with it); leave it out")
        if self.combine is not None and not several and _is_one(str(self.by)):
            raise ValueError(f"combine is for several members, and {self.by} is one; leave it out, or give a list")
        if self.penalty is not None and self.combine != "variance":
            raise ValueError("penalty is used by combine: variance; leave it out, or set that")
        return self

    @property
    def sources(self) -> list[str]:
        """What is named, one or several; none where a verifier scores."""
        return [self.by] if isinstance(self.by, str) else list(self.by or [])

    @property
    def own_name(self) -> str:
        """What logs call it where no other name was given."""
        if self.verifier is not None:
            return self.verifier.name
        if self.rubric is not None:
            return self.rubric.called
        return default_name(self.by) if isinstance(self.by, str) else "ensemble"


def _is_one(by: str) -> bool:
    """Whether what gives scores is known to be one source already: a function, or one model on this disk."""
    folders = [folder for folder in (Path(by, "model"), Path(by)) if (folder / "config.json").exists()]
    return is_object(by) or (bool(folders) and not (folders[0] / "ensemble.json").exists())


class RewardTerm(ScoredBy):
    """One term of a reward; its unweighted value is logged as ``objective/score/<name>``."""

    judge: Object | PairJudgeConfig | None = Field(
        None,
        description="in place of by: module:NAME with compare(pairs), or a block with a chat model; the share of its "
        "siblings an answer beats",
    )
    weight: float = Field(1.0, description="what its score is multiplied with in the sum")
    name: str | None = Field(
        None,
        description="what logs call it; unless given, the run's name, NAME of module:NAME, the verifier's, or ensemble",
    )

    @property
    def own_name(self) -> str:
        """What logs call it where no other name was given."""
        if self.judge is None:
            return super().own_name
        return default_name(self.judge) if isinstance(self.judge, str) else self.judge.called

    @property
    def called(self) -> str:
        """Its name in logs."""
        return self.own_name if self.name is None else self.name


def check_terms(terms: Sequence[RewardTerm], key: str = "rewards") -> None:
    """Raise ValueError where two terms of a sum have one name, which would be one column of every log."""
    check_names([term.called for term in terms], key, "give one of them another name, name: NAME")
