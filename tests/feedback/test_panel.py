"""What managers see, against planted raters; adaptive overlap; the queue for adjudicators."""

from __future__ import annotations

import json
import math
import random
from typing import get_args

import numpy as np
import pytest
from feedback.judging import Desk, make_gold, neither, new_store, rank, safety, thumbs, win
from sqlalchemy import select, update

from baro.feedback import adapt, coefficients, habits, panel, schema
from baro.feedback.asked import Task
from baro.feedback.assign import claim
from baro.feedback.derive import Judgment, PairVote, Votes, standing_times, votes_of
from baro.feedback.project import publish_guideline
from baro.feedback.scales import scales_of
from baro.functional.votes import needs_another_vote, smoothed_vote

NOTHING = {"code": "nothing_counted", "values": {}, "sentence": "nothing to count yet"}


@pytest.fixture(autouse=True)
def resamples():
    """As many as outside of tests: intervals are looked at here."""


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path)
    yield Desk(store, overlap=2)
    store.close()


def look(desk, function, *more):
    with desk.store.read() as connection:
        found = function(connection, desk.project, *more)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def judged(desk, count, *answers, kind="pair", texts=("one", "two longer"), word="q"):
    """``answers``: for each rater a function of the number of the task."""
    tasks = [desk.task(kind, f"{word}{i}", texts) for i in range(count)]
    for i, task in enumerate(tasks):
        for k, answer in enumerate(answers):
            desk.say(f"r{k}", task, answer(i))
    return tasks


def test_agreement_of_two_raters(store):
    """They agree on 12 of 16 pairs; the same on both databases. Which text a slot holds differs from store to store; of
    so many pairs nobody has one opinion alone, which would leave κ without an interval."""
    desk = Desk(store, overlap=2)
    judged(desk, 16, lambda i: win(0), lambda i: win(0 if i < 12 else 1))
    found = look(desk, panel.agreement)
    (scale,) = found["scales"]
    assert (scale["scale"], scale["raters"], scale["items"], scale["judgments"]) == ("pair/overall", 2, 16, 32)
    assert scale["raw"]["value"] == 0.75
    assert scale["raw"]["low"] < 0.75 < scale["raw"]["high"]
    assert scale["raw"]["n"] == 16
    assert {"alpha", "fleiss", "cohen"} < set(scale)
    assert -1 <= scale["cohen"]["value"] < 0.75
    assert [(one["pseudonym"], one["count"], one["n"]) for one in found["raters"]] == [("r0", 12, 16), ("r1", 12, 16)]
    assert look(desk, panel.agreement) == found  # the same seed


def test_the_noise_that_would_explain_an_agreement(desk):
    """0.75 of the pairs that both decided: ε = (1 − √(2 · 0.75 − 1)) / 2 = (1 − √½) / 2."""
    judged(desk, 8, lambda i: win(0), lambda i: win(0 if i < 6 else 1))
    judged(desk, 2, lambda i: win(0), lambda i: neither(), word="tie")  # say nothing of flips
    (scale, _) = look(desk, panel.agreement)["scales"]
    assert scale["raw"]["value"] == 0.6
    assert scale["noise"]["value"] == pytest.approx((1 - 0.5**0.5) / 2, abs=1e-6)
    assert 0 <= scale["noise"]["low"] < scale["noise"]["value"] < scale["noise"]["high"] <= 0.5
    assert scale["noise"]["n"] == 8


def test_no_noise_explains_less_than_chance(desk):
    judged(desk, 4, lambda i: win(0), lambda i: win(1), kind="pair")
    judged(desk, 2, lambda i: thumbs(True), lambda i: thumbs(True), kind="thumb", texts=["one"], word="t")
    pair, thumb = look(desk, panel.agreement)["scales"]
    assert "independent errors never push it below 50 %" in pair["noise"]["undefined"]["sentence"]
    assert "noise" not in thumb  # of comparisons only
    (alone,) = look(desk, panel.agreement)["guidelines"]
    assert "noise" in alone["scales"][0]


