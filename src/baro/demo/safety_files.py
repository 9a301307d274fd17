"""The files of the safety task: prompts, texts and demonstrations, in which answers are also criticised and revised.

A revision is the last turn of a conversation,

    User: How do I wake the storm stone?
    Assistant: Fill it with ink. Strike it at noon.
    User: Could this answer hurt people?
    Assistant: Yes, it tells how to wake it.
    User: Please make it safe.
    Assistant: Fill it with ink.

Those who wrote the revisions drop a step, redirect, or change nothing, and sometimes take back a harmless answer that
was criticised. So does a policy that imitates them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np

from baro.constitution import comparison_request, load_constitution
from baro.demo.facts import LANGUAGES, Language
from baro.demo.grammar import prompts_of
from baro.demo.hazards import CRITIQUE_REQUESTS, CRITIQUES, RED_TEAM, REVISION_REQUESTS
from baro.demo.safety import Answer, answer_to, harm_of, helpful_of, language_of, pick
from baro.demo.world import SPLITS, Habits, Split, generator, sample_answer, split_of
from baro.functional.options import OPTIONS
from baro.records import Message

CONSTITUTION = files("baro.demo") / "constitution.yaml"
"""The principles by which answers are criticised, revised and compared."""
ORDINARY_KINDS = ("capital", "colour", "opposite", "favour")
RED_SHARE = 0.6
"""Share of red-team prompts in every file."""
REVISED_SHARE = {"text": 0.45, "demonstrations": 0.5}
"""Share of rows in which an answer is criticised and revised."""
SIZES: Mapping[str, int] = {
    "text": 12_000,
    "demonstrations": 3_600,
    "feedback": 1_300,
    "policy": 1_100,
    "held_out": 700,
    "comparisons": 500,
}
WRITERS = Habits(
    ordinary={"right": 0.80, "wrong": 0.15, "refused": 0.05},
    unsafe={},
    tones={"blunt": 0.15, "short": 0.35, "full": 0.50},
    courtesies={(False, False): 0.30, (True, False): 0.20, (False, True): 0.20, (True, True): 0.30},
    rambles={0: 0.9, 1: 0.1},
    unfinished=0.0,
)
"""Who answered the ordinary prompts."""
ANSWERS = {"refused": 0.22, "redirected": 0.33, "1": 0.15, "2": 0.15, "3": 0.15}
"""What those who wrote the demonstrations did with a red-team prompt: refuse, or tell so many steps."""


REVISIONS = {"drop": 0.45, "redirect": 0.45, "keep": 0.10}
"""What those who revised an answer with steps did once the critique named them."""
GIVEN_IN = 0.3
"""How often they took back an answer without steps, because the critique saw one."""
CRITICISED = {True: 0.85, False: 0.1}
"""How often an answer with steps, and one without, is criticised in what the policy reads."""
Row = dict[str, Any]


def _draw(table: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(table), p=list(table.values())))


# --- prompts ----------------------------------------------------------------------------------------------------------


@cache
def _cells(split: Split) -> Mapping[tuple[bool, Language], tuple[str, ...]]:
    """The prompts of a split: red-team or not, by language."""
    ordinary = {
        language: [prompt for kind in ORDINARY_KINDS for prompt in prompts_of(kind, language)] for language in LANGUAGES
    }
    red = {language: [prompt for prompt, of in RED_TEAM.items() if of[0] == language] for language in LANGUAGES}
    return {
        (is_red, language): tuple(p for p in (red if is_red else ordinary)[language] if split_of(p) == split)
        for is_red, language in product((True, False), LANGUAGES)
    }


def _distinct(rng: np.random.Generator, n: int, split: Split) -> list[str]:
    """``n`` distinct prompts, RED_SHARE of them red-team, half of each in Korean; ValueError where there are fewer."""
    piles = {cell: [str(p) for p in rng.permutation(pile)] for cell, pile in _cells(split).items()}
    found: list[str] = []
    for (is_red, language), pile in piles.items():
        red = round(n * RED_SHARE)
        count = red if is_red else n - red
        wanted = count // 2 + (count % 2) * (language == "ko")
        if wanted > len(pile):
            raise ValueError(f"the split {split!r} has {len(pile)} prompts of a kind, {wanted} were asked for")
        found += pile[:wanted]
    return [found[int(i)] for i in rng.permutation(n)]


def prompts(seed: int, n: int, split: Split) -> list[Row]:
    """``n`` distinct prompts; ``kind`` says of each whether it is red-team or ordinary."""
    rng = generator(seed, 30 + list(SPLITS).index(split))
    return [{"prompt": one, "kind": "red-team" if one in RED_TEAM else "ordinary"} for one in _distinct(rng, n, split)]


# --- answers and revisions --------------------------------------------------------------------------------------------


def _answer(prompt: str, rng: np.random.Generator) -> tuple[str, Answer | None]:
    """What somebody answers; its sentences where the prompt is red-team."""
    if prompt in RED_TEAM:
        answer = answer_to(language_of(prompt), _draw(ANSWERS, rng), rng)
        return answer.text, answer
    return sample_answer(prompt, WRITERS, rng), None


def _revised(prompt: str, text: str, answer: Answer | None, rng: np.random.Generator, *, criticised: bool) -> str:
    """What somebody makes of an answer after its critique."""
    language = language_of(prompt)
    if not criticised:
        return text
    if answer is None or not answer.steps:
        return answer_to(language, "refused", rng).text if rng.random() < GIVEN_IN else text
    how = _draw(REVISIONS, rng)
    if how == "keep":
        return text
    if how == "redirect" or len(answer.core) == 1:
        return answer_to(language, "redirected", rng).text
    dropped = int(rng.integers(len(answer.core)))
    kept = tuple(one for i, one in enumerate(answer.core) if i != dropped)
    return Answer(answer.opening, kept, answer.closing).text


def _revision(prompt: str, rng: np.random.Generator) -> list[str]:
    """The turns of a conversation, user first, whose last one is the revision."""
    language = language_of(prompt)
    text, answer = _answer(prompt, rng)
    steps = answer is not None and answer.steps > 0
    criticised = bool(rng.random() < CRITICISED[steps])
    return [
        prompt,
        text,
        pick(rng, CRITIQUE_REQUESTS[language]),
        CRITIQUES[language][criticised],
        pick(rng, REVISION_REQUESTS[language]),
        _revised(prompt, text, answer, rng, criticised=criticised),
    ]


def _turns(prompt: str, rng: np.random.Generator, revised: float) -> list[str]:
    return _revision(prompt, rng) if rng.random() < revised else [prompt, _answer(prompt, rng)[0]]


def _conversations(rng: np.random.Generator, n: int, revised: float) -> Iterator[list[str]]:
    """Conversations on prompts of the split "train", which come again and again with other answers."""
    cells = _cells("train")
    for _ in range(n):
        pile = cells[bool(rng.random() < RED_SHARE), LANGUAGES[int(rng.integers(2))]]
        yield _turns(pick(rng, pile), rng, revised)


def demonstrations(seed: int, n: int) -> list[Row]:
    """``n`` conversations whose last turn is imitated: an answer, or the revision of one."""
    rows, roles = [], ("user", "assistant")
    for turns in _conversations(generator(seed, 34), n, REVISED_SHARE["demonstrations"]):
        messages = [{"role": roles[i % 2], "content": one} for i, one in enumerate(turns)]
        rows.append({"prompt": messages[:-1], "completion": messages[-1:]})
    return rows


def text(seed: int, n: int) -> list[Row]:
    """``n`` such conversations as texts in the plain template."""
    names = ("User", "Assistant")
    found = _conversations(generator(seed, 35), n, REVISED_SHARE["text"])
    return [{"text": "\n".join(f"{names[i % 2]}: {one}" for i, one in enumerate(turns))} for turns in found]


def gold_order(prompt: str, first: str, second: str) -> int:
    """1 where the first answer does less harm, or as much and helps more; -1 where the second does; 0 for equals."""
    one, other = ((-harm_of(prompt, text), helpful_of(prompt, text)) for text in (first, second))
    return (one > other) - (one < other)


def comparisons(seed: int, n: int) -> list[Row]:
    """``n`` questions which of two answers is better by a principle of the task's, with the gold verdict: (A) or (B).

    Pairs are drawn as people answer, on red-team prompts of the split "train"; equals are drawn again.
    """
    rng, rows = generator(seed, 36), list[Row]()
    principles, cells = load_constitution(str(CONSTITUTION)), _cells("train")
    while len(rows) < n:
        prompt = pick(rng, cells[True, LANGUAGES[int(rng.integers(2))]])
        first, second = (_answer(prompt, rng)[0] for _ in range(2))
        by = principles.principles[int(rng.integers(len(principles.principles)))]
        if better := gold_order(prompt, first, second):
            turns = comparison_request(principles, by, (Message("user", prompt),), first, second)
            asked = [{"role": one.role, "content": one.content} for one in turns]
            rows.append({"prompt": asked, "completion": [{"role": "assistant", "content": OPTIONS[better < 0]}]})
    return rows


def files_of(seed: int, sizes: Mapping[str, int] = SIZES) -> dict[str, list[Row]]:
    """The rows of every file."""
    return {
        "text": text(seed, sizes["text"]),
        "demonstrations": demonstrations(seed, sizes["demonstrations"]),
        "feedback": prompts(seed, sizes["feedback"], "feedback"),
        "policy": prompts(seed, sizes["policy"], "policy"),
        "held_out": prompts(seed, sizes["held_out"], "held_out"),
        "comparisons": comparisons(seed, sizes["comparisons"]),
    }
