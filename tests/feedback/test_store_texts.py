"""Texts and numbers that a database cannot hold are refused alike by both, with a sentence; all others come back."""

import json
import random
from contextlib import suppress

import pytest
from feedback.store_work import any_answer, set_up, submission
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from baro.errors import ConfigError
from baro.feedback import answers, assign, criteria, judge, people, project, schema
from baro.feedback.database import json_text
from baro.feedback.refusals import Refused
from baro.records import Message

NUL, HALF = "a\0b", "a\ud800b"
ODD = {
    "NUL": (NUL, r"the character NUL \(U\+0000\), which cannot be stored"),
    "half": (HALF, r"half a surrogate pair \(U\+D800\)"),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_characters_are_refused_everywhere(store, odd):
    text, sentence = ODD[odd]
    made, raters = store.write(lambda c: set_up(c, prompts=2))
    edits, _ = store.write(lambda c: set_up(c, "edits", prompts=2, kind="edit", raters=0))
    lease = store.write(lambda c: assign.claim(c, raters[0], made))
    edit = store.write(lambda c: assign.claim(c, raters[1], edits))
    me, her = (lease.assignment_id, raters[0].id), (edit.assignment_id, raters[1].id)
    answer = any_answer("pair", 2, random.Random(0))
    prompt_id = first_prompt(store)
    # as they would come if pydantic let them through
    fine, edited = submission(lease, "key-after", answer), submission(edit, "key-edit", {"kind": "edit", "text": "new"})
    changed = edited.model_copy(update={"answer": edited.answer.model_copy(update={"text": text})})
    remark = answers.Span.model_construct(start=0, end=1, note=text)
    remarked = edited.model_copy(update={"answer": edited.answer.model_copy(update={"spans": [remark]})})
    label = {"key": "clear", "labels": {"en": {"name": text}}, "low": 1, "high": 5}
    for work in (
        lambda c: project.add_prompt(c, made.id, (Message("user", text),), "test"),
        lambda c: project.add_prompt(c, made.id, (Message("user", "fine"),), "test", {"deep": [{text: 1}]}),
        lambda c: project.add_prompt(c, made.id, (Message("user", "fine"),), text),
        lambda c: project.add_response(c, prompt_id, None, text),
        lambda c: project.add_generation(c, made.id, text, {}),
        lambda c: project.add_generation(c, made.id, "model", {"a": {"b": text}}),
        lambda c: project.publish_guideline(c, made, "ko", text, "test"),
        lambda c: criteria.set_criteria(c, made, [label], "test"),
        lambda c: project.get_project(c, text),
        lambda c: people.add_rater(c, made.id, pseudonym=text),
        lambda c: judge.submit(c, *me, fine.model_copy(update={"comment": text})),
        lambda c: judge.submit(c, *me, fine.model_copy(update={"key": text})),
        lambda c: judge.submit(c, *her, changed),
        lambda c: judge.submit(c, *her, remarked),
        lambda c: judge.retract(c, text, raters[0].id, lease.secret, "key-back"),
        lambda c: assign.give_back(c, *me, lease.secret, skip_reason=text),
        lambda c: assign.save_draft(c, *me, lease.secret, 0, {"words": [text]}),
    ):
        with pytest.raises(Refused, match=f"{sentence}|1 to 60 visible characters") as refused:
            store.write(work)
        assert refused.value.code == "invalid"
    with pytest.raises(ConfigError, match="a project's name is made of"):
        store.write(lambda c: project.create_project(c, text))
    with pytest.raises(Refused), store.read() as connection:
        project.get_project(connection, text)
    store.write(lambda c: judge.submit(c, *me, fine))  # nothing stuck


def test_a_refused_row_does_not_stop_an_import(store):
    """The same transaction goes on: on PostgreSQL too, since the server never saw the row."""

    def rows(connection):
        made = project.create_project(connection, "name")
        for text in ("one", NUL, HALF, "two"):
            with suppress(Refused):
                project.add_prompt(connection, made.id, (Message("user", text),), "test")

    store.write(rows)
    with store.read() as connection:
        messages = connection.execute(select(schema.prompt.c.messages)).scalars()
        assert sorted(one[0]["content"] for one in messages) == ["one", "two"]


def first_prompt(store):
    with store.read() as connection:
        return connection.execute(select(schema.prompt.c.id)).scalars().first()


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def test_every_other_text_comes_back_as_it_was(store):
    made = store.write(lambda c: project.create_project(c, "name"))

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(WORDS, st.dictionaries(WORDS, JSON, max_size=3))
    def comes_back(words, extra):
        turns = (
            Message("user", words),
            Message("assistant", "\\u0000 \\\\u0000 'x'; DROP TABLE task; --"),
            Message("user", words),
        )
        prompt_id, _ = store.write(lambda c: project.add_prompt(c, made.id, turns, words, extra))
        again, new = store.write(lambda c: project.add_prompt(c, made.id, turns, "other"))
        response_id, _ = store.write(lambda c: project.add_response(c, prompt_id, None, words))
        assert (again, new) == (prompt_id, False)
        with store.read() as connection:
            row = connection.execute(select(schema.prompt).where(schema.prompt.c.id == prompt_id)).one()
            text = connection.execute(
                select(schema.response.c.text).where(schema.response.c.id == response_id)
            ).scalar_one()
        assert [one["content"] for one in row.messages] == [one.content for one in turns]
        assert text == words
        if row.source == words and new:
            assert row.extra == extra

    comes_back()


@pytest.mark.parametrize(
    "value", [{"a": float("nan")}, [float("inf")], {"a": ["\0"]}, {"\0": 1}, ["\\\0"], ["\ud800"], {"\udfff": 1}]
)
def test_no_json(value):
    with pytest.raises(Refused):
        json_text(value)


def test_json_that_goes_too_deep():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Refused, match="cannot be stored as JSON"):
        json_text(value)


