"""A constitution: principles by which a model criticises, revises and compares answers. No torch here.

    language: auto                      # en, ko, or auto: Korean where a prompt has Hangul
    principles:
      - name: fair                      # for logs
        weight: 1.0                     # how often it is drawn, beside the others
        principle: {en: ..., ko: ...}   # what is asked of an answer
        critique: {en: ..., ko: ...}    # the requests that are put to a model, and the question about two answers;
        revision: {en: ..., ko: ...}    # unless given, ``wording`` with the principle in it
        comparison: {en: ..., ko: ...}
    wording: {critique: ..., revision: ..., comparison: ...}
    examples: {revisions: [...], comparisons: [...]}

Bai et al. 2022, arXiv:2212.08073. A principle is drawn for each critique and each comparison (section 3.1, 4.1); the
texts are our own, in the form of a chat: a request is a user's turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from baro.config import MAY_REPEAT, Config, load_config
from baro.declared import check_names
from baro.errors import ConfigError
from baro.functional.options import OPTIONS
from baro.functional.streams import stream
from baro.records import Conversation, Message

Language = Literal["en", "ko"]
SHIPPED = ("general", "medical")
FOLDER = Path(__file__).parent / "constitutions"
PLACE = "{principle}"
_HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")


class Words(Config):
    """One text in the languages that it is there in."""

    en: str | None = Field(None, description="in English")
    ko: str | None = Field(None, description="in Korean")

    @model_validator(mode="after")
    def _said(self) -> Words:
        known = [text for text in (self.en, self.ko) if text is not None]
        if not known:
            raise ValueError("holds no text; give en, ko or both")
        if any(not text.strip() for text in known):
            raise ValueError("holds a text that is empty; write it, or leave its language out")
        return self

    def of(self, language: Language) -> str:
        """The text in this language; the constitution's own check found it there."""
        text = self.en if language == "en" else self.ko
        assert text is not None, language
        return text


class Principle(Config):
    """One principle, and how a model is asked to apply it."""

    name: str = Field(description="what logs and reports call it")
    weight: float = Field(1.0, gt=0, description="how often it is drawn, beside the others' weights")
    principle: Words = Field(description="what is asked of an answer")
    critique: Words | None = Field(None, description="the request for a critique; wording.critique unless given")
    revision: Words | None = Field(None, description="the request for a revision; wording.revision unless given")
    comparison: Words | None = Field(
        None, description="the question about two answers; wording.comparison unless given"
    )


class Wording(Config):
    """How a principle is put to a model where it has no words of its own; {principle} stands for its text."""

    critique: Words = Words(
        en="Say where your last answer falls short of this: {principle}",
        ko="방금 답변이 다음 원칙에 어긋나는 부분을 짚어 주세요: {principle}",
    )
    revision: Words = Words(
        en="Rewrite your last answer so that this holds, and write the answer alone: {principle}",
        ko="다음 원칙에 맞도록 방금 답변을 고쳐 쓰고, 고친 답변만 쓰세요: {principle}",
    )
    comparison: Words = Words(
        en="Which answer fits this better? {principle}", ko="어느 답변이 다음 원칙에 더 맞습니까? {principle}"
    )

    @model_validator(mode="after")
    def _has_its_place(self) -> Wording:
        for name in ("critique", "revision", "comparison"):
            words: Words = getattr(self, name)
            if any(text is not None and PLACE not in text for text in (words.en, words.ko)):
                raise ValueError(f"{name} has no {PLACE}, and would be the same for all principles; put it in")
        return self


class RevisionExample(Config):
    """A critique and a revision as they should be, shown before the answer in question."""

    language: Language = Field(description="en or ko: it is shown with prompts of this language")
    principle: str = Field(description="the name of the principle by which it was revised")
    prompt: str = Field(description="what was asked")
    answer: str = Field(description="the first answer")
    critique: str = Field(description="what is wrong with it")
    revision: str = Field(description="the answer as it should be")


class ComparisonExample(Config):
    """Two answers and which is better, shown before the comparison in question."""

    language: Language = Field(description="en or ko: it is shown with prompts of this language")
    principle: str = Field(description="the name of the principle by which they were compared")
    prompt: str = Field(description="what was asked")
    first: str = Field(description="the answer at (A)")
    second: str = Field(description="the answer at (B)")
    better: Literal["first", "second"] = Field(description="which of them is better")