def test_undefined_has_a_reason(desk):
    judged(desk, 2, lambda i: thumbs(True), lambda i: thumbs(True), kind="thumb", texts=["one"])
    (scale,) = look(desk, panel.agreement)["scales"]
    assert "nothing varied" in scale["alpha"]["undefined"]["sentence"]
    assert "one category" in scale["ac1"]["undefined"]["sentence"]
    assert scale["raw"]["value"] == 1


@pytest.mark.parametrize("kind", ["pair", "thumb"])
def test_six_of_six_is_not_certainty(desk, kind):
    """Two raters who agree on six prompts: Wilson's 0.61 to 1, its ε, and no interval of a coefficient."""
    say = (lambda i: win(i % 2)) if kind == "pair" else (lambda i: thumbs(i % 2 == 0))
    judged(desk, 6, say, say, kind=kind, texts=("one", "two longer")[: 2 if kind == "pair" else 1])
    (scale,) = look(desk, panel.agreement)["scales"]
    assert scale["raw"] == {"value": 1.0, "low": 0.609666, "high": 1.0, "n": 6}
    assert all("no resample varies" in scale[key]["undefined"]["sentence"] for key in ("alpha", "fleiss", "cohen"))
    if kind == "pair":
        assert scale["noise"]["value"] == 0
        assert scale["noise"]["high"] == pytest.approx((1 - (2 * 0.609666 - 1) ** 0.5) / 2, abs=1e-5)


@pytest.mark.parametrize(("count", "few"), [(9, True), (10, False)])
def test_of_few_prompts_an_interval_is_said_to_be_too_short(desk, count, few):
    judged(desk, count, lambda i: win(0), lambda i: win(int(i == 0)))
    (scale,) = look(desk, panel.agreement)["scales"]
    assert [scale[key].get("few", False) for key in ("raw", "noise", "alpha")] == [few] * 3


def test_one_rater_agrees_with_nobody(desk):
    judged(desk, 2, lambda i: win(0))
    (scale,) = look(desk, panel.agreement)["scales"]
    assert "no item has two ratings" in scale["raw"]["undefined"]["sentence"]


def test_every_kind_has_its_coefficients(desk):
    judged(desk, 3, lambda i: rank(1, 2, 3), lambda i: rank(1, 3, 2), kind="rank", texts="abc", word="r")
    marks = lambda i: safety([0, 1 + i % 2], 0, 0)  # noqa: E731
    judged(desk, 3, marks, lambda i: safety([0, 1], 0, 0), kind="safety", word="s")
    judged(desk, 3, lambda i: win(0, 1 + i), lambda i: win(0, 3), word="p")
    found = {one["scale"]: one for one in look(desk, panel.agreement)["scales"]}
    assert "each gives 0.333 (n = 3)" in found["rank"]["kendall_tau"]["undefined"]["sentence"]
    assert found["rank"]["kendall_w"]["undefined"]["values"] == {"value": "0.750", "n": 3}  # 12 · 1.5 · 2 / (4 · 24)
    assert "no resample varies: each gives 1.000" in found["safe"]["ac1"]["undefined"]["sentence"]
    assert found["severity"]["level"] == "ordinal"
    assert "fleiss" not in found["severity"]
    assert "alpha" in found["strength/overall"]


def test_a_ranking_that_nobody_finished_has_no_concordance(desk):
    judged(desk, 1, lambda i: rank(1, 2, None), lambda i: rank(2, 1, None), kind="rank", texts="abc")
    (scale,) = look(desk, panel.agreement)["scales"]
    assert "each gives -1.000 (n = 1)" in scale["kendall_tau"]["undefined"]["sentence"]
    assert "ranked by two raters" in scale["kendall_w"]["undefined"]["sentence"]


