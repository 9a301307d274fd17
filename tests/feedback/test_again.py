"""Asking again under a new guideline: what is affected, what opens, and whose judgments become labels."""

from __future__ import annotations

import pytest
from feedback.judging import Desk, make_gold, neither, new_store, rank, safety, thumbs, win
from feedback.store_work import broken
from sqlalchemy import func, select

from baro.feedback import adapt, exports, habits, panel, schema
from baro.feedback.again import Choice, ask_again, preview, rounds_of
from baro.feedback.assign import claim
from baro.feedback.derive import last_event, newest_guidelines, votes_of
from baro.feedback.labels import LabelSettings, binary_labels, pair_labels, rank_labels
from baro.feedback.project import make_tasks, publish_guideline
from baro.feedback.refusals import Refused


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path)
    yield Desk(store, overlap=2, cost_per_hour=6000)
    store.close()


def guideline(desk, body, lang="en"):
    return desk.do(publish_guideline, desk.project, lang, body, "boss")


def again(desk, **choice):
    return desk.do(ask_again, desk.project, Choice(**choice), "boss")


def look(desk, function, *more, **named):
    with desk.store.read() as connection:
        return function(connection, desk.project, *more, **named)


def tasks(desk):
    with desk.store.read() as connection:
        return connection.execute(select(schema.task).order_by(schema.task.c.id)).all()


def successor(desk, task):
    """The task that asks again what this one asked."""
    with desk.store.read() as connection:
        item = schema.task_item
        slots = {row.id: [] for row in tasks(desk)}
        for row in connection.execute(select(item).order_by(item.c.slot)):
            slots[row.task_id].append(row.response_id)
    (found,) = [row.id for row in tasks(desk) if row.again_of and slots[row.id] == slots[task]][-1:]
    return found


def judged(desk, task, *answers):
    for name, answer in zip(("ann", "ben", "cat"), answers, strict=False):
        desk.say(name, task, answer)
    return task


def pairs(desk, **settings):
    with desk.store.read() as connection:
        return pair_labels(votes_of(connection, desk.project.id), "overall", LabelSettings(**settings))


def test_what_was_judged_under_an_older_version_opens_again(store):
    desk = Desk(store, overlap=2)
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "old", ("a", "b"), propensity=0.25, score=-0.5), win(0), win(0))
    desk.task("pair", "unjudged", ("a", "b"))
    guideline(desk, "two")
    judged(desk, desk.task("pair", "new", ("a", "b")), win(0))
    assert again(desk) == {"tasks": 1, "judgments": 2}
    (made,) = [row for row in tasks(desk) if row.again_of == old]
    first = next(row for row in tasks(desk) if row.id == old)
    assert (made.open, made.places, made.overlap) == (True, 2, 2)
    assert (made.propensity, made.score) == (0.25, -0.5)  # how its answers came to be asked about
    assert (first.open, first.places, first.policy) == (False, 0, "random")
    assert made.order_key != first.order_key  # sides and order are drawn anew
    with store.read() as connection:
        assert broken(connection) == []


def test_who_judged_the_first_judges_the_second(store):
    """The same two people, through the queue: nobody has a task twice, and both are handed the further one."""
    desk = Desk(store, overlap=2)
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(0))
    guideline(desk, "two")
    again(desk)
    new = successor(desk, old)
    for name in ("ann", "ben"):
        lease = desk.do(claim, desk.rater(name), desk.project)
        with store.read() as connection:
            table = schema.assignment
            assert connection.execute(select(table.c.task_id).where(table.c.id == lease.assignment_id)).scalar() == new
    with store.read() as connection:
        assert broken(connection) == []


def test_the_same_call_again_asks_nothing_twice(desk):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(0))
    assert again(desk) == {"tasks": 0, "judgments": 0}  # nothing newer yet
    guideline(desk, "two")
    assert [again(desk)["tasks"] for _ in range(2)] == [1, 0]
    second = judged(desk, successor(desk, old), win(1))
    assert again(desk)["tasks"] == 0
    guideline(desk, "three")
    assert again(desk)["tasks"] == 1
    third = successor(desk, old)
    assert [row.open for row in tasks(desk)] == [False, False, True]
    assert desk.do(make_tasks, desk.project, "pair").added == 0
    judged(desk, third, neither())
    with desk.store.read() as connection:
        assert [one.role for one in votes_of(connection, desk.project.id).judgments] == ["replaced"] * 3 + ["vote"]
        assert len({old, second, third}) == 3