class Examples(Config):
    """Few-shot examples; those of a prompt's language are shown, in this order."""

    revisions: list[RevisionExample] = Field(
        [], description="before critiques and revisions", json_schema_extra=MAY_REPEAT
    )
    comparisons: list[ComparisonExample] = Field([], description="before comparisons", json_schema_extra=MAY_REPEAT)


class Constitution(Config):
    """A file of principles."""

    language: Literal["en", "ko", "auto"] = Field("auto", description="of the texts; auto: Korean for Hangul")
    principles: list[Principle] = Field(description="what answers are judged by", min_length=1)
    wording: Wording = Wording()
    examples: Examples = Examples()

    @model_validator(mode="after")
    def _names_fit(self) -> Constitution:
        check_names([one.name for one in self.principles], "principles", "give one of them another name")
        known = [one.name for one in self.principles]
        examples: list[RevisionExample | ComparisonExample] = [*self.examples.revisions, *self.examples.comparisons]
        for one in examples:
            if one.principle not in known:
                raise ValueError(f"an example names the principle {one.principle!r}; those here are {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _speaks_its_languages(self) -> Constitution:
        for language in LANGUAGES[self.language]:
            for index, one in enumerate(self.principles):
                for key in ("principle", "critique", "revision", "comparison"):
                    words: Words | None = getattr(one, key)
                    if words is not None and getattr(words, language) is None:
                        raise ValueError(
                            f"principles.{index}.{key} has no text in {language}, and language is {self.language}; add "
                            f"{language}, or set language to what all texts have"
                        )
            for key in ("critique", "revision", "comparison"):
                if getattr(getattr(self.wording, key), language) is None:
                    raise ValueError(f"wording.{key} has no text in {language}, and language is {self.language}")
        return self

    def in_language(self, language: Literal["en", "ko", "auto"] | None) -> Constitution:
        """The same, with its texts in another language than the file says. ConfigError where they are missing."""
        if language is None or language == self.language:
            return self
        try:
            return Constitution(**self.model_dump() | {"language": language})
        except ValueError as error:
            raise ConfigError(f"language: {language}: {_first_line(error)}") from None

    def language_of(self, prompt: Conversation) -> Language:
        """The language in which this prompt's answers are criticised and compared."""
        if self.language != "auto":
            return self.language
        return "ko" if any(_HANGUL.search(turn.content) for turn in prompt) else "en"

    def draw(self, *parts: int | str) -> Principle:
        """A principle by its weight; the same parts (the seed, the row, the round) draw the same."""
        total = sum(one.weight for one in self.principles)
        left = stream("principle", *parts).random() * total
        for one in self.principles:
            left -= one.weight
            if left < 0:
                return one
        return self.principles[-1]

    def words(
        self, principle: Principle, key: Literal["critique", "revision", "comparison"], language: Language
    ) -> str:
        """A request or question about a principle."""
        own: Words | None = getattr(principle, key)
        if own is not None:
            return own.of(language)
        shared: Words = getattr(self.wording, key)
        return shared.of(language).replace(PLACE, principle.principle.of(language))

    def named(self, name: str) -> Principle:
        """The principle of this name."""
        return next(one for one in self.principles if one.name == name)


LANGUAGES: dict[str, tuple[Language, ...]] = {"en": ("en",), "ko": ("ko",), "auto": ("en", "ko")}


def _first_line(error: ValueError) -> str:
    found = getattr(error, "errors", lambda **_: [{"msg": str(error)}])(include_url=False)
    return str(found[0]["msg"]).removeprefix("Value error, ")


def constitution_file(value: str) -> Path:
    """The file that a config means: one of the shipped ones by name, or a path. ConfigError where it is neither."""
    if value in SHIPPED:
        return FOLDER / f"{value}.yaml"
    path = Path(value)
    if not path.is_file():
        raise ConfigError(
            f"{value}: no constitution; give the path of a YAML file, or one that comes with Baro: {', '.join(SHIPPED)}"
        )
    return path


def load_constitution(value: str, language: Literal["en", "ko", "auto"] | None = None) -> Constitution:
    """A constitution by name or path, in another language than its own where one is given."""
    return load_config(Constitution, constitution_file(value)).in_language(language)


def check_constitution(value: str, language: Literal["en", "ko", "auto"] | None) -> None:
    """Raise ValueError for a file that is no constitution, so that a pipeline refuses it before its first stage."""
    try:
        load_constitution(value, language)
    except ConfigError as error:
        raise ValueError(str(error)) from None


# -------------------------------------------------------------------------------------------------------------- turns


def critique_request(
    constitution: Constitution, principle: Principle, prompt: Conversation, answer: str
) -> Conversation:
    """The conversation that ends with the request to criticise its last answer by a principle."""
    language = constitution.language_of(prompt)
    shown = [
        _revised(constitution, one, language) for one in constitution.examples.revisions if one.language == language
    ]
    asked = Message("user", constitution.words(principle, "critique", language))
    return _after_system(prompt, shown, (Message("assistant", answer), asked))


def revision_request(
    constitution: Constitution, principle: Principle, prompt: Conversation, answer: str, critique: str
) -> Conversation:
    """The same, with the critique, and the request to revise the answer."""
    language = constitution.language_of(prompt)
    asked = Message("user", constitution.words(principle, "revision", language))
    return (
        *critique_request(constitution, principle, prompt, answer),
        Message("assistant", critique),
        asked,
    )


def comparison_request(
    constitution: Constitution,
    principle: Principle,
    prompt: Conversation,
    first: str,
    second: str,
    *,
    ends_with: Literal["verdict", "thoughts"] = "verdict",
) -> Conversation:
    """The question which of two answers is better by a principle, to be answered with (A) or (B), or with thoughts."""
    language = constitution.language_of(prompt)
    turns: list[Message] = []
    for one in constitution.examples.comparisons:
        if one.language == language:
            by, asked = constitution.named(one.principle), (Message("user", one.prompt),)
            question = _question(constitution, by, asked, one.first, one.second, language)
            turns.append(Message("user", f"{question}\n\n{_ENDS['verdict'][language]}"))
            turns.append(Message("assistant", OPTIONS[one.better == "second"]))
    question = _question(constitution, principle, prompt, first, second, language)
    return (*turns, Message("user", f"{question}\n\n{_ENDS[ends_with][language]}"))


def verdict_request(asked: Conversation, thoughts: str, language: Language) -> Conversation:
    """The same conversation with what a model thought about it, and the request to decide."""
    return (*asked, Message("assistant", thoughts), Message("user", _ENDS["after"][language]))


def _revised(constitution: Constitution, one: RevisionExample, language: Language) -> Conversation:
    by = constitution.named(one.principle)
    return (
        Message("user", one.prompt),
        Message("assistant", one.answer),
        Message("user", constitution.words(by, "critique", language)),
        Message("assistant", one.critique),
        Message("user", constitution.words(by, "revision", language)),
        Message("assistant", one.revision),
    )


def _after_system(prompt: Conversation, examples: Sequence[Conversation], rest: Conversation) -> Conversation:
    """Examples stand behind the system message, which comes first in every template."""
    at = 1 if prompt and prompt[0].role == "system" else 0
    shown = tuple(turn for example in examples for turn in example)
    return (*prompt[:at], *shown, *prompt[at:], *rest)


_QUESTION = {
    "en": "Here are a conversation and two answers to its last message.",
    "ko": "다음은 대화와, 그 마지막 말에 대한 두 답변입니다.",
}
_ENDS: dict[str, dict[Language, str]] = {
    "verdict": {"en": "Reply with (A) or (B) alone.", "ko": "(A) 또는 (B)로만 답하세요."},
    "thoughts": {
        "en": "First think it over in a few sentences, without deciding yet.",
        "ko": "아직 결정하지 말고, 먼저 몇 문장으로 따져 보세요.",
    },
    "after": {
        "en": "So which one is it? Reply with (A) or (B) alone.",
        "ko": "그렇다면 어느 쪽입니까? (A) 또는 (B)로만 답하세요.",
    },
}
_ROLES: dict[Language, dict[str, str]] = {
    "en": {"system": "System", "user": "User", "assistant": "Assistant"},
    "ko": {"system": "시스템", "user": "사용자", "assistant": "도우미"},
}


def _question(
    constitution: Constitution, principle: Principle, prompt: Conversation, first: str, second: str, language: Language
) -> str:
    conversation = "\n".join(f"{_ROLES[language][turn.role]}: {turn.content}" for turn in prompt)
    question = constitution.words(principle, "comparison", language)
    return "\n\n".join([_QUESTION[language], conversation, question, f"(A) {first}", f"(B) {second}"])
