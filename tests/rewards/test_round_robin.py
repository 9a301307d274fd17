"""A judge of pairs as a reward: shares of siblings beaten, by hand; side bias, ties, cycles, failures."""

import json
import sys

import pytest

from baro.config import load_config
from baro.errors import ConfigError
from baro.grpo_config import Config
from baro.records import Message, Rollout, Verdict, said
from baro.rewards.judging import RoundRobin


def rollout(prompt, text, **extra):
    return Rollout((Message("user", prompt),), said(text), extra=extra)


class Longer:
    """Prefers the longer answer, and half of the time the one on the left; 'x' cannot be judged."""

    def __init__(self, bias=0.0):
        self.bias, self.seen = bias, []

    def compare(self, pairs):
        self.seen += pairs
        return [self.verdict(first.text, second.text) for first, second in pairs]

    def verdict(self, one, other):
        if "x" in (one, other):
            return Verdict(None, "no answer")
        fair = 0.5 + 0.5 * ((len(one) > len(other)) - (len(one) < len(other)))
        return Verdict((1 - self.bias) * fair + self.bias)


def scores(texts, judge=None, prompts=None):
    prompts = prompts or ["p"] * len(texts)
    found = RoundRobin(judge or Longer(), name="longer").score(list(map(rollout, prompts, texts)))
    return [one.value if one.error is None else one.error for one in found]


def test_shares_of_siblings_beaten():
    assert scores(["aaa", "a", "aa", "aaaa"]) == pytest.approx([2 / 3, 0.0, 1 / 3, 1.0])
    assert scores(["aa", "aa", "b"]) == pytest.approx([0.75, 0.75, 0.0])  # a tie counts half
    assert sum(scores(["a", "bb", "bb", "cccc", "b"])) == pytest.approx(2.5)  # the mean is a half


def test_sides_cancel_and_each_pair_is_judged_twice():
    judge = Longer(bias=0.6)
    assert scores(["aa", "b", "b"], judge) == pytest.approx([0.7, 0.4, 0.4])
    assert len(judge.seen) == 6


def test_only_siblings_are_compared():
    judge = Longer()
    assert scores(["aa", "b", "aaaa", "c"], judge, ["p", "p", "q", "q"]) == [1.0, 0.0, 1.0, 0.0]
    assert all(first.prompt == second.prompt for first, second in judge.seen)
    alone = "longer: there is no other answer to this prompt to compare with"
    assert scores(["aa", "b", "c"], prompts=["p", "p", "q"]) == [1.0, 0.0, alone]
    same = [rollout("p", "aa", answer=1), rollout("p", "b", answer=2)]  # one prompt in two rows with other columns
    assert [one.error for one in RoundRobin(Longer(), name="longer").score(same)] == [alone, alone]
    assert RoundRobin(Longer(), name="longer").score([]) == []


def test_a_verdict_that_failed_counts_for_neither():
    assert scores(["aaa", "x", "a"]) == [1.0, "longer: no answer", 0.0]


JUDGE = """
from baro.records import Verdict
def early(prompts, completions, completion_ids, **columns):
    return [sum(t < 140 for t in ids) / len(ids) for ids in completion_ids]
class Judge:
    def compare(self, pairs):
        found = [early(None, None, [one.completion_ids for one in pair]) for pair in pairs]
        return [Verdict(0.5 + 0.5 * ((a > b) - (a < b))) for a, b in found]
judge = Judge()
"""


def config(**changes):
    given = {"policy": "-", "prompts": "-", "rewards": [{"judge": "judge_of_rounds:judge"}]}
    return load_config(Config, None, values=given | {"sampling": {"max_new_tokens": 6}} | changes)


def test_its_name_and_what_it_cannot_be():
    (term,) = config().terms
    assert (term.called, term.sources) == ("judge", [])
    for changes, sentence in (
        ({"rewards": [{"judge": "m:J", "by": "m:f"}]}, "give either by .* or judge"),
        ({"rewards": [{"judge": "m:J", "combine": "worst"}]}, "combine is for several members, and a judge is one"),
        ({"rollout": {"completions": 1}, "advantage": {"baseline": "batch"}}, "raise rollout.completions to 2"),
        (
            {"evaluation": {"prompts": "x", "rewards": [{"judge": "m:J"}]}},
            "evaluation.rewards: J compares answers; name it as evaluation.judge",
        ),
    ):
        with pytest.raises(ConfigError, match=sentence):
            config(**changes)


def test_grpo_learns_what_a_judge_prefers(tmp_path, monkeypatch):
    from baro.data.new_tokenizer import train_tokenizer
    from baro.data.template import Template
    from baro.methods import grpo
    from baro.models.load import Architecture, new_policy, save_policy

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "judge_of_rounds.py").write_text(JUDGE)
    template = Template(train_tokenizer(["Say a word."], 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=64, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=280, special=template.special, seed=0), tmp_path / "policy")
    template.save(tmp_path / "policy")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {w}."}) + "\n" for w in "abcdef"))
    told = config(
        rewards=[{"judge": "judge_of_rounds:judge"}, {"by": "judge_of_rounds:early", "weight": 0.0}],
        advantage={"baseline": "rank", "scale": "none"},
        policy="policy",
        prompts="prompts.jsonl",
        rollout={"prompts": 6, "completions": 6},
        trainer={"learning_rate": 0.03, "steps": 16},
    )
    run = grpo.run(told, "run")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all(row["objective/score/judge"] == pytest.approx(0.5) for row in rows)  # whatever the policy
    assert rows[-1]["objective/score/early"] > rows[0]["objective/score/early"] + 0.1
