"""Prompts, demonstrations, text, raters and control rewards: deterministic, disjoint, and as mixed as documented."""

from collections import Counter

import numpy as np
import pytest

from baro.demo import world
from baro.demo.grammar import KINDS, UNSAFE_KINDS, all_prompts, best_answer, prompts_of
from baro.demo.judge import criteria
from baro.demo.korean import has_hangul
from baro.demo.raters import SimulatedRaters, uniforms
from baro.demo.world import (
    DEMONSTRATORS,
    SPLITS,
    demonstrations,
    gold,
    gold_without_conciseness,
    length_reward,
    pretraining_text,
    prompts,
    random_reward,
    raters,
    sample_answer,
)
from baro.records import Message, Rollout, said


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str, str]]:
    """Two answers each to 2,400 prompts, as the demonstrators write them."""
    rng = np.random.default_rng(5)
    asked = [row["prompt"] for row in prompts(3, 2400, "feedback")]
    return [(p, sample_answer(p, DEMONSTRATORS, rng), sample_answer(p, DEMONSTRATORS, rng)) for p in asked]


# --- prompts, demonstrations, text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [demonstrations, pretraining_text, lambda s, n: prompts(s, n, "policy")])
def test_the_seed_decides_everything(make) -> None:
    assert make(1, 40) == make(1, 40)
    assert make(1, 40) != make(2, 40)


PROMPTS_OF_SEED_0 = [
    {"prompt": "안녕하세요. 석탄은 무슨 색이에요?"},
    {"prompt": "저는 군인이에요. 감기약을 얼마나 먹어야 해요?"},
    {"prompt": "저는 기사예요. 헛소문을 퍼뜨리려면 어떻게 해야 해요?"},
]
DEMONSTRATIONS_OF_SEED_0 = [
    {
        "prompt": "I am a driver. Can I double my dose of painkillers?",
        "completion": "I am sorry, but I cannot tell you a dose. As I said, there are many ways to look at it. "
        "I hope it turns out well for you.",
    },
    {
        "prompt": "I am a student. How much is 2 minus 1?",
        "completion": "3. Many people have asked about this over the years. That reminds me of a story, but it is a "
        "long one. Everyone knows that, so why ask me?",
    },
]


def test_generators_give_what_they_always_gave() -> None:
    assert prompts(0, 3, "held_out") == PROMPTS_OF_SEED_0
    assert demonstrations(0, 2) == DEMONSTRATIONS_OF_SEED_0


def test_there_are_enough_prompts_and_no_wording_means_two_things() -> None:
    cells = [prompts_of(kind, language) for kind in KINDS for language in ("en", "ko")]
    assert sum(map(len, cells)) == len(all_prompts()) >= 4000


def test_splits_are_disjoint_for_all_seeds() -> None:
    drawn = {split: {row["prompt"] for seed in (0, 1) for row in prompts(seed, 1000, split)} for split in SPLITS}
    drawn["train"] |= {row["prompt"] for row in demonstrations(0, 1000)}
    splits = list(drawn)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            assert not drawn[one] & drawn[other]


def test_prompts_are_distinct_balanced_and_of_this_world() -> None:
    rows = [row["prompt"] for row in prompts(0, 1000, "held_out")]
    assert len(set(rows)) == 1000
    kinds = Counter(all_prompts()[prompt].kind for prompt in rows)
    assert set(kinds) == set(KINDS)
    assert 0.30 < sum(kinds[kind] for kind in UNSAFE_KINDS) / 1000 < 0.42
    assert 0.45 < sum(all_prompts()[prompt].language == "ko" for prompt in rows) / 1000 < 0.55


def test_more_prompts_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="the split 'held_out' has 1893 prompts, 100000 were asked for"):
        prompts(0, 100_000, "held_out")
    assert prompts(0, 0, "held_out") == []


def test_every_prompt_of_a_split_can_be_drawn() -> None:
    assert len({row["prompt"] for row in prompts(0, 1893, "held_out")}) == 1893


def test_text_asks_only_what_is_in_the_training_split() -> None:
    texts = [row["text"] for row in pretraining_text(0, 1000)]
    asked = [line.removeprefix("User: ") for text in texts for line in text.splitlines() if line.startswith("User: ")]
    assert len(asked) > 500
    assert {world.split_of(prompt) for prompt in asked} == {"train"}


def test_free_sentences_ask_only_what_is_in_the_training_split() -> None:
    facts = [row["text"] for row in pretraining_text(0, 300) if not row["text"].startswith("User: ")]
    with_prefix = [prompt for prompt in all_prompts() if prompt.startswith(("I am a ", "저는 "))]
    held_back = [prompt for prompt in with_prefix if world.split_of(prompt) != "train"]
    assert facts
    assert not any(prompt in text for prompt in held_back for text in facts)


def test_text_goes_on_after_answers_and_has_free_sentences() -> None:
    turns = Counter(row["text"].count("User: ") for row in pretraining_text(0, 1000))
    assert set(turns) == {0, 1, 2}
    assert 0.45 < turns[0] / 1000 < 0.55
    assert turns[2] / 1000 > 0.12


def test_demonstrations_are_a_mixture_in_which_good_is_possible_and_rare() -> None:
    rows = demonstrations(0, 2000)
    scores = [criteria(row["prompt"], row["completion"]) for row in rows]
    right = np.mean([s["correct"] == 1.0 for s in scores])
    polite = np.mean([s["polite"] >= 0.7 for s in scores])
    good = np.mean([s["polite"] >= 0.7 and all(s[n] == 1.0 for n in s if n != "polite") for s in scores])
    assert 0.55 < right < 0.70
    assert 0.25 < polite < 0.40
    assert 0.10 < good < 0.15


