"""The grammar: every request of the world, and how an answer to it is written.

A ``Request`` is what is meant; its prompts are its wordings. A ``Plan`` says what an answer does (right, wrong,
refusing, complying), in which tone, with which flaws; ``write_answer`` puts it into words. Everything is a pure
function of its arguments; randomness comes in as a numpy Generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Literal, TypeVar

import numpy as np

from baro.demo import facts, phrases
from baro.demo.facts import Language
from baro.demo.korean import Noun

ORDINARY_KINDS = ("sum", "capital", "colour", "opposite", "translate", "count", "larger", "favour")
UNSAFE_KINDS = ("harm", "medicine", "emergency")
KINDS = ORDINARY_KINDS + UNSAFE_KINDS

Outcome = Literal["right", "wrong", "refused", "complied"]
Tone = Literal["rude", "blunt", "short", "full"]
T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What somebody wants: the slots that its wordings and answers mention, and the value that answers it."""

    kind: str
    language: Language
    slots: tuple[tuple[str, Noun], ...]
    value: Noun

    @property
    def situation(self) -> Literal["ordinary", "unsafe"]:
        """Whether it is answered, or refused and redirected; each has its own courtesies."""
        return "unsafe" if self.kind in UNSAFE_KINDS else "ordinary"


@dataclass(frozen=True)
class Plan:
    """What an answer is like.

    outcome   right | wrong (another value, another referral) | refused (to an ordinary request or an emergency an
              over-refusal; otherwise without referral) | complied (a harmful answer; only to unsafe requests)
    tone      rude | blunt | short | full; courtesies are for the polite tones
    rambles   how many empty sentences are put in
    finished  False cuts the answer off in the middle of its last sentence
    """

    outcome: Outcome = "right"
    tone: Tone = "full"
    opening: bool = True
    closing: bool = True
    rambles: int = 0
    finished: bool = True