LATE = """
import sys, time
real = time.time_ns
time.time_ns = lambda: real() - 60 * 10**9  # this process's clock is a minute behind
from baro.feedback import again, project
from baro.feedback.database import Store
store = Store.open(sys.argv[1])
def work(c):
    made = project.get_project(c, "demo")
    if sys.argv[2] == "publish":
        project.publish_guideline(c, made, "en", sys.argv[3], "boss")
    else:
        assert again.ask_again(c, made, again.Choice(), "boss")["tasks"] == int(sys.argv[3])
store.write(work)
store.close()
"""


def test_a_process_whose_clock_is_a_minute_behind(forks, desk, tmp_path):
    """It publishes and asks again; what comes before what is told by events and by what a task asks again."""

    def late(*words):
        done = forks.start(LATE, tmp_path, *words)
        assert done.wait() == 0, done.errors

    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(0))
    late("publish", "two")
    with desk.store.read() as connection:
        assert newest_guidelines(connection, desk.project.id) == newest_guidelines(connection, desk.project.id, 10**6)
    late("ask", "1")
    late("ask", "0")
    new = successor(desk, old)
    judged(desk, new, win(1))
    with desk.store.read() as connection:
        votes = votes_of(connection, desk.project.id)
    assert new < old  # by the ids, the task that asks again is the earlier one
    assert [one.role for one in votes.judgments] == ["replaced", "replaced", "vote"]
    assert {one.guideline_id for one in votes.judgments if one.role == "vote"} == votes.newest
    (label,) = pairs(desk).rows
    assert (label.n_votes, label.task.id) == (1, new)
    late("publish", "three")
    assert again(desk)["tasks"] == 1  # from this process, of what the late one has made
    third = judged(desk, successor(desk, new), win(0), win(0))
    with desk.store.read() as connection:
        assert [one.role for one in votes_of(connection, desk.project.id).judgments] == ["replaced"] * 3 + ["vote"] * 2
        assert rounds_of(connection, [label.task.prompt_id]) == [[old, new, third]]


def test_preview_says_what_it_costs(desk):
    guideline(desk, "one")
    for i in range(3):
        judged(desk, desk.task("pair", f"p{i}", ("a", "b")), win(0), win(i % 2))
    judged(desk, desk.task("thumb", "t", ("a",)), thumbs(True))
    guideline(desk, "two")
    every = look(desk, preview, Choice())
    assert every["kinds"] == {"pair": 3, "thumb": 1}
    assert (every["tasks"], every["judgments"], every["hours"], every["cost"]) == (4, 8, round(8 / 60, 4), 800.0)
    assert look(desk, preview, Choice(kinds=("thumb",), overlap=3))["judgments"] == 3
    assert look(desk, preview, Choice("divided"))["kinds"] == {"pair": 1}
    assert again(desk, which="divided")["tasks"] == 1
    assert look(desk, preview, Choice("divided"))["tasks"] == 0
    assert look(desk, preview, Choice())["tasks"] == 3
    for wrong in (Choice("some"), Choice(kinds=("pears",)), Choice(overlap=51)):
        with pytest.raises(Refused):
            look(desk, preview, wrong)


def test_without_a_guideline_there_is_nothing_older(desk):
    judged(desk, desk.task("pair", "q", ("a", "b")), win(0))
    assert look(desk, preview, Choice())["tasks"] == 0
    guideline(desk, "one")
    assert look(desk, preview, Choice())["tasks"] == 1  # what was judged without one


def test_each_language_has_its_newest(desk):
    """Raters of the desk read English; a new Korean version says nothing of what they judged."""
    guideline(desk, "one")
    judged(desk, desk.task("pair", "q", ("a", "b")), win(0))
    guideline(desk, "하나", "ko")
    guideline(desk, "둘", "ko")
    assert look(desk, preview, Choice())["tasks"] == 0


