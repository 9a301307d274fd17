"""Critique and revision with models written here: what is asked, what becomes of it, and what a broken run repeats."""

import json
from collections import Counter

import pytest
from chat_server import answer, serving
from methods.chatting import Written
from pydantic import ValidationError

from baro.data.formats import read_records
from baro.errors import DataError, RewardError
from baro.methods import critique
from baro.records import Demonstration, Message
from baro.rollout import requests

CONSTITUTION = """
language: en
principles:
  - name: kind
    principle: {en: Be kind.}
    critique: {en: "Is it kind?"}
    revision: {en: "Make it kind."}
  - name: brief
    principle: {en: Be brief.}
    critique: {en: "Is it brief?"}
    revision: {en: "Make it brief."}
"""
PROMPTS = ["Where is it?", "How are you?", "Who is he?", "What is that?"]


def say(conversation, key):
    """Each revision has one word more than what it revises; a critique names the request."""
    last = conversation[-1].content
    if last.startswith("Is it"):
        return f"No: {last}"
    if last.startswith("Make it"):
        return f"{conversation[-4].content} {last.split()[-1]}"
    return f"I say {last}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONSTITUTION)
    write(tmp_path / "prompts.jsonl", [{"prompt": prompt, "topic": i} for i, prompt in enumerate(PROMPTS)])
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def models(monkeypatch, folder):
    """The chat models by the folder that a config names; each is made when it is first asked for."""
    made = {}

    def load(config, *, compute, run):
        return made.setdefault(config.model, Written(say))

    monkeypatch.setattr(critique, "load_chat_model", load)
    return made


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def config(**changes):
    return critique.Config(**{"constitution": "mine.yaml", "policy": "model", "prompts": "prompts.jsonl", "rounds": 2}
                           | changes)  # fmt: skip


def steps(run):
    return [json.loads(line) for line in (run.path / "steps.jsonl").read_text().splitlines()]


def figures(run):
    return {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


def ledger(run):
    return json.loads((run.path / "ledger.json").read_text())


def test_each_prompt_is_answered_criticised_and_revised(models):
    run = critique.run(config(), "out")
    records = read_records(run.records, Demonstration).records
    for prompt, record, row in zip(PROMPTS, records, steps(run), strict=True):
        drawn = [step["principle"] for step in row["steps"]]
        assert record.prompt == (Message("user", prompt),)
        assert record.completion[0].content == " ".join([f"I say {prompt}", *(f"{name}." for name in drawn)])
        assert row["answer"] == f"I say {prompt}"
        assert row["prompt"] == prompt
        assert [step["critique"] for step in row["steps"]] == [f"No: Is it {name}?" for name in drawn]
        assert row["steps"][-1]["revision"] == record.completion[0].content
    assert [record.extra["topic"] for record in records] == [0, 1, 2, 3]
    assert len(models["model"].asked) == 4 * (1 + 2 * 2)
    # what is asked last is all that was said of this round, and nothing of the round before
    assert [turn.role for turn in models["model"].asked[-1]] == ["user", "assistant"] * 2 + ["user"]
    found = figures(run)
    assert (found["steps"]["value"], found["demonstrations"]["value"]) == (8, 4)
    assert (found["changed_fraction"]["value"], found["failures"]["value"]) == (1, 0)
    assert run.finished


def test_principles_are_a_function_of_seed_prompt_and_round(models, folder):
    def drawn(out, **changes):
        rows = steps(critique.run(config(**changes), out))
        return {row["prompt"]: [step["principle"] for step in row["steps"]] for row in rows}

    first = drawn("a", rounds=6)
    assert len(set(map(tuple, first.values()))) > 1
    write(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in reversed(PROMPTS)])
    assert drawn("b", rounds=6) == first
    assert drawn("c", rounds=6, seed=1) != first
    assert {prompt: own[:2] for prompt, own in first.items()} == drawn("d", rounds=2)


def test_weights_decide_how_often_a_principle_is_drawn(models, folder):
    (folder / "mine.yaml").write_text(CONSTITUTION.replace("name: kind", "name: kind\n    weight: 9"))
    write(folder / "prompts.jsonl", [{"prompt": f"How is {i}?"} for i in range(100)])
    counts = Counter(step["principle"] for row in steps(critique.run(config(), "out")) for step in row["steps"])
    assert 165 < counts["kind"] < 195


