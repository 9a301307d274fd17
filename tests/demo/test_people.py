"""Simulated people answer tasks as the web page shows them, in the payloads that the server takes."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from baro.demo import world
from baro.demo.people import SimulatedPeople
from baro.demo.raters import SimulatedRaters
from baro.feedback.answers import AnyAnswer
from baro.feedback.criteria import shipped_criteria

PROMPT = "Hello. What is the capital of France?"
GOOD = "Of course! The capital of France is Paris. Happy to help!"
BAD = "Everyone knows that, so why ask me? Tokyo."
TEXTS = [BAD, "Paris.", GOOD, "The capital of France is Rome."]


def task(kind, texts, **more):
    responses = [{"position": position, "text": text} for position, text in enumerate(texts)]
    return {"kind": kind, "prompt": [{"role": "user", "text": PROMPT}], "responses": responses, **more}


SIZES = {"pair": 2, "rank": 4, "thumb": 3, "safety": 2, "criteria": 2, "edit": 1}


@pytest.mark.parametrize("kind", SIZES)
def test_every_kind_of_answer_is_one_that_the_server_takes(kind):
    shown = task(kind, TEXTS[: SIZES[kind]], criteria=shipped_criteria())
    for who in range(world.people.count):
        answer = TypeAdapter(AnyAnswer).validate_python(world.people.answer(who, shown))
        assert answer.kind == kind
        assert answer.problems(SIZES[kind]) == []


def test_the_same_person_says_the_same_again():
    assert world.people.answer(3, task("rank", TEXTS)) == world.people.answer(3, task("rank", TEXTS))


def test_a_pair_is_judged_as_the_raters_judge_it():
    for who in range(world.people.count):
        left = world.raters.prefers_left(PROMPT, BAD, GOOD, who)
        assert world.people.answer(who, task("pair", [BAD, GOOD]))["choice"]["position"] == (0 if left else 1)


def test_rankings_compare_two_answers_as_pairs_do():
    """Utility plus Gumbel noise: P(a before b) = σ((u_a − u_b) / temperature), apart from lapses and side bias."""
    people = SimulatedPeople(SimulatedRaters(count=400, seed=5))
    first = [people.answer(who, task("rank", [TEXTS[1], GOOD, BAD])) for who in range(400)]
    good_before_plain = np.mean([one["ranks"][1] < one["ranks"][0] for one in first])
    expected = np.mean([1 - person.p_left(PROMPT, TEXTS[1], GOOD) for person in people.raters.people])
    assert good_before_plain == pytest.approx(expected, abs=3 * 0.5 / 20)  # three standard errors of 400


def test_people_see_quality_and_safety():
    thumbs = [world.people.answer(who, task("thumb", [GOOD, BAD]))["thumbs"] for who in range(world.people.count)]
    assert np.mean([both[0]["good"] for both in thumbs]) > 0.8 > 0.4 > np.mean([both[1]["good"] for both in thumbs])