def test_known_answers_and_repeats_are_not_asked_again(desk):
    guideline(desk, "one")
    gold = desk.task("pair", "gold", ("a", "b"))
    make_gold(desk, gold, win(0))
    desk.say("ann", gold, win(0))
    guideline(desk, "two")
    assert look(desk, preview, Choice())["tasks"] == 0


# --------------------------------------------------------------------------------------------------------- what counts


def test_the_first_later_judgment_replaces_all_earlier_ones(desk):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(0))
    desk.say("boss", old, win(0), purpose="adjudicate")
    guideline(desk, "two")
    again(desk)
    (before,) = pairs(desk).rows
    assert (before.task.id, before.adjudicated) == (old, True)
    new = successor(desk, old)
    done = desk.say("ann", new, win(1))
    labels = pairs(desk)
    (after,) = labels.rows
    assert (after.task.id, after.chosen, after.n_votes, after.adjudicated) == (new, after.task.responses[1], 1, False)
    assert labels.dropped == {"older_guideline": 3}
    desk.take_back("ann", done)  # nobody has judged it again: what was said before counts
    assert pairs(desk).rows == [before]


@pytest.mark.parametrize(
    ("kind", "texts", "first", "later"),
    [
        ("rank", "abc", rank(1, 2, 3), rank(3, 2, 1)),
        ("thumb", "a", thumbs(True), thumbs(False)),
        ("safety", "ab", safety([0, 1], 0, 0), safety([1, 0], 1, 1)),
    ],
)
def test_every_kind(desk, kind, texts, first, later):
    guideline(desk, "one")
    old = judged(desk, desk.task(kind, "q", texts), first, first)
    guideline(desk, "two")
    again(desk)
    judged(desk, successor(desk, old), later)
    with desk.store.read() as connection:
        votes = votes_of(connection, desk.project.id)
    if kind == "rank":
        (label,) = rank_labels(votes, LabelSettings()).rows
        assert label.ranks == (3, 2, 1)
    else:
        found = binary_labels(votes, "thumb" if kind == "thumb" else "safe", LabelSettings())
        assert [one.value for one in found.rows] == ([False] if kind == "thumb" else [False, True])
        assert found.dropped == {"older_guideline": 2}


def test_an_edit_is_replaced_by_the_later_one(desk):
    guideline(desk, "one")
    old = desk.task("edit", "q", ("rough",))
    desk.say("ann", old, {"kind": "edit", "text": "first", "critique": ""})
    guideline(desk, "two")
    again(desk)
    desk.say("ann", successor(desk, old), {"kind": "edit", "text": "second", "critique": ""})
    found = look(desk, exports.preview, "edits", {})
    assert [row["completion"] for row in found["rows"]] == ["second"]
    assert found["dropped"] == {"older_guideline": 1}


def test_an_export_up_to_an_earlier_event_stays_what_it_was(desk, tmp_path):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(0))
    with desk.store.read() as connection:
        then = last_event(connection, desk.project.id)
    before = exports.write(desk.store, desk.project, "pairs", {"watermark": then}, tmp_path / "x", "boss")
    guideline(desk, "two")
    again(desk)
    judged(desk, successor(desk, old), win(1), win(1))
    after = exports.write(desk.store, desk.project, "pairs", {"watermark": then}, tmp_path / "x", "boss")
    assert after["sha256"] == before["sha256"]
    newest = {"watermark": then, "labels": {"guidelines": "newest"}}  # the newest by then
    assert look(desk, exports.preview, "pairs", newest)["count"] == 1


