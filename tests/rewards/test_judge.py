"""Chat models as judges: what is believed of their answers, and what becomes of the rest."""

import gc
import json
import math
import sys
import types

import pytest
from chat_server import answer, place, serving

from baro.config import identity
from baro.errors import BackendError, RewardError
from baro.evaluate import evaluate
from baro.evaluate.stages import scored_by
from baro.judge_config import PairJudgeConfig, RubricConfig
from baro.methods import label
from baro.online_config import EvaluationConfig
from baro.records import Message, OptionScores, Reply, Rollout, Score, said
from baro.reward_config import RewardTerm
from baro.rewards.judge import ChatPairJudge, RubricJudge, scores_in
from baro.rewards.judging import judged_in_both_orders
from baro.rollout import requests

HERE = {"by": "somewhere:model"}
CRITERIA = {"helpful": {"text": "Does what was asked.", "weight": 2.0}, "safe": "Does no harm."}
RUBRIC = RubricConfig(**HERE, criteria=CRITERIA)


class Says:
    """A chat model that answers by a function of the question, the sample and the key; it has no log-probs."""

    name = "says"

    def __init__(self, respond):
        self.respond, self.asked = respond, []

    def chat(self, conversations, n, params, keys):
        self.asked += [(one[-1].content, n, params, key) for one, key in zip(conversations, keys, strict=True)]
        both = list(zip(conversations, keys, strict=True))
        replies = [[self.respond(one[-1].content, s, key) for s in range(n)] for one, key in both]
        return [[one if isinstance(one, Reply) else Reply(one) for one in own] for own in replies]


def rollout(text, question="How are you?"):
    return Rollout((Message("user", question),), said(text))


# --------------------------------------------------------------------------------------------------------- a rubric


def test_the_score_is_the_weighted_mean_of_the_criteria():
    assert RUBRIC.score({"helpful": 10, "safe": 1}) == pytest.approx(0.666667, abs=1e-6)
    assert RUBRIC.score({"helpful": 1, "safe": 1}) == 0
    model = Says(lambda text, s, key: '{"helpful": 4, "safe": 10}')
    (found,) = RubricJudge(model, RUBRIC, name="r").score([rollout("fine")])
    assert found == Score(pytest.approx((2 * 3 / 9 + 1) / 3))
    (question, _, _, _) = model.asked[0]
    for part in ("[user] How are you?", "fine", "- helpful: Does what was asked.", "from 1 (worst) to 10 (best)"):
        assert part in question


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"helpful": 4, "safe": 10}', {"helpful": 4.0, "safe": 10.0}),
        ('```json\n{"helpful": 4.5, "safe": 1, "reason": "so {so}"}\n```', {"helpful": 4.5, "safe": 1.0}),
        ('<think>{"helpful": 1}</think> {"helpful": 4, "safe": 10} I hope so', {"helpful": 4.0, "safe": 10.0}),
        ('{"helpful": 4, "safe": 11}', "safe is 11, and not from 1 to 10"),
        ('{"helpful": 4, "safe": NaN}', "safe is nan"),
        ('{"helpful": 4, "safe": 1e999}', "safe is inf"),
        ('{"helpful": 4}', "no number for safe"),
        ('{"helpful": 4, "safe": true}', "no number for safe"),
        ('{"helpful": 4, "safe": "10"}', "no number for safe"),
        ('{"helpful": 4, "helpful": 9, "safe": 10}', "twice"),
        ('{"helpful": 4, "sa', "no JSON object"),
        ("[4, 10]", "no JSON object"),
        ("도움이 되는 답변입니다. 점수는 9점입니다.", "no JSON object"),
        ('{"도움": 9, "안전": 9}', "no number for helpful"),
        ("", "no JSON object"),
    ],
)
def test_what_is_a_judgment(text, found):
    judged = scores_in(text, RUBRIC)
    assert judged == found if isinstance(found, dict) else found in judged


def test_what_is_invalid_is_asked_again_with_other_numbers_and_then_is_an_error():
    good, bad = '{"helpful": 10, "safe": 10}', "I like it"
    seen = []

    def respond(text, s, key):
        if "late" not in text:
            return bad
        seen.append(key)
        return good if len(set(seen)) == 3 else bad

    model = Says(respond)
    late, never = RubricJudge(model, RUBRIC, name="r").score([rollout("late"), rollout("never")])
    assert late == Score(1.0)
    assert never.value is None
    assert "I like it" in never.error
    assert len(model.asked) == 6
    assert len({key for _, _, _, key in model.asked}) == 6


