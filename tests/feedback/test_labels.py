"""Labels by each function, worked by hand, and what leaves no label."""

from __future__ import annotations

import pytest
from feedback.judging import Desk, make_gold, neither, new_store, rank, safety, thumbs, win

from baro.errors import ConfigError
from baro.feedback import labels
from baro.feedback.criteria import set_criteria
from baro.feedback.derive import votes_of
from baro.feedback.labels import (
    LabelSettings,
    binary_labels,
    pair_labels,
    pairs_of_rankings,
    rank_labels,
    score_labels,
)
from baro.feedback.reliability import consensus, gold_answers, reliability


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path)
    yield Desk(store, overlap=9)
    store.close()


def votes(desk):
    with desk.store.read() as connection:
        return votes_of(connection, desk.project.id)


def judged(desk, *answers, kind="pair", texts=("one", "two"), prompt="q"):
    task = desk.task(kind, prompt, texts)
    for i, answer in enumerate(answers):
        desk.say(f"r{i}", task, answer)
    return task


def pair(desk, **settings):
    labels = pair_labels(votes(desk), "overall", LabelSettings(**settings))
    return labels.rows[0] if labels.rows else dict(labels.dropped)


@pytest.mark.parametrize("slot", [0, 1])
def test_two_of_three(desk, slot):
    judged(desk, win(slot), win(slot), win(1 - slot))
    label = pair(desk)
    assert label.chosen == label.task.responses[slot]
    assert label.p_chosen == pytest.approx(2.5 / 4)
    assert label.n_votes == 3
    assert pair(desk, prior=1).p_chosen == pytest.approx(3 / 5)
    assert pair(desk, method="majority").p_chosen == 1.0


def test_a_tie_is_half_a_vote_or_none(desk):
    judged(desk, win(0), neither())
    assert pair(desk).p_chosen == pytest.approx(2 / 3)  # (1.5 + 0.5) / (2 + 1)
    assert pair(desk).n_votes == 2
    assert pair(desk, ties="drop").p_chosen == pytest.approx(1.5 / 2)
    assert pair(desk, ties="drop").n_votes == 1


@pytest.mark.parametrize(
    ("answers", "dropped"),
    [
        ([win(0), win(1)], {"undecided": 1}),
        ([neither(), neither("both_bad")], {"undecided": 1}),
        ([neither("unsure")], {"no_vote": 1}),
    ],
)
def test_what_leaves_no_label(desk, answers, dropped):
    judged(desk, *answers)
    assert pair(desk) == dropped


def test_strength_weighs_votes(desk):
    judged(desk, win(0, 3), win(1, 1))
    assert pair(desk) == {"undecided": 1}
    label = pair(desk, by_strength=True)  # one and a half votes against half a vote
    assert label.chosen == label.task.responses[0]
    assert label.p_chosen == pytest.approx((1.5 + 0.5) / (2 + 1))


def test_margins(desk):
    judged(desk, win(0, 3), win(0, 1), win(1, 2))
    assert pair(desk).margin == 0
    assert pair(desk, margin="strength").margin == pytest.approx((1 + 1 / 3 - 2 / 3) / 3)
    assert pair(desk, margin="log_odds").margin == pytest.approx(0.5108, abs=1e-4)  # log(2.5 / 1.5)
    assert pair(desk, margin="log_odds", largest_margin=0.25).margin == 0.25


def test_a_win_without_a_strength_says_nothing_of_the_margin(desk):
    judged(desk, win(0), win(0, 2), neither())
    assert pair(desk, margin="strength").margin == pytest.approx((2 / 3 + 0) / 2)


def test_an_adjudicator_decides(desk):
    task = judged(desk, win(0), win(0), win(0))
    desk.say("boss", task, win(1, 2), purpose="adjudicate")
    label = pair(desk, margin="strength")
    assert label.chosen == label.task.responses[1]
    assert (label.p_chosen, label.n_votes, label.adjudicated) == (0.95, 1, True)
    assert label.margin == pytest.approx(2 / 3)
    assert pair(desk, adjudicated=1.0).p_chosen == 1.0


def test_an_adjudicator_who_cannot_say_leaves_the_votes(desk):
    task = judged(desk, win(0), win(0))
    desk.say("boss", task, neither("unsure"), purpose="adjudicate")
    assert not pair(desk).adjudicated
    assert pair(desk).p_chosen == pytest.approx(2.5 / 3)


def test_an_adjudicator_who_cannot_say_leaves_an_earlier_decision(desk):
    task = judged(desk, win(0), win(0))
    desk.say("boss", task, win(1), purpose="adjudicate")
    desk.say("chief", task, neither("unsure"), purpose="adjudicate")
    assert (pair(desk).adjudicated, pair(desk).chosen) == (True, pair(desk).task.responses[1])


