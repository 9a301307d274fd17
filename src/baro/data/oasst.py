"""Trees of messages, as OpenAssistant publishes them: a row is one turn, and names the turn that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from baro.data.cells import Columns, string, whole
from baro.data.messages import ROLES
from baro.data.rows import Unusable, placed
from baro.errors import DataError
from baro.records import Conversation, Message, Ranking


def replies(rows: Sequence[tuple[str, Columns]]) -> Iterator[tuple[str, Ranking | Unusable]]:
    """A ranking for every question of a tree that has replies, the reply of the lowest ``rank`` first.

    Prompters' turns are prompts and never answers. A question with one reply is a ranking of one, which serves as a
    demonstration. What was deleted is left out with what stands below it; so is a reply that nobody ranked beside ones
    that were.
    """
    turns = {placed(key, string, columns, "message_id"): (key, columns) for key, columns in rows}
    below: dict[str, list[str]] = {}
    for name, (key, columns) in turns.items():
        parent = columns["parent_id"]
        if parent and parent not in turns:
            yield key, Unusable("no question", f"answers {parent!r}, which does not stand beside it; sort by tree")
        elif columns.get("deleted"):
            yield key, Unusable("deleted", "was deleted", expected=True)
        else:
            below.setdefault(parent or "", []).append(name)
    for root in below.get("", []):
        yield from _of_turn(root, (), turns, below)


def _of_turn(
    name: str, before: Conversation, turns: dict[str, tuple[str, Columns]], below: dict[str, list[str]]
) -> Iterator[tuple[str, Ranking | Unusable]]:
    key, columns = turns[name]
    conversation = (*before, placed(key, _message, columns))
    answers = below.get(name, [])
    if conversation[-1].role == "user":
        yield key, placed(key, _ranking, conversation, [turns[one][1] for one in answers])
    for one in answers:
        yield from _of_turn(one, conversation, turns, below)


def _message(columns: Columns) -> Message:
    role = columns["role"]
    if role not in ROLES:
        raise DataError(f"column 'role' is {role!r}; prompter or assistant is needed")
    return Message(ROLES[role], string(columns, "text"))


def _ranking(prompt: Conversation, answers: Sequence[Columns]) -> Ranking | Unusable:
    ranks = [whole(one.get("rank")) for one in answers]
    if len(answers) == 1 and ranks[0] is None:
        ranks = [0]
    ranked = [(one, rank) for one, rank in zip(answers, ranks, strict=True) if rank is not None]
    if not ranked:
        return Unusable("no reply", "has no reply that was ranked", expected=True)
    if any(rank < 0 for _, rank in ranked):
        raise DataError("column 'rank' must be a whole number from 0, the best, upwards")
    return Ranking(prompt, tuple((_message(one),) for one, _ in ranked), tuple(rank + 1 for _, rank in ranked))