def test_by_version_of_the_guideline(desk):
    desk.do(publish_guideline, desk.project, "en", "first", "boss")
    judged(desk, 2, lambda i: win(0), lambda i: win(1), word="a")
    desk.do(publish_guideline, desk.project, "en", "second", "boss")
    judged(desk, 3, lambda i: win(i % 2), lambda i: win(i % 2), word="b")
    first, second = look(desk, panel.agreement)["guidelines"]
    assert (first["version"], first["judgments"], first["scales"][0]["raw"]["value"]) == (1, 4, 0)
    assert (second["version"], second["judgments"], second["scales"][0]["raw"]["value"]) == (2, 6, 1)


# ---------------------------------------------------------------------------------------------------------------- bias


def left_clicker(desk, rater, tasks):
    """Judge tasks so that the left one is always the better one."""
    for task in tasks:
        done = desk.say(rater, task, win(0))
        with desk.store.read() as connection:
            table = schema.assignment
            order = connection.execute(select(table.c.display_order).where(table.c.id == done)).scalar_one()
        desk.again(rater, done, win(order[0]))


def test_bias(store):
    desk = Desk(store, overlap=2)
    tasks = [desk.task("pair", f"q{i}", ("short", "much longer")) for i in range(24)]
    left_clicker(desk, "lefty", tasks)
    for task in tasks:
        desk.say("fair", task, win(1))
    found = look(desk, panel.bias)
    rates = {one["pseudonym"]: (one["count"], one["n"]) for one in found["raters"]}
    assert rates["lefty"] == (24, 24)
    assert rates["fair"][0] < 24
    assert next(one["p"] for one in found["raters"] if one["pseudonym"] == "lefty") < 1e-5
    assert found["longer"]["n"] == 48
    assert found["longer"]["count"] >= 24
    assert found["repeats"] == {"count": 0, "n": 0, "undefined": NOTHING}
    assert found["quick"]["count"] == 0
    flags = {one["pseudonym"]: one["flags"] for one in look(desk, panel.raters)}
    assert [one["flag"] for one in flags["lefty"] if one["flag"] == "sides"] == ["sides"]
    assert next(one for one in flags["lefty"] if one["flag"] == "sides")["words"].startswith("24 of 24 (86% to 100%)")


def test_the_judgments_behind_a_habit(store):
    """The share is counted from what is shown, and the newest come first."""
    desk = Desk(store, overlap=2)
    tasks = [desk.task("pair", f"which\n{i}?", ("short", "much longer")) for i in range(3)]
    left_clicker(desk, "lefty", tasks[:2])
    desk.say("fair", tasks[0], win(1), active_ms=3)
    desk.say("fair", tasks[2], neither())
    desk.say("boss", tasks[1], win(0), purpose="adjudicate")
    found = {habit: look(desk, habits.judgments, habit, 10) for habit in get_args(habits.Habit)}
    bias = look(desk, panel.bias)
    for habit, told in found.items():
        assert told["total"] == len(told["items"]) == bias[habit]["n"]
        assert sum(one["counted"] for one in told["items"]) == bias[habit]["count"]
    assert [(one["task"], one["pseudonym"]) for one in found["left"]["items"]] == [
        (tasks[0], "fair"), (tasks[1], "lefty"), (tasks[0], "lefty")
    ]  # fmt: skip
    assert found["left"]["items"][1] == {
        "task": tasks[1], "prompt_start": "which 1?", "pseudonym": "lefty", "counted": True
    }  # fmt: skip
    assert found["longer"]["items"][0]["counted"] is True
    quick = [(one["pseudonym"], one["task"], one["counted"]) for one in found["quick"]["items"]]
    assert ("fair", tasks[0], True) in quick
    assert ("boss", tasks[1], False) in quick
    assert len([one for one in quick if one[0] == "lefty"]) == 0  # revised: how long the first took is not known
    assert look(desk, habits.judgments, "left", 1) == {"total": 3, "items": found["left"]["items"][:1]}