def test_critic_and_reviser_may_be_others_than_the_policy(models):
    critique.run(config(critic={"model": "model"}, reviser={"model": "prompts.jsonl"}), "out")
    assert len(models["model"].asked) == 4 + 4 * 2
    assert len(models["prompts.jsonl"].asked) == 4 * 2
    assert {turns[-1].content[:4] for turns in models["prompts.jsonl"].asked} == {"Make"}


def test_answers_that_were_drawn_before_need_no_policy(models, folder):
    rows = [{"prompt": "Where?", "responses": ["Here.", "There.", "Here."]}]
    own = {"prompts": None, "answers": write(folder / "answers.jsonl", rows), "policy": None}
    roles = {"critic": {"model": "model"}, "reviser": {"model": "model"}}
    run = critique.run(config(**own, **roles), "out")
    assert [row["answer"] for row in steps(run)] == ["Here.", "There."]  # equal ones are revised once
    assert len(models["model"].asked) == 2 * 2 * 2
    assert list(ledger(run)["answers"]["repeated"]) == ["answers.jsonl:1 answer 3"]


def test_equal_prompts_are_answered_once(models, folder):
    write(folder / "prompts.jsonl", [{"prompt": "Where?"}, {"prompt": "Where?"}, {"prompt": "Who?"}])
    run = critique.run(config(rounds=1), "out")
    assert len(read_records(run.records, Demonstration).records) == 2
    assert len(models["model"].asked) == 2 * 3
    assert list(ledger(run)["prompts"]["repeated"]) == ["prompts.jsonl:2"]


def test_every_revision_may_become_a_demonstration_each_text_once(models, monkeypatch):
    whole = read_records(critique.run(config(keep="all"), "all").records, Demonstration).records
    assert len(whole) == 8
    models["model"].say = lambda conversation, key: "The same."
    same = critique.run(config(keep="all", seed=1), "same")
    assert len(read_records(same.records, Demonstration).records) == 4
    assert figures(same)["changed_fraction"]["value"] == 0
    assert figures(same)["common_sentence/round_2"]["value"] == 0  # "The same." is too short to count


def failing_of(share, over):
    """A call fails for prompts of this share."""

    def failing(conversation, key):
        if conversation[-1].content.startswith("Is it") and int(conversation[0].content.split()[1]) % over < share:
            return None
        return say(conversation, key)

    return failing


@pytest.mark.parametrize(("limit", "ends"), [(0.25, True), (0.19, False)])
def test_with_a_fifth_of_failing_calls_items_are_dropped_and_counted_or_the_run_stops(models, folder, limit, ends):
    write(folder / "prompts.jsonl", [{"prompt": f"How {i} is"} for i in range(20)])
    models["model"] = Written(failing_of(1, 5), at_once=4)
    stage = config(max_error_fraction=limit)
    if not ends:
        with pytest.raises(RewardError, match=r"4 of 20 answers failed, more than max_error_fraction 0.19 .*: "
                           r"prompts.jsonl:1: no answer in 60 s"):  # fmt: skip
            critique.run(stage, "out")
        assert json.loads((folder / "out/run.json").read_text())["status"] == "stopped"
        before = len(models["model"].asked)
        models["model"].say = say  # the server is well again
        run = critique.run(stage, "out")
        assert len(models["model"].asked) == 20 * 5 + 4  # the four that failed are asked again, and nothing else
        assert before < 20 * 2
        assert figures(run)["failures"]["value"] == 0
        return
    run = critique.run(stage, "out")
    assert figures(run)["failures"]["value"] == 0.2
    assert len(read_records(run.records, Demonstration).records) == 16
    dropped = ledger(run)["prompts"]["dropped"]
    assert dropped["prompts.jsonl:6"] == "the critique of round 1 failed: no answer in 60 s"
    assert len(dropped) == 4
    assert [row["row"] for row in steps(run) if "error" in row] == list(dropped)