def test_a_backslash_is_no_nul():
    for text in ("\\u0000", "\\\\u0000", "\\\\\\u0000", "u0000", '"\\u0000'):
        assert json.loads(json_text([text])) == [text]


def test_long_texts(store):
    long = "가나다라 " * 1_000_000
    made = store.write(lambda c: project.create_project(c, "name"))
    prompt_id, _ = store.write(lambda c: project.add_prompt(c, made.id, (Message("user", long),), "test"))
    assert store.write(lambda c: project.add_response(c, prompt_id, None, long)) == (
        store.write(lambda c: project.add_response(c, prompt_id, None, long))[0], True,
    )  # fmt: skip
    with store.read() as connection:
        assert connection.execute(select(schema.response.c.text)).scalar_one() == long
        assert connection.execute(select(schema.prompt.c.messages)).scalar_one()[0]["content"] == long


def test_numbers_out_of_range(store):
    made, _ = store.write(set_up)
    label = {"key": "clear", "labels": {}, "low": 1, "high": 5}
    for work, sentence in (
        (lambda c: project.make_tasks(c, made, "thumb", overlap=0), "1 to 50 judgments"),
        (lambda c: project.make_tasks(c, made, "thumb", overlap=2**40), "1 to 50 judgments"),
        (lambda c: project.make_tasks(c, made, "thumb", priority=2**70), "a priority lies between"),
        (lambda c: project.make_tasks(c, made, "thumb", per_prompt=0), "1 to 1000 tasks at once"),
        (lambda c: project.make_tasks(c, made, "pair", size=3), "a task of kind pair shows 2 responses, not 3"),
        (lambda c: project.make_tasks(c, made, "rank", size=10), "shows 2 to 9 responses, not 10"),
        (lambda c: project.make_tasks(c, made, "likert"), "'likert' is no kind of task; give one of pair, rank"),
        (lambda c: criteria.set_criteria(c, made, [label | {"high": 2**40}], "test"), "between -1000 and 1000"),
        (lambda c: criteria.set_criteria(c, made, [label | {"low": 5}], "test"), "the scale must go up"),
        (lambda c: criteria.set_criteria(c, made, [label, label], "test"), "is given twice; keep one"),
        (
            lambda c: criteria.set_criteria(c, made, [label | {"weight": float("nan")}], "test"),
            "weight must be a number",
        ),
        (lambda c: criteria.set_criteria(c, made, [label | {"key": "k" * 5000}], "test"), "1 to 100 characters"),
    ):
        with pytest.raises(Refused, match=sentence):
            store.write(work)
