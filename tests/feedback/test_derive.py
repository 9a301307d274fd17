"""Current judgments as votes: revisions, what was taken back, what is no vote, watermarks, and speed."""

from __future__ import annotations

import time

import pytest
from feedback.judging import Desk, make_gold, many_pairs, neither, new_store, rank, safety, thumbs, win

from baro.feedback.derive import last_event, votes_of
from baro.feedback.scales import scales_of


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path)
    yield Desk(store)
    store.close()


def votes(desk, **more):
    with desk.store.read() as connection:
        return votes_of(connection, desk.project.id, **more)


def test_a_judgment_is_its_newest_revision(desk):
    task = desk.task("pair", "q", ["one", "two"])
    made = desk.say("ann", task, win(0, 1))
    desk.again("ann", made, win(1, 3))
    (vote,) = votes(desk).pairs
    assert vote.winner == vote.judgment.task.responses[1]
    assert (vote.strength, vote.judgment.revision, vote.judgment.role) == (3, 2, "vote")
    both = votes(desk, history=True)
    assert [one.action for one in both.judgments] == ["submit", "revise"]
    assert len(both.pairs) == 2


def test_what_was_taken_back_is_gone_and_stays_in_the_history(desk):
    task = desk.task("pair", "q", ["one", "two"])
    made = desk.say("ann", task, win(0))
    before = votes(desk).watermark
    desk.take_back("ann", made)
    assert votes(desk).judgments == ()
    assert [one.action for one in votes(desk, history=True).judgments] == ["submit", "retract"]
    assert len(votes(desk, watermark=before).pairs) == 1  # as it stood then


def test_a_watermark_shows_the_older_revision(desk):
    task = desk.task("pair", "q", ["one", "two"])
    made = desk.say("ann", task, win(0))
    before = votes(desk).watermark
    desk.again("ann", made, win(1))
    (older,) = votes(desk, watermark=before).pairs
    assert older.winner == older.judgment.task.responses[0]
    with desk.store.read() as connection:
        assert last_event(connection, desk.project.id) > before


def test_known_answers_repeats_and_adjudications_are_no_votes(desk):
    gold = desk.task("pair", "q0", ["one", "two"])
    make_gold(desk, gold, win(0))
    plain = desk.task("pair", "q1", ["one", "two"])
    desk.say("ann", gold, win(0))
    desk.say("ann", plain, win(0))
    desk.say("boss", plain, win(1), purpose="adjudicate")
    found = votes(desk)
    assert sorted(one.role for one in found.judgments) == ["adjudication", "gold", "vote"]
    (scale,) = scales_of(found).values()
    assert scale.name == "pair/overall"
    assert [list(one) for one in scale.items.values()] == [[desk.raters["ann"].id]]


@pytest.mark.parametrize("slot", [0, 1])
def test_choice_and_side_do_not_depend_on_the_screen(desk, slot):
    task = desk.task("pair", "q", ["one", "two"])
    for name in ("ann", "ben"):  # mirrored for the second
        desk.say(name, task, win(slot))
    one, other = votes(desk).pairs
    assert one.choice == other.choice == float(one.judgment.task.canonical[0] == one.judgment.task.responses[slot])
    assert one.first_on_left != other.first_on_left
    assert one.position != other.position


@pytest.mark.parametrize(("outcome", "choice"), [("tie", 0.5), ("both_bad", 0.5), ("unsure", None)])
def test_no_winner(desk, outcome, choice):
    task = desk.task("pair", "q", ["one", "two"])
    desk.say("ann", task, neither(outcome))
    assert votes(desk).pairs[0].choice == choice


def test_every_kind_becomes_a_scale(desk):
    desk.say("ann", desk.task("rank", "q1", ["a", "b", "c"]), rank(1, 2, None))
    desk.say("ann", desk.task("thumb", "q2", ["a"]), thumbs(True))
    desk.say("ann", desk.task("safety", "q3", ["a", "b"]), safety([0, 2], helpful=1, safer=0))
    found = votes(desk)
    scales = scales_of(found)
    assert list(scales) == ["pair/helpful", "pair/safer", "rank", "safe", "severity", "thumb"]
    assert len(scales["rank"].items) == 1  # the unranked one is compared with nothing
    assert found.ranks[0].ranks == dict(zip(found.ranks[0].judgment.task.responses[:2], (1, 2), strict=True))
    assert sorted(value for one in scales["severity"].items.values() for value in one.values()) == [0, 2]


def test_one_task_alone(desk):
    tasks = [desk.task("pair", f"q{i}", ["one", "two"]) for i in range(3)]
    for task in tasks:
        desk.say("ann", task, win(0))
    assert [one.judgment.task.id for one in votes(desk, task_id=tasks[1]).pairs] == [tasks[1]]


def test_ten_thousand_judgments_in_about_a_second(desk):
    many_pairs(desk, tasks=5000, raters=5)
    begun = time.process_time()
    found = votes(desk)
    seconds = time.process_time() - begun
    assert len(found.pairs) == 10_000
    assert seconds < 3, f"{seconds:.2f} s"  # 0.5 s on an idle core


def test_what_one_judgment_says_has_an_order_of_its_own(store):
    """Not that of the screen, nor any that a query's plan may have."""
    desk = Desk(store, overlap=1)
    for i in range(6):
        desk.say("ann", desk.task("thumb", f"q{i}", [f"{i} {k}" for k in range(5)]), thumbs(*[True] * 5))
    said = [(one.judgment.event_id, one.response) for one in votes(desk).thumbs]
    assert said == sorted(said)