def sitting(desk, clock, count, second=lambda i: 0, minutes=0.5, word="s", seconds=lambda i: 20):
    """Tasks that "steady" judged elsewhere before, and that "tired" judges one after the other."""
    tasks = [desk.task("pair", f"{word}{i}", ("one", "two longer")) for i in range(count)]
    for task in tasks:
        desk.say("steady", task, win(0))
        clock(31 * 60_000)  # each is a sitting of its own, too short to say anything
    for i, task in enumerate(tasks):
        clock(int(minutes * 60_000))
        desk.say("tired", task, win(second(i)), active_ms=int(seconds(i) * 1000))
    clock(31 * 60_000)


def test_drift_in_the_course_of_a_sitting(store, clock):
    """Nine judgments: all of the first three agree, one of the last three, and those took half the time."""
    desk = Desk(store, overlap=2)
    sitting(desk, clock, 9, second=lambda i: int(i > 6), seconds=lambda i: 30 if i < 3 else 15)
    found = look(desk, panel.bias)
    assert (found["early"]["count"], found["early"]["n"]) == (3, 3)
    assert (found["late"]["count"], found["late"]["n"]) == (1, 3)
    drift = found["drift"]
    assert drift["agreement"]["value"] == pytest.approx(-2 / 3, abs=1e-6)
    assert drift["agreement"]["low"] <= -2 / 3 < drift["agreement"]["high"] <= 0
    assert (drift["speed"]["value"], drift["seconds"], drift["raters"]) == (0.5, [30.0, 15.0], 1)
    late = look(desk, habits.judgments, "late", 10)
    assert [(one["pseudonym"], one["counted"]) for one in late["items"]] == [
        ("tired", False), ("tired", False), ("tired", True)
    ]  # fmt: skip
    assert [row["prompt_start"] for row in late["items"]] == ["s8", "s7", "s6"]


def test_a_pause_and_a_short_sitting_say_nothing(store, clock):
    desk = Desk(store, overlap=2)
    sitting(desk, clock, 8)
    sitting(desk, clock, 9, minutes=31, word="p")
    found = look(desk, panel.bias)
    assert found["early"] == found["late"] == {"count": 0, "n": 0, "undefined": NOTHING}
    assert "one part of a sitting" in found["drift"]["agreement"]["undefined"]["sentence"]
    assert (found["drift"]["seconds"], found["drift"]["raters"]) == ([None, None], 0)


def test_where_all_agree_drift_is_not_certain(store, clock):
    desk = Desk(store, overlap=2)
    sitting(desk, clock, 9)
    agreement = look(desk, panel.bias)["drift"]["agreement"]
    assert agreement["value"] == 0
    assert agreement["high"] == pytest.approx(3.841459 / 6.841459, abs=1e-5)  # 1 − 3/(3 + z²)


def test_how_strongly_length_pulls(store):
    """Four of the characters more each time; the longer one is chosen in 6 of 8 votes, and one is a tie."""
    desk = Desk(store, overlap=2)
    judged(desk, 4, lambda i: win(1), lambda i: win(int(i < 2)), texts=("short", "short and more"))
    one = look(desk, panel.bias)["length"]
    assert (one["judgments"], one["characters"], one["n"]) == (8, 9.0, 4)
    assert one["value"] == pytest.approx(math.log(3), abs=0.02)  # the ridge moves it by 1/n
    assert one["low"] < one["value"] < one["high"]
    desk.say("r2", desk.task("pair", "tie", ("a", "ab")), neither())
    assert look(desk, panel.bias)["length"]["value"] < one["value"] + 0.1


def test_no_length_to_pull(desk):
    judged(desk, 2, lambda i: win(0), texts=("one", "two"))
    assert "differ in length" in look(desk, panel.bias)["length"]["undefined"]["sentence"]


