"""Why a figure is undefined, in every language: each code that the source raises, with its values."""

import ast
import re
from pathlib import Path

import pytest
from feedback.reasons import FIELD, made

import baro
from baro.feedback import card
from baro.feedback.catalogue import LANGUAGES, catalogue
from baro.feedback.undefined import sentence, undefined_json
from baro.functional.undefined import REASONS, Unvaried


def raised():
    """(where, code, names of the values) of every Undefined that the source makes."""
    for path in sorted(Path(baro.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Undefined":
                codes = [one for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)]
                for code in (one.value for one in codes if isinstance(one.value, str)):
                    yield f"{path.name}:{node.lineno}", code, {one.arg for one in node.keywords}


def test_every_reason_has_a_sentence_and_every_sentence_a_reason():
    found = list(raised())
    for where, code, values in found:
        assert code in REASONS, where
        assert values == set(FIELD.findall(REASONS[code])), where
    assert {code for _, code, _ in found} | {"unvaried"} == set(REASONS)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_has_the_same_reasons(lang):
    keys = [key for key in catalogue(lang) if key.startswith("undefined.")]
    texts = {key.removeprefix("undefined."): catalogue(lang)[key] for key in keys}
    assert set(texts) == set(REASONS)
    for code, text in texts.items():
        assert set(FIELD.findall(text)) == set(FIELD.findall(REASONS[code])), code
    if lang == "en":
        assert texts == REASONS


@pytest.mark.parametrize("code", REASONS)
def test_a_reason_is_told_in_both_languages(code):
    told = undefined_json(made(code))["undefined"]
    assert (told["code"], told["sentence"]) == (code, str(made(code)))
    assert sentence(told, "en") == told["sentence"]
    korean = sentence(told, "ko")
    assert re.search("[가-힣]", korean)
    assert not re.search("[A-Za-z]{2}|[{}]", korean)
    for value in told["values"].values():
        assert (sentence(value, "ko") if isinstance(value, dict) else str(value)) in korean
    figure = {"scale": "rank", "items": 3, "raw": {"undefined": told}, "alpha": {"undefined": told}}
    assert korean in "\n".join(card._agreement([figure], card.WORDS["ko"], "ko"))


def test_what_no_resample_varies_says_its_value():
    told = undefined_json(Unvaried(1 / 3, 4))["undefined"]
    assert (told["code"], told["values"]) == ("unvaried", {"value": "0.333", "n": 4})
