"""Settings: what a project offers is what an answer may say, whatever a manager writes."""

import random

import pytest
from feedback.judging import new_store
from feedback.store_work import any_answer, set_up, submission, task_of
from pydantic import ValidationError
from sqlalchemy import select

from baro.feedback import assign, judge, project, schema, view
from baro.feedback.answers import CATEGORIES
from baro.feedback.refusals import Refused
from baro.feedback.settings import ProjectSettings

LONG = "가" * 100_000
HOSTILE = ["", " ", "\0", "\ud800", "<script>alert(1)</script>", "=1+1", "‮x", "x" * 100, "x" * 101, LONG]
VALUES = [*HOSTILE, [], [""], ["x"], [LONG], ["x", "x"], [f"reason {i}" for i in range(20)], HOSTILE[-3:-2] * 2,
          [f"reason {i}" for i in range(100_000)], list(CATEGORIES), ["violence"], ["violence", "violence"],
          None, True, False, -1, 0, 1, 2, 50, 51, 1e-9, 0.04, 0.05, 0.5, 0.500001, 0.999, 1, 1440, 1441, 1e9, 1e300,
          float("nan"), float("inf"), {}]  # fmt: skip


@pytest.mark.parametrize("name", ProjectSettings.model_fields)
def test_whatever_settings_take_people_can_work_with(name, tmp_path):
    """Every setting with every value: refused in a sentence, or tasks are answered with all that is offered."""
    store = new_store(tmp_path)
    kinds = ("pair", "thumb", "safety")
    made = [store.write(lambda c, kind=kind: set_up(c, kind, kind=kind, prompts=1, answers=2)) for kind in kinds]
    taken = 0
    for value in VALUES:
        for one, raters in made:
            settings = _changed(store, one, {name: value})
            if settings is None:
                break  # for the other kinds, too
            taken += 1
            _work(store, project.Project(one.id, one.name, settings), raters[0])
            _back(store, one)
    assert taken, name
    store.close()


def _changed(store, made, given):
    try:
        return store.write(lambda c: project.change_settings(c, made, given, "m"))
    except (ValidationError, Refused):
        return None


def _work(store, made, rater):
    """Claim, show, answer with everything that is offered, and take it back."""
    lease = store.write(lambda c: assign.claim(c, rater, made))
    assert lease is not None
    with store.read() as connection:
        task, items = task_of(connection, lease.assignment_id)
        shown = view.task_view(connection, rater, made, lease)
    answer = any_answer(task.kind, items, random.Random(0))
    if task.kind == "thumb":
        answer["thumbs"] = [{"good": False, "reasons": shown["project"]["thumb_reasons"]}] * items
    if task.kind == "safety":
        answer["marks"][1]["categories"] = shown["project"]["categories"]
    given = submission(lease, f"key-{lease.assignment_id}", answer)
    store.write(lambda c: judge.submit(c, lease.assignment_id, rater.id, given))
    with store.read() as connection:
        assert view.task_view(connection, rater, made, lease)["answer"] is not None
    store.write(lambda c: judge.retract(c, lease.assignment_id, rater.id, lease.secret, f"back-{lease.assignment_id}"))


def _back(store, made):
    def work(connection):
        saved = ProjectSettings(repeat_fraction=0, gold_fraction=0).model_dump(mode="json")
        connection.execute(schema.project.update().where(schema.project.c.id == made.id).values(settings=saved))
        assert connection.execute(select(schema.project.c.settings)).first()

    store.write(work)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"categories": ["rudeness"]}, "'rudeness' is no category of harm"),
        ({"categories": []}, "at least 1 item"),
        ({"categories": ["violence", "violence"]}, "'violence' is named twice; keep one"),
        ({"thumb_reasons": ["x" * 101]}, "at most 100 characters"),
        ({"thumb_reasons": [""]}, "at least 1 character"),
        ({"thumb_reasons": [str(i) for i in range(21)]}, "at most 20 items"),
        ({"currency": "x" * 11}, "at most 10 characters"),
        ({"currency": " "}, "at least 1 character"),
        ({"lease_minutes": 1e-9}, "greater than or equal to 0.05"),
        ({"overlap": 3, "max_overlap": 2}, "max_overlap 2 lies below overlap 3; raise it, or leave it out"),
    ],
)
def test_what_is_refused(given, sentence):
    with pytest.raises(ValidationError, match=sentence):
        ProjectSettings.model_validate(given)


def test_the_largest_overlap_is_the_overlap_unless_given():
    assert ProjectSettings().max_overlap is None
    assert ProjectSettings(overlap=7).max_overlap is None