@pytest.mark.parametrize(("limit", "ends"), [(0.25, True), (0.15, False)])
def test_a_server_that_fails_for_a_fifth_of_the_answers(folder, monkeypatch, limit, ends):
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.01)
    write(folder / "prompts.jsonl", [{"prompt": f"How {i} is"} for i in range(20)])

    def respond(body, number):
        first, last = body["messages"][0]["content"], body["messages"][-1]["content"]
        if int(first.split()[1]) % 5 == 0 and last.startswith("Make"):
            return 500, {"error": {"message": "out of order"}}, {}
        return answer(f"To {last}")

    with serving(respond) as server:
        there = {"server": {"base_url": server.url, "model": "there", "retries": 1, "concurrency": 4}}
        write(folder / "drawn.jsonl", [{"prompt": f"How {i} is", "responses": ["So."]} for i in range(20)])
        own = {"policy": None, "prompts": None, "answers": "drawn.jsonl", "critic": there, "reviser": there}
        stage = config(**own, rounds=1, max_error_fraction=limit)
        if not ends:
            with pytest.raises(RewardError, match=r"4 of 20 answers failed, .*max_error_fraction 0\.15 .*out of order"):
                critique.run(stage, "out")
            return
        run = critique.run(stage, "out")
    assert len(read_records(run.records, Demonstration).records) == 16
    assert figures(run)["failures"]["value"] == 0.2
    assert len(server.bodies) == 20 + 16 + 4 * 2  # each failure was tried twice
    assert all("out of order" in one for one in ledger(run)["answers"]["dropped"].values())


def test_a_run_that_was_broken_off_repeats_only_what_was_in_flight(models, folder):
    whole = critique.run(config(), "whole")
    models["model"] = fresh = Written(say, at_once=3)
    for stop in range(1, 20, 2):
        fresh.stop_after = len(fresh.asked) + stop
        with pytest.raises(KeyboardInterrupt):
            critique.run(config(), "broken")
        if stop >= 7:
            break
    fresh.stop_after = None
    run = critique.run(config(), "broken")
    assert len(fresh.asked) - 4 * 5 <= 4 * 2  # broken off four times, with at most two answers that were not kept
    for name in ("records.jsonl", "steps.jsonl", "calls.jsonl", "figures.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name


@pytest.mark.parametrize(("unfinished", "left"), [("drop", 3), ("keep", 4)])
def test_a_revision_that_was_cut_off_is_dropped_unless_it_is_kept(models, unfinished, left):
    def cut(conversation, key):
        return say(conversation, key) + ("…" if "Who" in conversation[0].content else "")

    models["model"] = Written(cut)
    run = critique.run(config(unfinished=unfinished), "out")
    assert len(read_records(run.records, Demonstration).records) == left
    told = ledger(run)["prompts"]["dropped"]
    assert len(told) == 4 - left
    assert all("was cut off after sampling.max_new_tokens (512)" in one for one in told.values())
    assert figures(run)["failures"]["value"] == 0


def test_where_nothing_is_left_the_run_stops_with_the_reason(models):
    models["model"] = Written(lambda conversation, key: say(conversation, key) + "…")
    with pytest.raises(
        DataError, match=r"no revision is left; the first: prompts.jsonl:1: the revision of round 1 was"
    ):
        critique.run(config(), "out")


def test_a_sentence_that_is_everywhere_is_said(models, folder, caplog):
    same = "You are valued and cared for."

    def rote(conversation, key):
        odd = sum(map(ord, conversation[0].content)) % 2
        return say(conversation, key) + (f" {same}" if conversation[-1].content.startswith("Make") and odd else "")

    write(folder / "prompts.jsonl", [{"prompt": f"How is {i}?"} for i in range(20)])
    models["model"] = Written(rote)
    run = critique.run(config(rounds=1), "out")
    found = figures(run)
    assert found["common_sentence/round_1"]["value"] == 0.5
    assert found["common_sentence/round_0"]["value"] == 0.05  # first answers: each has its own sentence
    assert "10 of 20 last revisions hold the sentence 'you are valued and cared for.'" in caplog.text


REFUSED = {
    "give either prompts": {"answers": "prompts.jsonl"},
    "policy is missing, and prompts are answered by it": {"policy": None},
    "policy is missing, and reviser is not given": {
        "policy": None, "prompts": None, "answers": "a", "critic": {"model": "model"},
    },
    "policy has nothing to do": {
        "prompts": None, "answers": "a", "critic": {"model": "m"}, "reviser": {"model": "m"},
    },
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_who_speaks_must_be_clear(words, folder):
    with pytest.raises(ValidationError, match=words):
        config(**REFUSED[words])


def test_a_column_that_would_make_thumbs_of_the_demonstrations_is_refused_before_anything_is_asked(models, folder):
    write(folder / "prompts.jsonl", [{"prompt": prompt, "label": i % 2 == 0} for i, prompt in enumerate(PROMPTS)])
    with pytest.raises(
        DataError, match=r"prompts\.jsonl: beside an answer, its columns are read as judgments .*'label'"
    ):
        critique.run(config(), "out")
    assert not models