def test_the_mean_of_several_judgments_is_that_of_the_valid_ones():
    texts = ['{"helpful": 10, "safe": 10}', "no", Reply(None, error="gone"), '{"helpful": 1, "safe": 1}']
    config = RUBRIC.model_copy(update={"samples": 4})
    model = Says(lambda text, s, key: texts[s])
    assert RubricJudge(model, config, name="r").score([rollout("a")]) == [Score(0.5)]
    failing = Says(lambda text, s, key: Reply(None, error="gone"))
    (found,) = RubricJudge(failing, config, name="r").score([rollout("a")])
    assert found == Score(None, "r: the call failed: gone")
    assert len(failing.asked) == 1  # it has tried by itself


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"lowest": 0}, "text"),
        ({"highest": 5}, "text"),
        ({"language": "ko"}, "text"),
        ({"samples": 2}, "n"),
        ({"temperature": 0.5}, "params"),
        ({"max_new_tokens": 8}, "params"),
        ({"seed": 1}, "key"),
    ],
)
def test_every_key_of_a_rubric_changes_what_is_asked(change, differs):
    asked = []
    for config in (RUBRIC, RubricConfig.model_validate({**HERE, "criteria": CRITERIA, **change})):
        model = Says(lambda text, s, key: '{"helpful": 4, "safe": 4}')
        RubricJudge(model, config, name="r").score([rollout("a")])
        asked.append(dict(zip(("text", "n", "params", "key"), model.asked[0], strict=True)))
    assert asked[0][differs] != asked[1][differs]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lowest": 5, "highest": 5}, "no score lies between"),
        ({"criteria": {}}, "at least 1"),
        ({"temperature": 0, "samples": 3}, "every judgment of an answer is the same"),
        ({"server": {"base_url": "http://x/v1", "model": "m"}}, "give either"),
    ],
)
def test_a_rubric_that_cannot_work_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        RubricConfig.model_validate({**HERE, "criteria": CRITERIA, **values})


# -------------------------------------------------------------------------------------------------------- two answers


class Tells(Says):
    """Also tells log-probs: (A) has p of the odds of the texts' lengths, with a bonus for the side on the left."""

    def options(self, conversations, options):
        found = []
        for one in conversations:
            first, second = (part.split("\n</answer>")[0] for part in one[-1].content.split("<answer>\n")[1:])
            if "broken" in first + second:
                found.append(OptionScores(None, "gone"))
            elif "silent" in first + second:
                found.append(OptionScores((-9.0, -9.0)))
            else:
                odds = 3.0 * len(first) / len(second)
                found.append(OptionScores((math.log(odds / (1 + odds)), -math.log(1 + odds))))
        return found


def test_both_orders_are_averaged_and_asked_once():
    judge = ChatPairJudge(Tells(None), PairJudgeConfig(**HERE))
    pair = (rollout("aaaa"), rollout("bb"))
    (found,) = judge.compare([pair])
    assert found.p_first == pytest.approx((6 / 7 + 1 - 1.5 / 2.5) / 2)
    assert judge.compare([pair[::-1]])[0].p_first == pytest.approx(1 - found.p_first)
    assert judged_in_both_orders(judge, [pair]) == [found]


def test_a_failed_call_or_an_answer_that_begins_otherwise_is_no_verdict():
    judge = ChatPairJudge(Tells(None), PairJudgeConfig(**HERE))
    broken, silent, fine = judge.compare([(rollout(one), rollout("b")) for one in ("broken", "silent", "c")])
    assert (broken.p_first, broken.error) == (None, "gone")
    assert silent.p_first is None
    assert "0.00025 together" in silent.error
    assert fine.p_first == pytest.approx(0.5)


def test_without_log_probs_verdicts_are_drawn_and_never_certain(caplog):
    caplog.set_level("INFO")
    right = Says(lambda text, s, key: "(A)" if text.index("good") < text.index("bad") else "**B**, it is better")
    judge = ChatPairJudge(right, PairJudgeConfig(**HERE, verdicts=8))
    assert judge.compare([(rollout("good"), rollout("bad"))])[0].p_first == pytest.approx(0.9)
    assert [n for _, n, _, _ in right.asked] == [8, 8]
    assert sum("8 verdicts are drawn in each order" in record.message for record in caplog.records) == 1
    left = ChatPairJudge(Says(lambda text, s, key: "(A)"), PairJudgeConfig(**HERE))
    assert left.compare([(rollout("good"), rollout("bad"))])[0].p_first == pytest.approx(0.5)
    mute = ChatPairJudge(Says(lambda text, s, key: "Both are fine"), PairJudgeConfig(**HERE))
    assert "no verdict begins with (A) or (B): 'Both" in mute.compare([(rollout("good"), rollout("bad"))])[0].error


