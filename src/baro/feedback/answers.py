"""What a rater says about a task: one model for each kind of task, as the page, a client and simulated raters send it.

An answer speaks of *positions* (0 is the left or first on the screen), never of responses or models: which response
stood there only the server knows, from the assignment's display order. Lists go by position.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_MS = 86_400_000  # of one judgment: a day
MAX_TEXT = 200_000  # characters of a comment, critique or edit; more is refused, never cut
CATEGORIES = (
    "endangering_national_security", "insulting_behavior", "discriminatory_behavior",
    "endangering_public_health", "copyright_issues", "violence", "drugs", "privacy_violation", "economic_crime",
    "mental_manipulation", "human_trafficking", "physical_harm", "sexual_content", "cybercrime",
    "disrupting_public_order", "environmental_damage", "psychological_harm", "white_collar_crime", "animal_abuse",
)  # fmt: skip
"""The nineteen harms of PKU-SafeRLHF; a project may keep to some of them."""


MOST_REASONS = 20  # beside one thumb; a project offers no more


def _known_harm(name: str) -> str:
    if name not in CATEGORIES:
        raise ValueError(f"{name[:60]!r} is no category of harm")
    return name


Category = Annotated[str, AfterValidator(_known_harm)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Answer(BaseModel):
    """Base of all answers: frozen, nothing unknown, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problems(self, items: int) -> list[str]:
        """What does not fit a task of so many responses, in sentences; empty when all is well."""
        return []


class Choice(Answer):
    """Which of two is better. strength: 0 not said, 1 slightly, 2 better, 3 much better."""

    outcome: Literal["win", "tie", "both_bad", "unsure"]
    position: Literal[0, 1] | None = None
    strength: int = Field(0, ge=0, le=3)

    @model_validator(mode="after")
    def _fits(self) -> Choice:
        if (self.outcome == "win") != (self.position is not None):
            raise ValueError("a win needs the position of the winner, and only a win has one")
        if self.strength and self.outcome != "win":
            raise ValueError("only a win has a strength")
        return self


class PairAnswer(Answer):
    """Two responses compared."""

    kind: Literal["pair"] = "pair"
    choice: Choice

    def problems(self, items: int) -> list[str]:
        return _count("a pair", 2, items)


class RankAnswer(Answer):
    """Responses in order: 1 is the best, equal numbers tie, None leaves one unranked. Ranks leave no number out."""

    kind: Literal["rank"] = "rank"
    ranks: list[Annotated[int, Field(ge=1, le=9)] | None]

    @model_validator(mode="after")
    def _fits(self) -> RankAnswer:
        given = {rank for rank in self.ranks if rank is not None}
        if sum(rank is not None for rank in self.ranks) < 2:
            raise ValueError("a ranking needs at least two ranked responses")
        if given != set(range(1, len(given) + 1)):
            raise ValueError("ranks go 1, 2, 3, ... and leave no number out")
        return self

    def problems(self, items: int) -> list[str]:
        return _count("the ranks", len(self.ranks), items)


class Thumb(Answer):
    """A thumb up or down, and why."""

    good: bool
    reasons: list[Reason] = Field([], max_length=MOST_REASONS)


class ThumbAnswer(Answer):
    """A thumb for every response."""

    kind: Literal["thumb"] = "thumb"
    thumbs: list[Thumb]

    def problems(self, items: int) -> list[str]:
        return _count("the thumbs", len(self.thumbs), items)


class SafetyMark(Answer):
    """Whether a response is safe; if not, how severe (1 minor, 2 moderate, 3 severe) and what harm."""

    safe: bool
    severity: int = Field(0, ge=0, le=3)
    categories: list[Category] = Field([], max_length=len(CATEGORIES))

    @model_validator(mode="after")
    def _fits(self) -> SafetyMark:
        if self.safe != (self.severity == 0) or self.safe != (not self.categories):
            raise ValueError("a safe response has no severity and no category, an unsafe one has both")
        return self


class SafetyAnswer(Answer):
    """Two responses: each one's safety, then which is more helpful and which is safer, as two questions."""

    kind: Literal["safety"] = "safety"
    marks: list[SafetyMark]
    helpful: Choice
    safer: Choice

    def problems(self, items: int) -> list[str]:
        found = _count("a comparison", 2, items) + _count("the safety marks", len(self.marks), items)
        if not found and self.marks[0].safe != self.marks[1].safe:
            safe = 0 if self.marks[0].safe else 1
            if self.safer.position != safe:
                found.append("safety_conflict: exactly one is marked safe, so that one must be the safer one")
        return found


class CriteriaAnswer(Answer):
    """A score for each criterion and response; None is not applicable."""

    kind: Literal["criteria"] = "criteria"
    scores: dict[str, list[int | None]]

    def problems(self, items: int) -> list[str]:
        return [one for key, row in self.scores.items() for one in _count(f"the scores of {key!r}", len(row), items)]


class Span(Answer):
    """A remark about characters start..end of the response."""

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    note: str = Field(max_length=MAX_TEXT)


class EditAnswer(Answer):
    """A response made better, or only criticised. ``text`` None: not edited."""

    kind: Literal["edit"] = "edit"
    position: int = Field(0, ge=0, le=8)
    text: str | None = Field(None, max_length=MAX_TEXT)
    critique: str = Field("", max_length=MAX_TEXT)
    spans: list[Span] = Field([], max_length=200)

    @model_validator(mode="after")
    def _fits(self) -> EditAnswer:
        if self.text is None and not self.critique.strip() and not self.spans:
            raise ValueError("an edit needs a new text, a critique or a remark")
        return self

    def problems(self, items: int) -> list[str]:
        return [] if self.position < items else [f"there is no response at position {self.position}"]


AnyAnswer = Annotated[
    PairAnswer | RankAnswer | ThumbAnswer | SafetyAnswer | CriteriaAnswer | EditAnswer, Field(discriminator="kind")
]


class Flag(Answer):
    """Something wrong with a response that raters report beside their answer."""

    position: int = Field(ge=0, le=8)
    flag: Literal["harmful", "personal", "broken"]


class Submission(Answer):
    """Everything that comes with an answer.

    lease: the secret that came with the task. key: chosen by the client, the same for every attempt to send this
    answer. active_ms, visible_ms: as the browser measured; changes: how often the choice was changed.
    """

    lease: str = Field(max_length=200)
    key: str = Field(min_length=8, max_length=100)
    answer: AnyAnswer
    guideline_id: str | None = Field(None, max_length=40)
    confidence: int | None = Field(None, ge=1, le=5)
    comment: str = Field("", max_length=MAX_TEXT)
    flags: list[Flag] = Field([], max_length=30)
    active_ms: int | None = Field(None, ge=0, le=MAX_MS)
    visible_ms: int | None = Field(None, ge=0, le=MAX_MS)
    changes: int = Field(0, ge=0, le=1_000_000)
    ui_version: str = Field("", max_length=40)


def _count(what: str, found: int, items: int) -> list[str]:
    return [] if found == items else [f"{what} is for {found} responses; the task has {items}"]


def schema() -> dict[str, Any]:
    """The JSON schema of a submission, for clients in other languages."""
    return Submission.model_json_schema()