def test_a_repeat_under_another_guideline_is_no_repeat(desk):
    """Whoever answers otherwise since the guideline changed is not inconsistent."""
    desk.do(publish_guideline, desk.project, "en", "first", "boss")
    task = desk.task("pair", "q", ("one", "two"))
    desk.say("ann", task, win(0))
    desk.do(publish_guideline, desk.project, "en", "second", "boss")
    copy_for(desk, task, "again")
    desk.say("ann", "again", win(1))
    assert look(desk, panel.bias)["repeats"]["n"] == 0


def copy_for(desk, task, name):
    """A hidden repeat of a task for "ann"."""
    with desk.store.read() as connection:
        row = connection.execute(select(schema.task).where(schema.task.c.id == task)).one()
        items = connection.execute(select(schema.task_item).where(schema.task_item.c.task_id == task)).all()

    def copy(c):
        own = {"id": name, "repeat_of": task, "reserved_for": desk.raters["ann"].id, "places": 0}
        c.execute(schema.task.insert().values(**row._asdict() | own))
        c.execute(schema.task_item.insert(), [one._asdict() | {"task_id": name} for one in items])

    desk.do(copy)


@pytest.mark.parametrize(("again", "same"), [("tie", 1), ("both_bad", 0), ("unsure", 0)])
def test_a_repeat_without_a_winner_is_the_same_only_if_the_same_was_said(desk, again, same):
    task = desk.task("pair", "q", ("one", "two"))
    desk.say("ann", task, neither())
    copy_for(desk, task, "again")
    desk.say("ann", "again", neither(again))
    assert look(desk, panel.bias)["repeats"]["count"] == same


def test_hidden_repeats(desk):
    for i in range(2):
        task = desk.task("pair", f"q{i}", ("one", "two"))
        desk.say("ann", task, win(0))
        copy_for(desk, task, f"again{i}")
        desk.say("ann", f"again{i}", win(i))
    found = look(desk, panel.bias)["repeats"]
    assert (found["count"], found["n"]) == (1, 2)
    behind = look(desk, habits.judgments, "repeats", 10)["items"]
    assert [(one["task"], one["pseudonym"], one["counted"]) for one in behind] == [
        ("again1", "ann", False), ("again0", "ann", True)
    ]  # fmt: skip
    (row,) = look(desk, panel.raters)
    assert row["repeats"]["count"] == 1
    assert look(desk, panel.progress)["tasks"]["repeats"] == 2


def test_of_many_honest_raters_hardly_one_is_flagged():
    """500 who agree with the others in 68 of 100 and choose left in half; one who agrees less, one who always left."""
    draw = random.Random(3)
    rows = [{"rater": f"r{i}", "gold": panel.share(0, 0), "repeats": panel.share(0, 0), "quick": panel.share(0, 100)}
            for i in range(500)]  # fmt: skip
    for row in rows:
        agrees, left = (sum(draw.random() < p for _ in range(100)) for p in (0.68, 0.5))
        row |= {"skips": panel.share(30, 100)}
        row |= {"others": panel.share(agrees, 100), "left": panel._left([(None, i < left) for i in range(100)])}
    rows[7]["others"], rows[8]["left"] = panel.share(40, 100), panel._left([(None, True)] * 100)
    flagged = {name: panel._flagged(name, rows, 0.68) for name in panel.FLAGS}
    assert flagged["others"] == {"r7"}
    assert flagged["sides"] == {"r8"}
    assert not flagged["quick"] | flagged["gold"] | flagged["repeats"] | flagged["skips"]