def test_dawid_skene_trusts_who_agrees(desk):
    """Three raters agree throughout, one contradicts them; alone against one of them the contrarian loses."""
    for i in range(30):
        judged(desk, win(i % 2), win(i % 2), win(i % 2), win(1 - i % 2), prompt=f"q{i}")
    last = desk.task("pair", "last", ("one", "two"))
    desk.say("r0", last, win(0))
    desk.say("r3", last, win(1))
    counted = pair_labels(votes(desk), "overall", LabelSettings())
    assert counted.dropped == {"undecided": 1}
    learned = pair_labels(votes(desk), "overall", LabelSettings(method="dawid_skene")).rows
    label = next(one for one in learned if one.task.id == last)
    assert label.chosen == label.task.responses[0]
    assert label.p_chosen > 0.7


def test_dawid_skene_weighs_raters_and_not_votes(desk):
    judged(desk, win(0, 3))
    with pytest.raises(ConfigError, match="weighs raters"):
        pair(desk, method="dawid_skene", by_strength=True)


@pytest.mark.parametrize("kind", ["pair", "thumb"])
def test_a_search_that_finds_nothing_names_the_setting(desk, monkeypatch, kind):
    def never(*_):
        raise RuntimeError("the search did not converge")

    monkeypatch.setattr(labels, "dawid_skene_sides", never)
    monkeypatch.setattr(labels, "binary_dawid_skene", never)
    judged(desk, win(0) if kind == "pair" else thumbs(True, False), kind=kind)
    settings = LabelSettings(method="dawid_skene")
    with pytest.raises(ConfigError, match=r"labels\.method=dawid_skene: the search did not converge; use smoothed"):
        pair_labels(votes(desk), "overall", settings) if kind == "pair" else binary_labels(
            votes(desk), "thumb", settings
        )


def test_unreliable_raters_are_left_out_and_counted(desk):
    for i in range(5):
        gold = desk.task("pair", f"gold {i}", ("one", "two"))
        make_gold(desk, gold, win(0))
        desk.say("r0", gold, win(0))
        desk.say("r1", gold, win(1 if i else 0))
    judged(desk, win(0), win(1))
    known = reliability(votes(desk))
    assert {name: known[desk.raters[name].id].value for name in ("r0", "r1")} == {"r0": 1.0, "r1": 0.2}
    assert pair(desk) == {"undecided": 1}
    labels = pair_labels(votes(desk), "overall", LabelSettings(min_reliability=0.5))
    assert labels.dropped == {"votes_of_unreliable_raters": 1}
    assert labels.rows[0].chosen == labels.rows[0].task.responses[0]


def test_without_known_answers_reliability_is_agreement_with_the_others(desk):
    for i in range(6):
        judged(desk, win(0), win(0), win(0 if i < 2 else 1), prompt=f"q{i}")
    known = reliability(votes(desk))
    last = known[desk.raters["r2"].id]
    assert (last.right, last.n, last.by) == (2, 6, "others")
    # The first two agree with each other; where the third differs, the others of either are divided.
    assert (known[desk.raters["r0"].id].n if desk.raters["r0"].id in known else 2) == 2


def test_consensus():
    assert consensus([1, 1, 0], "nominal") == 1
    assert consensus([1, 0], "nominal") is None
    assert consensus([1, 4], "ordinal") == 2.5
    assert consensus([], "nominal") is None


# ------------------------------------------------------------------------------------------------------------ rankings


def test_one_ranking_stays_as_it_is(desk):
    judged(desk, rank(2, 1, 2, 3), kind="rank", texts="abcd")
    (label,) = rank_labels(votes(desk), LabelSettings()).rows
    assert label.ranks == (2, 1, 2, 4)
    assert label.raters == 1


@pytest.mark.parametrize("fitted", ["plackett_luce", "bradley_terry"])
def test_several_rankings_make_one(desk, fitted):
    judged(desk, rank(1, 2, 3), rank(1, 2, 3), rank(2, 1, 3), kind="rank", texts="abc")
    (label,) = rank_labels(votes(desk), LabelSettings(rankings=fitted)).rows
    assert label.ranks == (1, 2, 3)
    assert label.utilities[0] > label.utilities[1] > label.utilities[2]


def test_the_ridge_moves_utilities_and_both_fits_differ(desk):
    judged(desk, rank(1, 2, 3), rank(2, 1, 3), rank(1, 3, 2), kind="rank", texts="abc")
    fits = [
        rank_labels(votes(desk), LabelSettings(**one)).rows[0].utilities
        for one in ({}, {"prior": 2.0}, {"rankings": "bradley_terry"})
    ]
    assert len(set(fits)) == 3


def test_what_nobody_ranked_is_left_out(desk):
    judged(desk, rank(1, None, 2), rank(1, None, 2), kind="rank", texts="abc")
    (label,) = rank_labels(votes(desk), LabelSettings()).rows
    assert label.responses == (label.task.responses[0], label.task.responses[2])


@pytest.mark.parametrize(
    ("expand", "pairs"), [("all", {"ab", "ac", "ad", "bd", "cd"}), ("adjacent", {"ab", "ac", "bd", "cd"}),
                          ("best", {"ab", "ac", "ad"})],
)  # fmt: skip
def test_rankings_as_pairs(desk, expand, pairs):
    judged(desk, rank(1, 2, 2, 3), kind="rank", texts="abcd")
    found = votes(desk)
    labels = pairs_of_rankings(rank_labels(found, LabelSettings()), expand, LabelSettings())
    name = dict(zip(found.ranks[0].judgment.task.responses, "abcd", strict=True))
    assert {name[one.chosen] + name[one.rejected] for one in labels.rows} == pairs
    assert labels.dropped == {"tie": 1}
    assert all(one.p_chosen > 0.5 and one.n_votes == 1 for one in labels.rows)