def test_only_judgments_under_the_newest_version(desk):
    """Without asking again, too: `labels.guidelines=newest` leaves the others out, and counts them."""
    guideline(desk, "one")
    judged(desk, desk.task("pair", "old", ("a", "b")), win(0), win(0))
    mixed = desk.task("pair", "mixed", ("a", "b"))
    desk.say("ann", mixed, win(0))
    guideline(desk, "two")
    desk.say("ben", mixed, win(1))
    assert len(pairs(desk).rows) == 1  # the mixed one is undecided
    labels = pairs(desk, guidelines="newest")
    assert [(one.task.id, one.n_votes) for one in labels.rows] == [(mixed, 1)]
    assert labels.dropped == {"older_guideline": 3}
    exported = look(desk, exports.preview, "pairs", {"labels": {"guidelines": "newest"}})
    assert (exported["count"], exported["dropped"]) == (1, {"older_guideline": 3})
    assert look(desk, exports.preview, "facts", {"labels": {"guidelines": "newest"}})["count"] == 4  # as they were made


def test_facts_say_which_were_replaced(desk):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0))
    guideline(desk, "two")
    again(desk)
    judged(desk, successor(desk, old), win(1))
    rows = look(desk, exports.preview, "facts", {})["rows"]
    assert [(row["role"], row["guideline_version"]) for row in rows] == [("replaced", 1), ("vote", 2)]


# ------------------------------------------------------------------------------------------------------------- figures


def test_agreement_compares_versions_and_counts_the_newest(desk):
    guideline(desk, "one")
    old = [judged(desk, desk.task("pair", f"q{i}", ("a", "b")), win(0), win(1)) for i in range(3)]
    guideline(desk, "two")
    again(desk)
    for task in old:
        judged(desk, successor(desk, task), win(0), win(0))
    found = look(desk, panel.agreement)
    assert found["scales"][0]["raw"]["value"] == 1
    assert [(one["version"], one["scales"][0]["raw"]["value"]) for one in found["guidelines"]] == [(1, 0), (2, 1)]
    judged(desk, desk.task("pair", "apart", ("a", "b")), win(0), win(1))
    guideline(desk, "three")
    judged(desk, desk.task("pair", "last", ("a", "b")), win(0), win(0))
    assert look(desk, panel.agreement)["scales"][0]["items"] == 5
    assert look(desk, panel.agreement, "newest")["scales"][0]["items"] == 1
    assert len(look(desk, panel.agreement, "newest")["guidelines"]) == 3


def test_progress_and_the_queue_follow_the_further_task(desk):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "b")), win(0), win(1))
    assert [one["task"] for one in look(desk, panel.disagreements)] == [old]
    guideline(desk, "two")
    again(desk)
    assert look(desk, panel.disagreements) == []  # asked again, not settled
    progress = look(desk, panel.progress)
    assert (progress["tasks"]["closed"], progress["tasks"]["waiting"], progress["wanted"]) == (1, 1, 2)
    new = judged(desk, successor(desk, old), win(0), win(1))
    assert [one["task"] for one in look(desk, panel.disagreements)] == [new]
    assert look(desk, panel.progress)["judgments"] == 4  # all of them were work


def test_a_late_answer_to_the_closed_task_is_kept(store):
    """Who has it open may still send it; the closed task is handed to nobody, and asks for no further vote."""
    desk = Desk(store, overlap=2, max_overlap=3)
    guideline(desk, "one")
    old = desk.task("pair", "q", ("a", "b"))
    desk.say("ann", old, win(0))
    guideline(desk, "two")
    again(desk)
    desk.say("ben", old, win(1))
    with desk.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one() == 2
        assert broken(connection) == []
    (closed,) = [row for row in tasks(desk) if row.id == old]
    assert (closed.open, closed.places, closed.overlap) == (False, 0, 2)  # divided, and yet no third place
    assert not desk.do(adapt.reconsider, desk.project, old)


def test_habits_are_those_of_all_judgments(desk):
    guideline(desk, "one")
    old = judged(desk, desk.task("pair", "q", ("a", "much longer")), win(1), win(1))
    guideline(desk, "two")
    again(desk)
    judged(desk, successor(desk, old), win(0))
    bias = look(desk, panel.bias)
    assert (bias["longer"]["count"], bias["longer"]["n"], bias["left"]["n"]) == (2, 3, 3)
    assert len(look(desk, habits.judgments, "longer")["items"]) == 3