def test_raters_and_their_flags(desk):
    for i in range(8):
        gold = desk.task("pair", f"gold{i}", ("one", "two"))
        make_gold(desk, gold, win(0))
        desk.say("good", gold, win(0))
        desk.say("poor", gold, win(1 if i else 0), active_ms=3)
    good, poor = sorted(look(desk, panel.raters), key=lambda row: row["pseudonym"])
    assert (good["done"], good["median_seconds"], good["gold"]["count"], good["flags"]) == (8, 60.0, 8, [])
    assert poor["gold"]["count"] == 1
    assert [one["flag"] for one in poor["flags"]] == ["gold", "quick"]
    assert "1 of 8" in poor["flags"][0]["words"]
    assert poor["active"] is True  # nobody is excluded by a flag


def test_who_disagrees_with_all_is_flagged(tmp_path):
    desk = Desk(new_store(tmp_path), overlap=4)
    judged(desk, 14, lambda i: win(0), lambda i: win(0), lambda i: win(0), lambda i: win(1))
    flags = {one["pseudonym"]: [flag["flag"] for flag in one["flags"]] for one in look(desk, panel.raters)}
    assert "others" in flags["r3"]
    assert "others" not in flags["r0"]
    desk.store.close()


# ------------------------------------------------------------------------------------------ progress and the queue


def test_progress(store):
    desk = Desk(store, overlap=2, cost_per_hour=12_000)
    for i, raters in enumerate((("ann", "ben"), ("ann",), ())):
        task = desk.task("pair", f"q{i}", ("one", "two"))
        for name in raters:
            desk.say(name, task, win(0))
    found = look(desk, panel.progress)
    assert found["tasks"] == {"waiting": 1, "begun": 1, "done": 1, "closed": 0, "withdrawn": 0, "gold": 0, "repeats": 0}
    assert (found["judgments"], found["hours"]) == (3, 0.05)  # a minute each
    assert (found["cost"], found["cost_per_judgment"], found["currency"]) == (600.0, 200.0, "KRW")
    assert [one["judgments"] for one in found["per_day"]] in ([3], [1, 2], [2, 1])
    assert found["wanted"] == 3  # one of the second task, two of the third
    again = desk.say("ann", desk.task("pair", "q3", ("one", "two")), win(0))
    desk.take_back("ann", again)
    with desk.store.read() as connection:
        everything = votes_of(connection, desk.project.id).judgments
        assert standing_times(connection, desk.project.id) == [one.submitted_ms for one in everything]
    assert look(desk, panel.progress)["judgments"] == 3


def test_only_open_ordinary_tasks_want_judgments(store):
    desk = Desk(store, overlap=3)
    gold, shut, held, full = (desk.task("pair", f"q{i}", ("one", "two")) for i in range(4))
    assert look(desk, panel.progress)["wanted"] == 12
    make_gold(desk, gold, win(0))
    desk.do(lambda c: c.execute(update(schema.task).where(schema.task.c.id == shut).values(open=False)))
    assert look(desk, panel.progress)["wanted"] == 6
    done = desk.say("ann", held, win(0))
    assert look(desk, panel.progress)["wanted"] == 5
    desk.take_back("ann", done)
    assert look(desk, panel.progress)["wanted"] == 6
    for name in ("ann", "ben", "cat"):
        desk.say(name, full, win(0))
    assert look(desk, panel.progress)["wanted"] == 3


def test_the_queue_of_disagreements(store):
    desk = Desk(store, overlap=2)
    agreed, divided, open_one, half = (desk.task("pair", f"q{i}", ("one", "two")) for i in range(4))
    for task, answers in ((agreed, (win(0), win(0))), (divided, (win(0), win(1))), (half, (win(0), neither()))):
        for name, answer in zip(("ann", "ben"), answers, strict=True):
            desk.say(name, task, answer)
    desk.say("ann", open_one, win(0))
    queue = look(desk, panel.disagreements, 10)
    assert [one["task"] for one in queue] == [divided, half]
    assert [one["posterior"] for one in queue] == [0.5, pytest.approx(2 / 3, abs=1e-6)]
    assert sorted(queue[0]["questions"][0]["answers"].values()) == [1, 1]
    assert "tie" in queue[1]["questions"][0]["answers"]
    assert len(look(desk, panel.disagreements, 1)) == 1
    desk.say("boss", divided, win(0), purpose="adjudicate")
    assert [one["task"] for one in look(desk, panel.disagreements, 10)] == [half]