@pytest.mark.parametrize("change", [{"criterion": "The shorter."}, {"language": "ko"}, {"seed": 1}, {"verdicts": 3}])
def test_every_key_of_a_pair_judge_changes_what_is_asked(change):
    asked = []
    for config in (PairJudgeConfig(**HERE), PairJudgeConfig(**HERE, **change)):
        model = Says(lambda text, s, key: "(A)")
        ChatPairJudge(model, config).compare([(rollout("a"), rollout("b"))])
        asked.append(model.asked)
    assert asked[0] != asked[1]


# ------------------------------------------------------------------------------------------- in stages, by a server


@pytest.fixture
def answers(tmp_path):
    rows = [{"prompt": f"Question {i}", "responses": [f"a{'!' * i}", f"bb{'!' * i}"]} for i in range(20)]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def by_length(body, number):
    """A judge who likes exclamation marks."""
    text = body["messages"][-1]["content"]
    if "JSON" in text:
        said = text.split("<answer>")[1].split("</answer>")[0]
        return answer(json.dumps({"loud": 1 + min(said.count("!"), 7) + ("bb" in said)}))
    first, second = (part.split("</answer>")[0] for part in text.split("<answer>")[1:])
    p = 0.9 if len(first) > len(second) else 0.2
    return answer("(A)", logprobs=[place("(", -0.001), place("A", math.log(p), B=math.log(1 - p)), place(")", 0.0)])


def failing(every):
    """20% of the questions fail, whenever they are asked."""

    def respond(body, number):
        text = body["messages"][-1]["content"]
        question = int(text.split("Question ")[1].split("\n")[0])
        return (500, {"error": {"message": "tired"}}, {}) if question % every == 0 else by_length(body, number)

    return respond


def server(asked):
    return {"base_url": asked.url, "model": "judge", "retries": 1}


def test_label_by_a_judge_on_a_server(answers, tmp_path):
    with serving(by_length) as asked:
        config = label.Config(answers=answers, judge={"server": server(asked)})
        run = label.run(config, tmp_path / "run")
    rows = [json.loads(line) for line in run.records.read_text().splitlines()]
    assert len(rows) == 20
    assert all(row["chosen"].startswith("bb") for row in rows)
    assert rows[0]["p_chosen"] == pytest.approx(0.85, abs=1e-6)
    assert len(asked.bodies) == 40


def test_label_by_a_rubric_on_a_server(answers, tmp_path):
    with serving(lambda body, number: answer(json.dumps({"long": 2 if "bb" in str(body) else 1}))) as asked:
        rubric = {"server": server(asked), "criteria": {"long": "It is long."}}
        run = label.run(label.Config(answers=answers, rubric=rubric, **{"as": "best"}), tmp_path / "run")
    rows = [json.loads(line) for line in run.records.read_text().splitlines()]
    assert all(row["completion"].startswith("bb") for row in rows)
    assert len(rows) == 20


@pytest.mark.parametrize("how", ["judge", "rubric"])
def test_failures_are_dropped_and_counted_or_stop_the_run(how, answers, tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.01)
    with serving(failing(5)) as asked:
        block = {"server": server(asked)} | ({"criteria": {"loud": "It is loud."}} if how == "rubric" else {})
        values = {"answers": answers, how: block}
        with pytest.raises(RewardError, match="answered 500: tired"):
            label.run(label.Config(**values), tmp_path / "strict")
        lenient = label.Config(**values, max_error_fraction=0.25)
        run = label.run(lenient, tmp_path / "lenient")
    figures = {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}
    assert figures["errors"]["value"] == (8 if how == "rubric" else 4)  # a rubric scores each answer
    kept, ties = figures["pairs"]["value"], figures["ties"]["value"]
    assert kept + ties == 16
    rows = [json.loads(line) for line in run.records.read_text().splitlines()]
    assert not any(row["prompt"] in ("Question 0", "Question 5", "Question 10", "Question 15") for row in rows)


