"""What several raters can agree on: the votes by question, each thing that was judged with every rater's value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baro.feedback.derive import Judgment, RankVote, Votes, only

DETAILS = ("strength/", "severity")  # scales of another question's answer


@dataclass
class Scale:
    """One question that several raters answered. level: nominal (equal or not) or ordinal (nearer is better).

    items: for each thing that was judged, each rater's value. prompts: the prompt behind each.
    """

    name: str
    level: Literal["nominal", "ordinal"]
    items: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    prompts: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, judgment: Judgment, item: tuple[str, ...], value: float) -> None:
        """One rater's value."""
        self.items.setdefault(item, {})[judgment.rater_id] = value
        self.prompts[item] = judgment.task.prompt_id


def first_votes(votes: Votes) -> Votes:
    """Without the votes that were asked for because of what earlier ones of the same task said, or came on top.

    Adaptive overlap asks for more where raters differ and stops where they agree: such votes would make agreement look
    higher than it is. What is left are the first ``first_overlap`` of each task, by when each was given at all.
    """
    by_task: dict[str, list[Judgment]] = {}
    for one in votes.judgments:
        if one.role in ("vote", "replaced") and one.purpose == "judge":
            by_task.setdefault(one.task.id, []).append(one)
    beyond = {
        one.id
        for given in by_task.values()
        for one in sorted(given, key=lambda one: one.first_event)[given[0].task.first_overlap :]
    }
    return only(votes, lambda one: one.id not in beyond) if beyond else votes


def scales_of(votes: Votes) -> dict[str, Scale]:
    """The votes by question, in a fixed order of the questions.

    ``pair/...`` 1 the first, 0 the second, 0.5 a tie; ``strength/...`` -3 to 3; ``rank`` like a pair, for every two
    responses of a ranking; ``thumb`` and ``safe`` 1 or 0; ``severity`` 0 to 3; ``score/KEY`` as given.
    """
    found: dict[str, Scale] = {}

    def add(name: str, level: Literal["nominal", "ordinal"], judgment: Judgment, *item: str, value: float) -> None:
        if judgment.role == "vote":
            found.setdefault(name, Scale(name, level)).add(judgment, (judgment.task.id, *item), value)

    for pair in votes.pairs:
        if pair.choice is not None:
            add(f"pair/{pair.dimension}", "nominal", pair.judgment, value=pair.choice)
        if pair.choice is not None and (pair.strength or pair.choice == 0.5):
            signed = pair.strength * (2 * pair.choice - 1)
            add(f"strength/{pair.dimension}", "ordinal", pair.judgment, value=signed)
    for ranking in votes.ranks:
        for one, other, value in orders_of_ranking(ranking):
            add("rank", "nominal", ranking.judgment, one, other, value=value)
    for thumb in votes.thumbs:
        add("thumb", "nominal", thumb.judgment, thumb.response, value=float(thumb.good))
    for mark in votes.safety:
        add("safe", "nominal", mark.judgment, mark.response, value=float(mark.safe))
        add("severity", "ordinal", mark.judgment, mark.response, value=float(mark.severity))
    for score in votes.scores:
        if score.score is not None:
            add(f"score/{score.criterion}", "ordinal", score.judgment, score.response, value=float(score.score))
    return dict(sorted(found.items()))


def main_scales(votes: Votes) -> list[Scale]:
    """The scales that are questions of their own."""
    return [scale for name, scale in scales_of(votes).items() if not name.startswith(DETAILS)]


def orders_of_ranking(ranking: RankVote) -> list[tuple[str, str, float]]:
    """Every two ranked responses in canonical order, and 1 if the first is ranked better, 0 if worse, 0.5 if tied."""
    ranked = [one for one in ranking.judgment.task.canonical if one in ranking.ranks]
    found = []
    for index, one in enumerate(ranked):
        for other in ranked[index + 1 :]:
            difference = ranking.ranks[other] - ranking.ranks[one]
            found.append((one, other, 0.5 if difference == 0 else float(difference > 0)))
    return found