def test_rankings_are_divided_by_their_first_places(desk):
    same, other = (desk.task("rank", f"q{i}", "abc") for i in range(2))
    for name, answer in (("ann", rank(1, 2, 3)), ("ben", rank(1, 3, 2))):
        desk.say(name, same, answer)
    for name, answer in (("ann", rank(1, 2, 3)), ("ben", rank(3, 2, 1))):
        desk.say(name, other, answer)
    (found,) = look(desk, panel.disagreements, 10)
    assert (found["task"], found["posterior"]) == (other, 0.5)


# ------------------------------------------------------------------------------------------ adaptive overlap


def adaptive_votes(tasks, epsilon, seed, *, most=4, certainty=0.8):
    """Votes with errors of a known rate, where disagreement asks for more: as facts, without a store."""
    draw, judgments, said = random.Random(seed), [], []
    for t in range(tasks):
        task = Task(f"t{t}", f"p{t}", "pair", ("a", "b"), ("a", "b"), None, None, None, 2, "random", "random", 1.0)
        wins: list[bool] = []
        while len(wins) < 2 or (
            len(wins) < most
            and needs_another_vote(smoothed_vote(np.array([sum(wins)]), np.array([len(wins)])), certainty=certainty)[0]
        ):
            wins.append((draw.random() >= epsilon) == (t % 2 == 0))
            event = len(judgments) + 1
            who = (f"r{event}", "vote", "judge", f"a{event}", 1, "submit", None, "")
            one = Judgment(f"j{event}", task, *who, 0, event, 1, None, "", (), ("a", "b"), event, event)
            judgments.append(one)
            said.append(PairVote(one, "overall", "win", "a" if wins[-1] else "b", 0, 0))
    return Votes("p", len(judgments), frozenset({None}), tuple(judgments), tuple(said), (), (), (), (), ())


@pytest.mark.parametrize("epsilon", [0.15, 0.2, 0.25])
def test_adaptive_overlap_leaves_agreement_and_noise_as_they_are(epsilon):
    """With every vote ε came out at half of what it was: tasks that disagree get more votes, those that agree stop."""
    votes = adaptive_votes(4000, epsilon, seed=5)
    assert len(votes.judgments) > 2.2 * 4000
    (scale,) = coefficients.scales_agreement(votes)
    assert scale["judgments"] == 2 * 4000
    agree = 1 - 2 * epsilon * (1 - epsilon)
    assert scale["noise"]["value"] == pytest.approx(epsilon, abs=0.02)
    assert scale["noise"]["low"] < epsilon < scale["noise"]["high"]
    assert scale["raw"]["value"] == pytest.approx(agree, abs=0.02)
    assert scale["alpha"]["value"] == pytest.approx(2 * agree - 1, abs=0.04)  # both answers are equally frequent
    every = coefficients.outline(scales_of(votes)["pair/overall"])
    assert every["noise"]["value"] < epsilon - 0.05  # what it would be


def test_the_first_votes_are_those_that_were_given_first(store):
    """A third vote was asked for because two differed; a revision of one of these keeps its place."""
    desk = Desk(store, overlap=2, max_overlap=3)
    task = desk.task("pair", "q", ("a", "b"))
    first = desk.say("ann", task, win(0))
    desk.say("ben", task, win(1))
    assert overlap(desk, task) == (3, 1)
    desk.say("cat", task, win(0))
    assert look(desk, panel.agreement)["beyond"] == 1
    desk.again("ann", first, win(0, 2))
    found = look(desk, panel.agreement)
    (pair, *_) = found["scales"]
    assert (pair["judgments"], pair["raw"]["value"], found["beyond"]) == (2, 0.0, 1)
    assert {one["pseudonym"] for one in found["raters"]} == {"ann", "ben"}
    assert "cat" not in {one["pseudonym"] for one in look(desk, panel.raters) if one["others"]["n"]}