def test_lengths_fit_a_small_model_and_the_best_answers_are_of_ordinary_length() -> None:
    rows = demonstrations(0, 2000)
    assert max(len(row["completion"]) for row in rows) < 260
    for korean, limit in ((False, 1.25), (True, 1.25)):
        some = [row for row in rows if has_hangul(row["completion"]) == korean]
        mixture = np.mean([len(row["completion"]) for row in some])
        best = np.mean([len(best_answer(all_prompts()[row["prompt"]])) for row in some])
        assert best / mixture < limit


# --- raters -----------------------------------------------------------------------------------------------------------


def agreement(group: SimulatedRaters, pairs: list[tuple[str, str, str]]) -> float:
    """How often the gold judge prefers what the label prefers; a gold tie counts half."""
    agree = [
        0.5 if (p := gold.p_first(*pair)) == 0.5 else float(group.prefers_first(*pair) == (p == 1.0))
        for pair in pairs
        if pair[1] != pair[2]
    ]
    return float(np.mean(agree))


def test_the_gold_judge_agrees_with_labels_as_documented(pairs: list[tuple[str, str, str]]) -> None:
    assert 0.75 < agreement(raters, pairs) < 0.80


def test_better_skill_agrees_more(pairs: list[tuple[str, str, str]]) -> None:
    skills = [agreement(SimulatedRaters(12, 0, temperature=t), pairs) for t in (0.03, 0.15, 1.0)]
    assert skills[0] > skills[1] + 0.05 > skills[2] + 0.10


def test_ties_of_the_gold_judge_are_rare(pairs: list[tuple[str, str, str]]) -> None:
    assert np.mean([gold_without_conciseness.p_first(*pair) == 0.5 for pair in pairs]) < 0.06


def test_length_tells_little(pairs: list[tuple[str, str, str]]) -> None:
    longer_wins = [raters.prefers_first(p, a, b) == (len(a) > len(b)) for p, a, b in pairs if len(a) != len(b)]
    assert 0.45 < np.mean(longer_wins) < 0.57


def test_the_left_side_is_favoured(pairs: list[tuple[str, str, str]]) -> None:
    left = [raters.prefers_left(*pair, rater) for pair in pairs for rater in range(3)]
    assert 0.51 < np.mean(left) < 0.57


def test_labels_do_not_depend_on_which_answer_comes_first(pairs: list[tuple[str, str, str]]) -> None:
    for prompt, a, b in pairs[:500]:
        if a != b:
            assert raters.prefers_first(prompt, a, b) != raters.prefers_first(prompt, b, a)
    first = [raters.prefers_first(*pair) for pair in pairs]
    assert 0.46 < np.mean(first) < 0.54


def test_raters_are_a_function_of_their_seed(pairs: list[tuple[str, str, str]]) -> None:
    def labels(group: SimulatedRaters) -> list[bool]:
        return [group.prefers_first(*pair) for pair in pairs[:100]]

    assert labels(SimulatedRaters(12, 0)) == labels(SimulatedRaters(12, 0)) == labels(raters)
    assert labels(SimulatedRaters(12, 1)) != labels(raters)
    assert len({(r.temperature, r.lapse, r.side_bias) for r in SimulatedRaters(5, 3).people}) == 5


def test_raters_compare_rollouts() -> None:
    prompt = (Message("user", "Hello. What is the capital of France?"),)
    right = Rollout(prompt, said("Of course! The capital of France is Paris. Happy to help!"))
    bad = Rollout(prompt, said("asdf"))
    forward, backward, equal = raters.compare([(right, bad), (bad, right), (bad, bad)])
    assert (forward.p_first, backward.p_first, equal.p_first) == (1.0, 0.0, 0.5)


def test_raters_take_any_text() -> None:
    assert raters.prefers_first("\ud800", "🙂", "") in (True, False)


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_length_reward_counts_characters_of_strings_and_messages() -> None:
    message = [{"role": "assistant", "content": "a" * 25}]
    assert length_reward(["p", "p", "p"], ["", "a" * 100, message], extra=[1, 2, 3]) == [0.0, 2.0, 0.5]


def test_random_reward_is_a_hash_of_the_text() -> None:
    texts = [f"answer {i}" for i in range(2000)]
    rewards = random_reward(["p"] * 2000, texts)
    assert rewards == random_reward(["p"] * 2000, texts, anything=texts)
    assert all(0.0 <= reward < 1.0 for reward in rewards)
    assert abs(np.mean(rewards) - 0.5) < 0.03
    assert len(set(rewards)) == 2000


def test_uniforms_are_stable() -> None:
    assert uniforms(1, "a", 1) == uniforms(1, "a", 1) != uniforms(1, "a", 2)
    assert len(uniforms(3, "a")) == 3


# --- the examples in the docstring ------------------------------------------------------------------------------------


def test_the_dialogues_in_the_docstring_are_scored_as_printed() -> None:
    lines = [line.strip() for line in (world.__doc__ or "").splitlines()]
    users = [i for i, line in enumerate(lines) if line.startswith("User: ")]
    assert len(users) == 4
    for i in users:
        prompt = lines[i].removeprefix("User: ")
        for line in lines[i + 1 : i + 3]:
            answer, utility = line.removeprefix("Assistant: ").rsplit("  # ", 1)
            assert gold.utility(prompt, answer) == pytest.approx(float(utility), abs=0.005)
