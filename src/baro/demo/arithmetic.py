"""The verifiable task: sums of two numbers in English and Korean, with their steps or without, whose result is checked.

    User: What is 347 + 285?
    Assistant: 7+5=12 4+8+1=13 3+2+1=6 #### 632

    User: 347에 285를 더하면 얼마예요?
    Assistant: 답: 632

A step adds a digit of each number, from the right, and the last term is the carry. All answers that anybody imitates
are right. Those who wrote the demonstrations worked out half of them, and had the result of the others in their heads;
a small model that imitates them has not: where it writes no steps it guesses, and in its steps it makes mistakes. The
reward tells neither of the two. The base model has read other sums, most of them shorter, and most of them worked out.

Three-digit numbers are split by their own hash. Held-out problems have the one part for operands, and no number of
that part stands in anything that a model learns from, neither as an operand nor as a sum: who solves them can add.
Everything is a pure function of its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from baro.demo.facts import LANGUAGES, Language
from baro.demo.korean import Noun
from baro.demo.raters import uniforms
from baro.demo.world import generator

Part = Literal["train", "held_out"]
HELD_OUT = 0.2
"""Share of the three-digit numbers that are operands of held-out problems."""
MARKED = 0.5
"""Share of answers that put #### before their result, as GSM8K's do; the others say it in words."""
WORKED = {"text": 0.9, "demonstrations": 0.5}
"""Share of answers that write out the steps; the others have the result alone, which is right as well."""
LONG = 0.3
"""Share of the sums to pre-train on that have three digits; the others have one or two."""
SIZES: Mapping[str, int] = {
    "text": 12_000,
    "demonstrations": 500,
    "problems": 1_024,
    "validation": 100,
    "held_out": 200,
}

WORDINGS: Mapping[Language, Sequence[Callable[[Noun, Noun], str]]] = {
    "en": (
        lambda a, b: f"What is {a} + {b}?",
        lambda a, b: f"How much is {a} plus {b}?",
        lambda a, b: f"Add {a} and {b}.",
        lambda a, b: f"Mina has {a} stamps and buys {b} more. How many has she now?",
    ),
    "ko": (
        lambda a, b: f"{a} + {b:은/는} 얼마예요?",
        lambda a, b: f"{a}에 {b:을/를} 더하면 얼마예요?",
        lambda a, b: f"{a} 더하기 {b:은/는}?",
        lambda a, b: f"미나는 우표가 {a}장 있는데 {b}장을 더 샀어요. 모두 몇 장이에요?",
    ),
}
IN_WORDS: Mapping[Language, str] = {"en": "Answer:", "ko": "답:"}
Row = dict[str, str]


@dataclass(frozen=True)
class Problem:
    """A sum, and how somebody asks for it."""

    first: int
    second: int
    language: Language
    wording: int

    @property
    def prompt(self) -> str:
        return WORDINGS[self.language][self.wording](Noun(str(self.first)), Noun(str(self.second)))

    @property
    def total(self) -> int:
        return self.first + self.second

    @property
    def operands(self) -> tuple[int, int]:
        """In their order of size: 347 + 285 and 285 + 347 are one sum."""
        return min(self.first, self.second), max(self.first, self.second)

    def answer(self, *, worked: bool, marked: bool) -> str:
        """The right answer, with its steps or without."""
        said = "####" if marked else IN_WORDS[self.language]
        return " ".join([*(steps(self.first, self.second) if worked else []), said, str(self.total)])


def steps(first: int, second: int) -> list[str]:
    """The sum digit by digit from the right: of 347 and 285, ``7+5=12``, ``4+8+1=13`` and ``3+2+1=6``."""
    found, carry = list[str](), 0
    while first or second:
        terms = [first % 10, second % 10, *[carry] * carry]
        found.append(f"{'+'.join(map(str, terms))}={sum(terms)}")
        first, second, carry = first // 10, second // 10, sum(terms) // 10
    return found


@cache
def operands(part: Part) -> tuple[int, ...]:
    """The three-digit numbers of a part; the same for every seed."""
    numbers = range(100, 1000)
    return tuple(one for one in numbers if (uniforms(1, "operand", one)[0] < HELD_OUT) == (part == "held_out"))


def _problems(rng: np.random.Generator, numbers: Sequence[int]) -> Iterator[Problem]:
    """Sums of these numbers, each in a wording of its own chance; languages half and half."""
    while True:
        first, second = (numbers[int(i)] for i in rng.integers(len(numbers), size=2))
        language = LANGUAGES[int(rng.integers(len(LANGUAGES)))]
        yield Problem(first, second, language, int(rng.integers(len(WORDINGS[language]))))


def _to_learn(rng: np.random.Generator, numbers: Sequence[int]) -> Iterator[Problem]:
    """The same without those in which a held-out operand stands."""
    held_out = frozenset(operands("held_out"))
    return (one for one in _problems(rng, numbers) if not held_out & {one.first, one.second, one.total})


def _distinct(stream: Iterator[Problem], n: int, by: Callable[[Problem], object]) -> list[Problem]:
    drawn: dict[object, Problem] = {}
    while len(drawn) < n:
        problem = next(stream)
        drawn.setdefault(by(problem), problem)
    return list(drawn.values())


def _text(sums: Sequence[Problem], rng: np.random.Generator) -> list[Row]:
    """Questions and answers as texts, in a random order."""
    rows = _answered([sums[int(i)] for i in rng.permutation(len(sums))], rng, worked=WORKED["text"])
    return [{"text": f"User: {row['prompt']}\nAssistant: {row['completion']}"} for row in rows]


def _answered(asked: Sequence[Problem], rng: np.random.Generator, *, worked: float) -> list[Row]:
    """Answers of people who write out the steps as often as ``worked`` says."""
    chances = rng.random((len(asked), 2)) < (worked, MARKED)
    answers = [one.answer(worked=bool(w), marked=bool(m)) for one, (w, m) in zip(asked, chances, strict=True)]
    return [{"prompt": one.prompt, "completion": answer} for one, answer in zip(asked, answers, strict=True)]


def _with_result(asked: Sequence[Problem]) -> list[Row]:
    return [{"prompt": one.prompt, "answer": str(one.total)} for one in asked]


def files_of(seed: int, sizes: Mapping[str, int] = SIZES) -> dict[str, list[Row]]:
    """The rows of every file; no sum stands in two of them, but for those of ``all_answers``.

    text: to pre-train on; demonstrations: answers to imitate; problems: prompts with their result, and no answer to
    imitate; all_answers: the sums of both, all worked out; validation, held_out: problems of numbers that stand in none
    of these.
    """
    rng = generator(seed, 21)
    shown, posed, long = sizes["demonstrations"], sizes["problems"], round(LONG * sizes["text"])
    short = _distinct(_to_learn(rng, range(1, 100)), sizes["text"] - long, lambda one: one.prompt)
    sums = _distinct(_to_learn(rng, operands("train")), long + shown + posed, lambda one: one.operands)
    read, learned = sums[:long], sums[long:]
    looked_at, asked = sizes["validation"], sizes["held_out"]
    measured = _distinct(_problems(rng, operands("held_out")), looked_at + asked, lambda one: one.operands)
    return {
        "text": _text([*short, *read], rng),
        "demonstrations": _answered(learned[:shown], rng, worked=WORKED["demonstrations"]),
        "problems": _with_result(learned[shown:]),
        "all_answers": _answered(learned, rng, worked=1.0),
        "validation": _with_result(measured[:looked_at]),
        "held_out": _with_result(measured[looked_at:]),
    }