def test_answers_that_no_ranking_connects_have_no_order(desk):
    """One put a before b and c, the other d before e: nobody said anything of a and d."""
    judged(desk, rank(1, 2, 3, None, None), rank(None, None, None, 1, 2), kind="rank", texts="abcde")
    found = votes(desk)
    labels = rank_labels(found, LabelSettings())
    name = dict(zip(found.ranks[0].judgment.task.responses, "abcde", strict=True))
    assert [("".join(name[r] for r in one.responses), one.ranks, one.raters) for one in labels.rows] == [
        ("abc", (1, 2, 3), 1), ("de", (1, 2), 1)
    ]  # fmt: skip
    pairs = pairs_of_rankings(labels, "all", LabelSettings())
    assert {name[one.chosen] + name[one.rejected] for one in pairs.rows} == {"ab", "ac", "bc", "de"}
    assert pairs.dropped == {"never_compared": 6}


def test_answers_that_others_connect_have_an_order(desk):
    judged(desk, rank(1, 2, None), rank(None, 1, 2), kind="rank", texts="abc")
    labels = pairs_of_rankings(rank_labels(votes(desk), LabelSettings()), "all", LabelSettings())
    assert sorted(one.n_votes for one in labels.rows) == [0, 1, 1]
    assert labels.dropped == {}


def test_an_adjudicated_ranking(desk):
    task = judged(desk, rank(1, 2, 3), kind="rank", texts="abc")
    desk.say("boss", task, rank(3, 2, 1), purpose="adjudicate")
    (label,) = rank_labels(votes(desk), LabelSettings()).rows
    assert (label.ranks, label.adjudicated) == ((3, 2, 1), True)


# ------------------------------------------------------------------------------------------- thumbs, safety and scores


def test_thumbs(desk):
    judged(desk, thumbs(True, False), thumbs(True, True), kind="thumb")
    labels = binary_labels(votes(desk), "thumb", LabelSettings())
    (label,) = labels.rows
    assert label.response == label.task.responses[0]
    assert (label.value, label.p, label.n_votes) == (True, pytest.approx(2.5 / 3), 2)
    assert labels.dropped == {"undecided": 1}


def test_thumbs_by_dawid_skene(desk):
    judged(desk, thumbs(True, False), thumbs(True, False), kind="thumb")
    labels = binary_labels(votes(desk), "thumb", LabelSettings(method="dawid_skene"))
    assert sorted(one.value for one in labels.rows) == [False, True]


def test_safety_and_its_two_questions(desk):
    judged(desk, safety([0, 2], 1, 0), safety([0, 3], 1, 0), kind="safety")
    found = votes(desk)
    safe = {one.response: one.value for one in binary_labels(found, "safe", LabelSettings()).rows}
    first, second = found.judgments[0].task.responses
    assert safe == {first: True, second: False}
    assert pair_labels(found, "helpful", LabelSettings()).rows[0].chosen == second
    assert pair_labels(found, "safer", LabelSettings()).rows[0].chosen == first


def test_scores_are_means_without_what_is_not_applicable(desk):
    criteria = [{"key": key, "labels": {}, "low": 1, "high": 5} for key in ("clarity", "security")]
    desk.do(set_criteria, desk.project, criteria, "test")
    answers = [
        {"kind": "criteria", "scores": {"clarity": [4], "security": [None]}},
        {"kind": "criteria", "scores": {"clarity": [5], "security": [None]}},
    ]
    judged(desk, *answers, kind="criteria", texts=["one"])
    (label,) = score_labels(votes(desk), LabelSettings()).rows
    assert (label.scores, label.n_votes) == ({"clarity": 4.5}, 2)


@pytest.mark.parametrize(
    ("answer", "right"),
    [(rank(1, 2, 3), True), (rank(1, 1, 1), False), (rank(1, 2, 2), False), (rank(1, 2, None), False)],
)
def test_a_known_order_must_be_said(desk, answer, right):
    gold = desk.task("rank", "gold", "abc")
    make_gold(desk, gold, rank(1, 2, 3))
    desk.say("r0", gold, answer)
    assert gold_answers(votes(desk)) == {desk.raters["r0"].id: (int(right), 1)}


@pytest.mark.parametrize("answer", [rank(2, 1, 3, None), rank(1, 1, 2, None), rank(1, 2, 3, 1)])
def test_what_a_known_order_leaves_open_may_be_said_as_one_likes(desk, answer):
    gold = desk.task("rank", "gold", "abcd")
    make_gold(desk, gold, rank(1, 1, 2, None))
    desk.say("r0", gold, answer)
    assert gold_answers(votes(desk)) == {desk.raters["r0"].id: (1, 1)}
