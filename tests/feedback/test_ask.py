"""What is asked next: a random fifth, the closest, the most disputed, one of every prompt first, no near-duplicates."""

from __future__ import annotations

import shutil
import statistics
from itertools import pairwise

import pytest
from feedback.judging import Desk, new_store
from sqlalchemy import select

from baro.errors import BaroError, RewardError
from baro.feedback import ask, schema
from baro.feedback.asked import tasks_of
from baro.feedback.database import FILE, Store
from baro.feedback.scored import scores_of
from baro.records import Score

SENTENCES = (
    "Add the butter slowly and stir.", "No idea, look it up yourself!", "두 번째 방법은 조금 더 오래 걸립니다.",
    "First boil a litre of water with salt.", "42", "The answer depends on the altitude, of course.",
)  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path)
    yield Desk(store)
    store.close()


def answers(desk, prompts, count=2):
    """The ids of each prompt's answers."""
    return [desk.responses(f"prompt {i}", SENTENCES[:count])[1] for i in range(prompts)]


def tasks(desk):
    def work(c):
        shown = {}
        for row in c.execute(select(schema.task_item).order_by(schema.task_item.c.slot)):
            shown.setdefault(row.task_id, []).append(row.response_id)
        return [(row, tuple(shown[row.id])) for row in c.execute(select(schema.task).order_by(schema.task.c.id))]

    return desk.do(work)


def asked(desk, count, kind="pair", **more):
    return desk.do(ask.select, desk.project, kind, count, **{"policy": "random", **more})


def test_random(desk):
    answers(desk, 10)
    done = asked(desk, 4)
    assert done == {"near_duplicates": 0, "known": 0, "candidates": 10, "added": 4, "random": 4, "drawn_again": 0,
                    "unscored": 0}  # fmt: skip
    assert all((row.policy, row.score, row.propensity) == ("random", None, 0.4) for row, _ in tasks(desk))
    again = asked(desk, 10)
    assert (again["added"], again["known"], again["drawn_again"]) == (6, 4, 4)


def test_a_round_draws_from_all_and_anew(desk):
    """Drawn from what earlier rounds left, the second round would have no task that is there."""
    answers(desk, 40)
    rounds = [asked(desk, 20) for _ in range(3)]
    assert [one["candidates"] for one in rounds] == [40] * 3
    draws = desk.do(lambda c: c.execute(select(schema.draw)).all())
    by_round = {}
    for row in draws:
        by_round.setdefault(row.event_id, set()).add(row.task_id)
    drawn = list(by_round.values())
    assert [len(one) for one in drawn] == [20] * 3
    assert len({frozenset(one) for one in drawn}) == 3
    for i, one in enumerate(rounds):
        assert one["drawn_again"] == len(drawn[i] & set().union(*drawn[:i]))
        assert one["added"] == 20 - one["drawn_again"]
    assert rounds[1]["drawn_again"] > 0
    assert {(row.policy, row.propensity) for row in draws} == {("random", 0.5)}


def test_over_five_rounds_what_is_called_random_is_a_random_sample(desk):
    """By scores of known gaps: what the policy took is not missing from the random part, and its tasks count in it."""
    pairs, scores, gap = answers(desk, 200), {}, {}
    for i, (one, other) in enumerate(pairs):
        scores |= {one: [0.0], other: [i / 200]}
        gap[frozenset((one, other))] = i / 200
    mean, rounds = 0.4975, []
    for _ in range(5):
        asked(desk, 40, policy="margin", scores=scores)
        with desk.store.read() as connection:
            found = {one.id: one for one in tasks_of(connection, desk.project.id).values()}
        shown = {row.id: frozenset(pair) for row, pair in tasks(desk)}
        at_random = [gap[shown[one.id]] for one in found.values() if one.policy == "random"]
        left_over = [gap[shown[row.id]] for row, _ in tasks(desk) if row.policy == "random"]
        rounds.append((at_random, left_over))
    at_random, made_by_random = rounds[-1]
    half = 1.96 * statistics.stdev(at_random) / len(at_random) ** 0.5
    assert abs(statistics.fmean(at_random) - mean) < half
    assert len(at_random) > len(made_by_random)  # some of it the policy had chosen before
    assert statistics.fmean(made_by_random) > mean + 0.03  # which is what is biased
    drawn = desk.do(lambda c: c.execute(select(schema.draw).where(schema.draw.c.policy == "random")).all())
    assert len(drawn) == 5 * 8
    assert {row.propensity for row in drawn} == {8 / 200}


