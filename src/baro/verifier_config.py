"""What verifiers are told, each by a class with its own options. No torch here.

In a file: ``verifier: gsm8k``, or a block with the name and options, ``verifier: {name: gsm8k, method: flexible}``.
What is right for a prompt stands in a column of its row, which ``answer`` names; unless that is given, the names that
data sets have for it are tried as well (``rewards/verified.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from baro.config import Config
from baro.functional.json_schema import unknown_keyword
from baro.problems import shown


class Gsm8k(Config):
    """The answer is a number, as in GSM8K: its value counts, not how it is written."""

    name: Literal["gsm8k"] = "gsm8k"
    answer: str = Field("answer", description="the column with the right number, or with a solution that ends in ####")
    method: Literal["strict", "flexible"] = Field(
        "strict", description="strict: the one number after the last ####; flexible: the last number of the text"
    )


class Text(Config):
    """The answer is a text, or one of several."""

    name: Literal["text"] = "text"
    answer: str = Field("answer", description="the column with the right text, or with a list of right texts")
    after: str | None = Field(None, description="the answer is what follows this text, the last time it stands there")
    compare: Literal["exact", "normalised"] = Field(
        "normalised", description="exact: character by character; normalised: whatever case, width, spaces, full stop"
    )


class Choice(Config):
    """The answer is one of several choices: A to E, ① to ⑤, 가 to 마, or 1번 to 5번."""

    name: Literal["choice"] = "choice"
    answer: str = Field("answer", description="the column with the right choice, in any of these forms or a number")
    count_from: Literal[0, 1] | None = Field(
        None, description="whether a number in that column is 0 for the first choice, or 1; needed for numbers"
    )
    choices: int = Field(5, ge=2, le=5, description="how many choices there are")


Unit = Literal["tokens", "words", "characters"]


class Format(Config):
    """The completion has a form, by a regular expression."""

    name: Literal["format"] = "format"
    pattern: str = Field(description="a regular expression; a dot stands for any character, the end of a line too")
    where: Literal["whole", "anywhere"] = Field(
        "whole", description="whether all of the completion must match, without white space around it, or a part"
    )
    deadline_seconds: float = Field(1.0, gt=0, description="of one match; one that takes longer is an error")

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, pattern: str) -> str:
        import regex

        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{shown(pattern)} is no regular expression ({error}); mend it") from None
        return pattern


class Json(Config):
    """The completion is JSON, as a schema says."""

    name: Literal["json"] = "json"
    json_schema: dict[str, Any] | None = Field(
        None, description="what it must be: a JSON Schema; any JSON unless given"
    )

    @field_validator("json_schema")
    @classmethod
    def _can_be_checked(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and (problem := unknown_keyword(schema)):
            raise ValueError(problem)
        return schema


class Length(Config):
    """The completion has a length."""

    name: Literal["length"] = "length"
    at_least: int | None = Field(None, ge=0, description="least length")
    at_most: int | None = Field(None, ge=0, description="greatest length")
    unit: Unit = Field("tokens", description="what is counted")

    @model_validator(mode="after")
    def _some_length(self) -> Length:
        if self.at_least is None and self.at_most is None:
            raise ValueError("every length fits; give at_least or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"no length is at least {self.at_least} and at most {self.at_most}; change one")
        return self


class Repetition(Config):
    """The completion repeats itself little: the score is the share of different n-grams."""

    name: Literal["repetition"] = "repetition"
    n: int = Field(3, ge=1, description="units that are compared together")
    unit: Unit = Field("words", description="what is counted")


class Code(Config):
    """The answer is a program in Python, which tests of the row call, or which is run on the row's inputs."""

    name: Literal["code"] = "code"
    cpu_seconds: int = Field(5, ge=1, description="of processor time, for a program and for its tests")
    deadline_seconds: float = Field(15.0, gt=0, description="from the start of a program to the end of its tests")
    memory_mb: int = Field(512, ge=64, description="of a program, and of its tests")
    unsafe_local: bool = Field(False, description="without bubblewrap: programs may read and change your files")


class Math(Config):
    """The answer is a mathematical expression, compared by math-verify."""

    name: Literal["math"] = "math"
    answer: str = Field(
        "answer", description="the column with the right answer, or a solution that has it in \\boxed{}"
    )
    deadline_seconds: float = Field(5.0, gt=0, description="for one answer; what takes longer is an error")
    unsafe_local: bool = Field(False, description="without bubblewrap: the library evaluates what models write")


def _named(value: Any) -> Any:
    """A bare text is the name of a verifier without options."""
    given = {"name": value} if isinstance(value, str) else value
    if isinstance(given, Config):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"it is {shown(given)}, and the name of a verifier or a block of its options is needed")
    names = sorted(one.model_fields["name"].default for one in VERIFIERS)
    name = given.get("name")
    if name in names:
        return given
    near = get_close_matches(str(name), names, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"the verifiers are {', '.join(names)}"
    raise ValueError(f"{'its name is missing' if name is None else shown(name) + ' names no verifier'}; {meant}")


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)


VERIFIERS: tuple[type[Config], ...] = (Gsm8k, Text, Choice, Format, Json, Length, Repetition, Code, Math)
VerifierConfig = Annotated[
    Annotated[Gsm8k, Tag("gsm8k")]
    | Annotated[Text, Tag("text")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Format, Tag("format")]
    | Annotated[Json, Tag("json")]
    | Annotated[Length, Tag("length")]
    | Annotated[Repetition, Tag("repetition")]
    | Annotated[Code, Tag("code")]
    | Annotated[Math, Tag("math")],
    Discriminator(_name),
    BeforeValidator(_named),
]
"""Any of them, told apart by ``name``."""