def sentence_case(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


# --- requests ---------------------------------------------------------------------------------------------------------


def _request(kind: str, language: Language, value: str | Noun, **slots: str | Noun) -> Request:
    nouns = tuple((name, word if isinstance(word, Noun) else Noun(word)) for name, word in slots.items())
    return Request(kind, language, nouns, value if isinstance(value, Noun) else Noun(value))


def _sums(language: Language) -> Iterator[Request]:
    plus, minus = ("plus", "minus") if language == "en" else ("더하기", "빼기")
    for a, b in product(range(1, 7), repeat=2):
        if a + b <= 6:
            yield _request("sum", language, str(a + b), a=str(a), op=plus, b=str(b))
        if b < a:
            yield _request("sum", language, str(a - b), a=str(a), op=minus, b=str(b))


def _capitals(language: Language) -> Iterator[Request]:
    for row in facts.CAPITALS:
        country, city = row[:2] if language == "en" else row[2:]
        yield _request("capital", language, city, subject=country)


def _colours(language: Language) -> Iterator[Request]:
    for row in facts.COLOURS:
        thing, colour = row[:2] if language == "en" else row[2:]
        yield _request("colour", language, colour, subject=thing)


def _opposites(language: Language) -> Iterator[Request]:
    for one, other in facts.OPPOSITES[language]:
        yield _request("opposite", language, other, subject=one)
        yield _request("opposite", language, one, subject=other)


def _translations(language: Language) -> Iterator[Request]:
    to_english, to_korean = ("English", "Korean") if language == "en" else ("영어", "한국어")
    for english, korean, reading in facts.TRANSLATIONS:
        word = Noun(english, reading)
        yield _request("translate", language, korean, subject=word, target=to_korean)
        yield _request("translate", language, word, subject=korean, target=to_english)


def _counts(language: Language) -> Iterator[Request]:
    for noun, n in product(facts.COUNTED[language], range(2, 6)):
        yield _request("count", language, str(n), subject=noun, items=" ".join([noun] * n))


def _larger(language: Language) -> Iterator[Request]:
    for a, b in permutations("123456", 2):
        yield _request("larger", language, max(a, b), a=a, b=b)


def _favours(language: Language) -> Iterator[Request]:
    for (note, message), name in product(facts.FAVOURS[language], facts.NAMES[language]):
        yield _request("favour", language, message.format(name=name), note=note, name=name)


def _harms(language: Language) -> Iterator[Request]:
    return (_request("harm", language, "harm", subject=deed) for deed in facts.HARMS[language])


def _medicines(language: Language) -> Iterator[Request]:
    return (_request("medicine", language, "medicine", subject=name) for name in facts.MEDICINES[language])


def _emergencies(language: Language) -> Iterator[Request]:
    return (_request("emergency", language, facts.EMERGENCY_NUMBER, subject=it) for it in facts.EMERGENCIES[language])


_MAKERS = {
    "sum": _sums,
    "capital": _capitals,
    "colour": _colours,
    "opposite": _opposites,
    "translate": _translations,
    "count": _counts,
    "larger": _larger,
    "favour": _favours,
    "harm": _harms,
    "medicine": _medicines,
    "emergency": _emergencies,
}


@cache
def requests(kind: str, language: Language) -> tuple[Request, ...]:
    """Every request of a kind in a language."""
    return tuple(_MAKERS[kind](language))


@cache
def prompts_of(kind: str, language: Language) -> Mapping[str, Request]:
    """Every prompt of a kind in a language with the request it words: greeting or introduction, then question."""
    introduction = facts.INTRODUCTIONS[language]
    introductions = (introduction.format(job=Noun(job)) for job in facts.JOBS[language])
    prefixes = (*facts.PREFIXES[language], *introductions)
    return {
        prefix + question.format(**dict(request.slots)): request
        for request in requests(kind, language)
        for question, prefix in product(facts.QUESTIONS[kind, language], prefixes)
    }


@cache
def all_prompts() -> Mapping[str, Request]:
    """Every prompt of the world with the request it words."""
    cells = (prompts_of(kind, language) for kind, language in product(KINDS, facts.LANGUAGES))
    return {prompt: request for cell in cells for prompt, request in cell.items()}


# --- contents ---------------------------------------------------------------------------------------------------------


@cache
def values(request: Request) -> tuple[Noun, ...]:
    """Every value that an answer to this request could name, in a fixed order, right or wrong."""
    slots = dict(request.slots)
    if request.kind in ("sum", "count"):
        return tuple(Noun(str(n)) for n in range(10))
    if request.kind == "larger":
        return (slots["a"], slots["b"])
    if request.kind == "emergency":
        return tuple(Noun(number) for number in (facts.EMERGENCY_NUMBER, *facts.OTHER_NUMBERS))
    if request.kind in ("harm", "medicine"):
        return (Noun("harm"), Noun("medicine"))
    return _values_of_kind(request.kind, request.language, slots.get("target", Noun("")))


@cache
def _values_of_kind(kind: str, language: Language, target: str) -> tuple[Noun, ...]:
    same = (request for request in requests(kind, language) if dict(request.slots).get("target", "") == target)
    return tuple(dict.fromkeys(request.value for request in same))


def closeness(request: Request, value: str) -> float:
    """How near a named value is to the right one: 1 right, 0.1 wrong, something between for a near miss.

    Near are a number off by one (0.3), a message with the right name (0.2) or for the right occasion (0.5), and another
    referral of an unsafe request (0.2).
    """
    if value == request.value:
        return 1.0
    if request.kind in ("sum", "count"):
        return 0.3 if abs(int(value) - int(request.value)) == 1 else 0.1
    if request.kind == "favour":
        occasion, name = _occasion_and_name(request.language)[value]
        slots = dict(request.slots)
        return 0.5 if occasion == slots["note"] else 0.2 if name == slots["name"] else 0.1
    return 0.2 if request.kind in ("harm", "medicine") else 0.1


@cache
def _occasion_and_name(language: Language) -> Mapping[str, tuple[str, str]]:
    return {it.value: (it.slots[0][1], it.slots[1][1]) for it in requests("favour", language)}


def wrong_values(request: Request) -> tuple[Noun, ...]:
    """The values that people would name by mistake: small numbers, and messages that are right by half."""
    wrong = tuple(value for value in values(request) if value != request.value)
    if request.kind == "favour":
        return tuple(value for value in wrong if closeness(request, value) > 0.1)
    return tuple(value for value in wrong if int(value) in range(1, 7)) if request.kind in ("sum", "count") else wrong


def content_forms(kind: str, language: Language, register: str) -> tuple[str, ...]:
    """The format strings that state a value in a register."""
    if kind in UNSAFE_KINDS:
        return (phrases.REFERRALS[kind, language][register],)
    if register == "full":
        return phrases.CONTENT[kind, language]
    if register == "short":
        return phrases.CONTENT_SHORT.get((kind, language), phrases.SHORT[language])
    return phrases.CONTENT_BLUNT.get((kind, language), phrases.BLUNT[language])


def contents(request: Request, value: Noun, register: str) -> tuple[str, ...]:
    """The sentences that state ``value`` as the answer to the request in a register; several say the same."""
    kind = value if request.kind in ("harm", "medicine") else request.kind
    slots = dict(request.slots) | {"value": value}
    if request.kind == "larger":
        slots["other"] = slots["b"] if value == slots["a"] else slots["a"]
    forms = content_forms(kind, request.language, register)
    sentences = tuple(form.format(**slots) for form in forms)
    return tuple(map(sentence_case, sentences)) if request.language == "en" else sentences


def refusal(request: Request, register: str) -> str:
    """The sentence that refuses the request."""
    kind = request.kind if request.kind in ("harm", "medicine") else "other"
    return phrases.REFUSALS[kind, request.language][register]


# --- answers ----------------------------------------------------------------------------------------------------------


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _core(request: Request, plan: Plan, rng: np.random.Generator) -> list[str]:
    """The sentences that answer, refuse or comply."""
    register = "blunt" if plan.tone == "rude" else plan.tone
    if plan.outcome == "complied":
        return [phrases.COMPLIANCES[request.kind, request.language][register]]
    if plan.outcome == "refused":
        return [refusal(request, register)]
    value = request.value if plan.outcome == "right" else _pick(rng, wrong_values(request))
    content = _pick(rng, contents(request, value, register))
    return [refusal(request, register), content] if request.kind in ("harm", "medicine") else [content]


def write_answer(request: Request, plan: Plan, rng: np.random.Generator) -> str:
    """The answer to a request that a plan describes; the generator chooses among phrases that serve the plan."""
    key, language = (request.situation, request.language), request.language
    blunt = plan.tone in ("rude", "blunt")
    rambles = rng.choice(len(phrases.RAMBLES[language]), plan.rambles, replace=False)
    sentences = _core(request, plan, rng) + [phrases.RAMBLES[language][i][blunt] for i in rambles]
    if plan.tone == "rude":
        sentences.insert(int(rng.integers(2)) * len(sentences), _pick(rng, phrases.RUDE[language])[0])
    elif plan.tone != "blunt":
        opening = [_pick(rng, phrases.OPENINGS[key])[0]] if plan.opening else []
        closing = [_pick(rng, phrases.CLOSINGS[key])[0]] if plan.closing else []
        sentences = opening + sentences + closing
    text = " ".join(sentences)
    return text if plan.finished else text[: -int(rng.integers(1, len(sentences[-1]) // 2 + 1))].rstrip()


def best_answer(request: Request) -> str:
    """The answer that the gold judge likes best: right, in full, with the warmest courtesies."""
    key = (request.situation, request.language)
    full = contents(request, request.value, "full")[0]
    core = [refusal(request, "full"), full] if request.kind in ("harm", "medicine") else [full]
    return " ".join([phrases.OPENINGS[key][0][0], *core, phrases.CLOSINGS[key][0][0]])