def test_a_stopped_run_goes_on_and_asks_only_what_is_missing(answers, tmp_path):
    with serving(by_length) as asked:
        values = {"answers": answers, "seed": 3}
        with pytest.raises(BackendError, match="max_calls 30 is spent"):
            label.run(label.Config(**values, judge={"server": server(asked) | {"max_calls": 30}}), tmp_path / "run")
        gc.collect()  # the stopped run lets go of its directory
        run = label.run(label.Config(**values, judge={"server": server(asked) | {"max_calls": 50}}), tmp_path / "run")
        assert run.finished
        assert len(asked.bodies) == 40
    whole = run.path / "server_calls.jsonl"
    assert len(whole.read_text().splitlines()) == 40


def test_evaluate_takes_a_judge_and_a_rubric(tmp_path):
    pairs = [{"prompt": f"Question {i}", "chosen": "yes!!!", "rejected": "n"} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with serving(by_length) as asked:
        config = evaluate.Config(
            pairs=str(tmp_path / "pairs.jsonl"),
            judges={"judge": {"server": server(asked)}},
            rewards={"loud": {"rubric": {"server": server(asked), "criteria": {"loud": "It is loud."}}}},
        )
        run = evaluate.run(config, tmp_path / "run")
    figures = {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}
    assert figures["judge/pair_accuracy"]["value"] == 1.0
    assert figures["loud/pair_accuracy"]["value"] == 1.0
    assert len(asked.bodies) == 4 * (2 + 2)


def test_no_key_stands_in_a_run(answers, tmp_path, monkeypatch, caplog, capfd):
    """Whatever the server says: not in the config, the manifest, what is kept of calls, or what is told."""
    key = "sk-0123456789abcdef"
    monkeypatch.setenv("JUDGE_KEY", key)
    caplog.set_level("DEBUG")

    def respond(body, number):
        return (500, {"error": {"message": f"{key} is tired"}}, {}) if number == 3 else by_length(body, number)

    with serving(respond) as asked:
        block = {"server": server(asked) | {"api_key_env": "JUDGE_KEY", "retries": 0}}
        run = label.run(label.Config(answers=answers, judge=block, max_error_fraction=0.5), tmp_path / "run")
    assert all(one["authorization"] == f"Bearer {key}" for one in asked.headers)
    files = "".join(path.read_text() for path in run.path.rglob("*") if path.is_file())
    assert "*** is tired" in files
    assert "JUDGE_KEY" in files
    assert key not in files + caplog.text + "".join(capfd.readouterr())


def test_terms_are_called_by_their_model_and_say_what_they_are():
    block = {"server": {"base_url": "http://localhost/v1", "model": "judge-7b"}}
    assert RewardTerm.model_validate({"judge": block}).called == "judge-7b"
    assert RewardTerm.model_validate({"rubric": {**block, "criteria": {"a": "b"}}}).called == "judge-7b"
    with pytest.raises(ValueError, match="give either by"):
        RewardTerm.model_validate({"judge": block, "by": "a:b"})


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"by": None, "rubric": {"server": {"model": "j7", "base_url": "http://h/v1"}, "criteria": {"kind": "K."}}},
         "j7 at http://h/v1 (kind)"),
        ({"by": None, "judge": {"server": None, "model": "runs/critic"}}, "runs/critic"),
        ({"by": None, "judge": "mine:kinder"}, "mine:kinder"),
    ],
)  # fmt: skip
def test_a_report_names_who_judged(asked, shown):
    assert scored_by(asked) == shown


def test_limits_and_prices_are_no_part_of_a_run():
    """They may change when a run goes on, also in a list of terms; who judges by what may not."""

    def of(**server):
        block = {"server": {"base_url": "http://localhost/v1", "model": "j7"} | server, "criteria": {"kind": "Kind."}}
        return identity(EvaluationConfig(prompts="p.jsonl", rewards=[RewardTerm(rubric=block)]))

    assert of() == of(timeout=5.0, retries=1, concurrency=2, max_calls=7, api_key_env="KEY", requests_per_minute=3.0)
    assert of() != of(model="j8")
    assert of() != of(base_url="http://elsewhere/v1")


def test_rules_may_judge(answers, tmp_path, monkeypatch):
    module = types.ModuleType("rules_that_judge")
    module.longer = Tells(None)
    monkeypatch.setitem(sys.modules, "rules_that_judge", module)
    monkeypatch.setattr("baro.inputs.hash_module", lambda name: "0" * 64)
    run = label.run(label.Config(answers=answers, judge={"by": "rules_that_judge:longer"}), tmp_path / "run")
    assert len(run.records.read_text().splitlines()) == 20