def test_agreement_on_what_was_drawn_at_random(desk):
    """They agree on what was drawn, and differ on what a reward model chose."""
    judged(desk, 3, lambda i: win(0), lambda i: win(0), word="drawn")
    for i in range(4):
        task = desk.task("pair", f"chosen {i}", ("a", "b"), policy="margin", score=0.0)
        desk.say("r0", task, win(0))
        desk.say("r1", task, win(1))
    everything, at_random = look(desk, panel.agreement), look(desk, panel.agreement, "all", "random")
    assert everything["policies"] == at_random["policies"] == {"margin": 4, "random": 3}
    assert everything["scales"][0]["raw"]["value"] == pytest.approx(3 / 7, abs=1e-6)
    assert at_random["scales"][0]["raw"]["value"] == 1
    assert [one["n"] for one in at_random["raters"]] == [3, 3]


def overlap(desk, task):
    with desk.store.read() as connection:
        row = connection.execute(select(schema.task).where(schema.task.c.id == task)).one()
    return row.overlap, row.places


@pytest.mark.parametrize(
    ("kind", "texts", "one", "other"),
    [
        ("pair", ("a", "b"), win(0), win(1)),
        ("thumb", ("a",), thumbs(True), thumbs(False)),
        ("safety", ("a", "b"), safety([0, 1], 0, 0), safety([1, 1], 0, 0)),
        ("rank", ("a", "b", "c"), rank(1, 2, 3), rank(2, 1, 3)),
    ],
)
def test_disagreement_asks_for_one_more(store, kind, texts, one, other):
    desk = Desk(store, overlap=2, max_overlap=3)
    same, apart = (desk.task(kind, f"q{i}", texts) for i in range(2))
    desk.say("ann", apart, one)
    assert overlap(desk, apart) == (2, 1)
    desk.say("ben", apart, other)
    for name in ("ann", "ben"):
        desk.say(name, same, one)
    assert (overlap(desk, apart), overlap(desk, same)) == ((3, 1), (2, 0))
    lease = desk.do(claim, desk.rater("cat"), desk.project)
    assert lease is not None
    assert not desk.do(adapt.reconsider, desk.project, apart)  # somebody is at work
    assert desk.do(lambda c: c.execute(select(schema.event.c.action)).scalars().all()).count("raise") == 1


def test_no_more_than_the_most(store):
    desk = Desk(store, overlap=2, max_overlap=2)
    task = desk.task("pair", "q", ("a", "b"))
    desk.say("ann", task, win(0))
    desk.say("ben", task, win(1))
    assert not desk.do(adapt.reconsider, desk.project, task)


def test_certainty_decides(store):
    desk = Desk(store, overlap=2, max_overlap=4, certainty=0.9)
    task = desk.task("pair", "q", ("a", "b"))
    for name in ("ann", "ben"):
        desk.say(name, task, win(0))  # 0.83
    assert overlap(desk, task) == (3, 1)
    with desk.store.read() as connection:
        assert adapt.posteriors(votes_of(connection, desk.project.id)) == {task: pytest.approx(2.5 / 3)}


def test_a_settled_task_is_left_alone(store):
    desk = Desk(store, overlap=2, max_overlap=4)
    task = desk.task("pair", "q", ("a", "b"))
    desk.say("ann", task, win(0))
    desk.say("ben", task, win(1))
    desk.say("boss", task, win(1), purpose="adjudicate")
    desk.say("cat", task, win(0))  # the place that the disagreement had opened
    assert overlap(desk, task) == (3, 0)
    assert not desk.do(adapt.reconsider, desk.project, task)