def test_the_seed_decides(tmp_path):
    first = Desk(new_store(tmp_path / "first"))
    answers(first, 12)
    first.store.close()
    chosen = []
    for i, seed in enumerate((0, 0, 1)):
        (tmp_path / str(i)).mkdir()
        shutil.copy(tmp_path / "first" / FILE, tmp_path / str(i))
        store = Store.open(tmp_path / str(i))
        first.store = store
        asked(first, 4, seed=seed)
        chosen.append({frozenset(pair) for _, pair in tasks(first)})
        store.close()
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(("policy", "kind"), [("random", "pair"), ("margin", "pair"), ("disagreement", "rank")])
def test_contents_decide_and_not_their_ids(tmp_path, policy, kind):
    """The same prompts and answers, entered in two orders: ids and places in the tables differ, the tasks do not."""
    prompts, found = [f"prompt {i}" for i in range(12)], []
    for name, order in (("forward", 1), ("backward", -1)):
        desk, texts, scores = Desk(new_store(tmp_path / name)), {}, {}
        for prompt in prompts[::order]:
            for one, text in zip(desk.responses(prompt, SENTENCES[::order])[1], SENTENCES[::order], strict=True):
                # many equal scores, so that ties are settled by the order in which candidates come
                texts[one], scores[one] = (prompt, text), [float(len(text) // 10), float(len(prompt))]
        asked(desk, 9, kind=kind, policy=policy, scores=scores, seed=3)
        found.append({(row.policy, row.score, row.order_key, tuple(texts[one] for one in shown))
                      for row, shown in tasks(desk)})  # fmt: skip
        desk.store.close()
    assert found[0] == found[1]
    assert len(found[0]) == 9


def test_scores_come_in_an_order_of_contents_and_failures_stop(tmp_path):
    seen = []

    class Counting:
        name = "counting"

        def score(self, rollouts):
            seen.append([(one.prompt[-1].content, one.text) for one in rollouts])
            return [Score(None, "too long") if one.text == SENTENCES[0] else Score(1.0) for one in rollouts]

    for name, order in (("forward", 1), ("backward", -1)):
        desk = Desk(new_store(tmp_path / name))
        for prompt in ("a", "b")[::order]:
            desk.responses(prompt, SENTENCES[1:4][::order])
        assert set(map(tuple, desk.do(scores_of, desk.project, [Counting(), Counting()]).values())) == {(1.0, 1.0)}
        desk.responses("c", SENTENCES[:1])
        with pytest.raises(RewardError, match=r"counting: 1 of 7 scores failed, more than 5%.*: too long"):
            desk.do(scores_of, desk.project, [Counting()])
        desk.store.close()
    assert seen[:3] == seen[3:]


def test_the_smallest_margins_and_a_random_fifth(desk):
    pairs = answers(desk, 20)
    scores = {}
    for i, (one, other) in enumerate(pairs):
        scores |= {one: [0.0], other: [float(i)]}
    done = asked(desk, 10, policy="margin", scores=scores)
    assert (done["added"], done["random"]) == (10, 2)
    found = tasks(desk)
    at_random = {frozenset(shown) for row, shown in found if row.policy == "random"}
    chosen = {frozenset(shown): row.score for row, shown in found if row.policy == "margin"}
    assert len(at_random) == 2
    left = [i for i, pair in enumerate(pairs) if frozenset(pair) not in at_random]
    assert chosen == {frozenset(pairs[i]): -float(i) for i in left[:8]}
    assert {row.propensity for row, _ in found if row.policy == "random"} == {0.1}
    assert {row.propensity for row, _ in found if row.policy == "margin"} == {1.0}


def test_more_may_be_random(desk):
    pairs = answers(desk, 10)
    scores = {one: [float(i)] for i, pair in enumerate(pairs) for one in pair}
    assert asked(desk, 10, policy="margin", scores=scores, random_fraction=0.55)["random"] == 6


def test_disagreement_is_the_variance_of_the_difference(desk):
    sure, disputed, offset = answers(desk, 3)
    scores = {sure[0]: [1, 1], sure[1]: [0, 0], disputed[0]: [1, -1], disputed[1]: [0, 0]}
    scores |= {offset[0]: [1, 9], offset[1]: [0, 8]}  # the models differ by a constant, and not about the pair
    asked(desk, 2, policy="disagreement", scores=scores, random_fraction=0.2)
    by_policy = {row.policy: (row.score, set(shown)) for row, shown in tasks(desk)}
    if by_policy["random"][1] == set(disputed):
        assert by_policy["disagreement"][0] == 0
    else:
        assert by_policy["disagreement"] == (1.0, set(disputed))


def test_one_of_every_prompt_before_a_second(desk):
    many, few = desk.responses("many", SENTENCES)[1], desk.responses("few", SENTENCES[:2])[1]
    scores = {one: [float(i), -float(i)] for i, one in enumerate(many)} | {few[0]: [0.1, 0.0], few[1]: [0.0, 0.0]}
    asked(desk, 5, policy="disagreement", scores=scores)
    shown = [frozenset(pair) for row, pair in tasks(desk)]
    assert frozenset(few) in shown  # though every pair of the other prompt is disputed more


def test_without_scores_only_by_chance(desk):
    (one,) = answers(desk, 1)
    done = asked(desk, 5, policy="margin", scores={one[0]: [1.0]})
    assert (done["added"], done["random"], done["unscored"]) == (1, 1, 1)


def test_near_duplicates_are_not_paired(desk):
    text = "The quick brown fox jumps over the lazy dog, and then it runs back home again."
    desk.responses("q", [text, text.upper() + "!", SENTENCES[1]])
    done = asked(desk, 9)
    assert (done["candidates"], done["near_duplicates"]) == (2, 1)


@pytest.mark.parametrize("kind", ["rank", "safety"])
def test_other_kinds(desk, kind):
    ids = answers(desk, 2, count=6)
    scores = {one: [float(i)] for pair in ids for i, one in enumerate(pair)}
    done = asked(desk, 2, kind=kind, policy="margin", scores=scores, size=3 if kind == "rank" else None)
    assert done["added"] == 2
    for row, shown in tasks(desk):
        assert (row.kind, len(shown)) == (kind, 3 if kind == "rank" else 2)
        if (kind, row.policy) == ("rank", "margin"):  # of the sets of three the one that spans the scores evenly
            found = sorted(scores[one][0] for one in shown)
            assert min(b - a for a, b in pairwise(found)) == 2


def test_the_random_part_knows_no_score(tmp_path):
    """The same rankings are drawn whatever the models say, each as likely as any other set of its prompt's answers."""
    sets = []
    for name in ("without", "with"):
        desk = Desk(new_store(tmp_path / name))
        ids = answers(desk, 40, count=6)
        place = {one: (prompt, i) for prompt, group in enumerate(ids) for i, one in enumerate(group)}
        scores = {one: [float(i)] for one, (_, i) in place.items()}
        made = {"kind": "rank", "size": 3, "seed": 1}
        asked(desk, 20, **made) if name == "without" else asked(
            desk, 100, **made, policy="margin", scores=scores, random_fraction=0.2
        )
        drawn = [(frozenset(place[one] for one in shown), row.propensity) for row, shown in tasks(desk)
                 if row.policy == "random"]  # fmt: skip
        sets.append({shown for shown, _ in drawn})
        assert [propensity for _, propensity in drawn] == pytest.approx([20 / 40 / 20] * 20)
        desk.store.close()
    assert sets[0] == sets[1]
    assert len({tuple(sorted(i for _, i in shown)) for shown in sets[0]}) > 8  # of 20; the widest set is one


def test_propensity_counts_the_draw_within_a_prompt(desk):
    """Ten answers make 45 pairs, of which 40 are candidates."""
    desk.responses("q", [letter * 8 for letter in "abcdefghij"])
    done = asked(desk, 8)
    assert done["candidates"] == 40
    assert [row.propensity for row, _ in tasks(desk)] == pytest.approx([8 / 45] * 8)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"random_fraction": 0.1}, "random_fraction 0.1: give 0.2 to 1"),
        ({"policy": "margin"}, "needs reward models' scores"),
        ({"policy": "disagreement", "scores": {"a": [1.0]}}, "at least two reward models"),
        ({"policy": "best"}, "give random, margin or disagreement"),
        ({"kind": "thumb"}, "only tasks that compare"),
        ({"count": 0}, "give at least 1"),
        ({"size": 3}, "a task of kind pair shows 2 responses, not 3"),
    ],
)
def test_what_cannot_be_asked(desk, more, sentence):
    with pytest.raises(BaroError, match=sentence) as error:
        asked(desk, **{"count": 2, **more})
    assert error.value.exit_code == 2
