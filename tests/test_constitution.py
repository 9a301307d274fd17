"""The file of principles: what it says, what it refuses, and what is asked of a model by it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from baro.config import load_config
from baro.constitution import (
    FOLDER,
    SHIPPED,
    comparison_request,
    critique_request,
    load_constitution,
    revision_request,
    verdict_request,
)
from baro.errors import ConfigError
from baro.functional.options import OPTIONS
from baro.inputs import hash_input
from baro.methods import critique, label
from baro.pipeline import load_pipeline
from baro.records import Message

ROOT = Path(__file__).parents[1]
KIND = """
language: en
principles:
  - name: kind
    principle: {en: Be kind.}
  - name: brief
    weight: 3
    principle: {en: Be brief.}
    critique: {en: "What is too long?"}
    revision: {en: Make it shorter.}
    comparison: {en: "Which is shorter?"}
"""
EN, KO = (Message("user", "How are you?"),), (Message("user", "잘 지내요?"),)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ones_are_whole_in_both_languages(name):
    found = load_constitution(name)
    assert found.language == "auto"
    for language in ("en", "ko"):
        spoken = found.in_language(language)
        assert spoken.language == language
        for one in spoken.principles:
            for key in ("critique", "revision", "comparison"):
                text = spoken.words(one, key, language)
                assert (min(re.sub(r"[^\uac00-\ud7a3]", "", text) or " ") >= "\uac00") == (language == "ko"), text
        shown = [one for one in found.examples.comparisons if one.language == language]
        assert Counter(one.better for one in shown) == {"first": 1, "second": 1}  # no side is shown more often
        assert [one for one in found.examples.revisions if one.language == language]


def test_the_three_principles_of_the_general_one_and_what_the_medical_one_must_say():
    general = {one.name: one.principle.en for one in load_constitution("general").principles}
    assert "fair and without prejudice" in general["fair"]
    assert "encourages no harm" in general["no_harm"]
    assert "only accurate information" in general["accurate"]
    medical = {one.name: one.principle for one in load_constitution("medical").principles}
    assert "no advice that lacks medical evidence" in medical["evidence"].en
    assert "119" in medical["emergency"].en
    assert "119" in medical["emergency"].ko


def test_it_is_known_by_its_content(write, tmp_path):
    path = write(KIND)
    copy = tmp_path / "copy.yaml"
    copy.write_text(KIND)
    assert hash_input(path, "constitution") == hash_input(str(copy), "constitution")
    copy.write_text(KIND + "\n")
    assert hash_input(path, "constitution") != hash_input(str(copy), "constitution")
    shipped = hash_input("general", "constitution")
    assert shipped == hash_input(str(FOLDER / "general.yaml"), "constitution")


MISTAKES = {
    "principles: []": r"mine.yaml:1: 'principles'.*at least 1 item",
    "principles: [{name: a, principle: {en: A, ko: ㄱ}, wieght: 2}]": (
        r"mine.yaml:1: unknown key 'principles.0.wieght'; did you mean 'principles.0.weight'"
    ),
    "principles:\n  - name: a\n    principle: {en: A, ko: ㄱ}\n    weight: 0": (
        r"mine.yaml:4: 'principles.0.weight' must be greater than 0, not 0"
    ),
    "language: ko\nprinciples: [{name: a, principle: {en: A}}]": (
        r"principles.0.principle has no text in ko, and language is ko; add ko"
    ),
    "principles: [{name: a, principle: {en: A}}]": r"principles.0.principle has no text in ko, and language is auto",
    "principles: [{name: a, principle: {}}]": r"mine.yaml:1: 'principles.0.principle': holds no text; give en, ko or",
    "principles: [{name: a, principle: {en: ' '}}]": r"holds a text that is empty",
    "language: en\nprinciples:\n- {name: a, principle: {en: A}}\n- {name: a, principle: {en: B}}": (
        r"two principles are called 'a'"
    ),
    "language: en\nprinciples: [{name: a, principle: {en: A}}]\nwording: {critique: {en: Criticise it.}}": (
        r"mine.yaml:3: 'wording': critique has no {principle}"
    ),
    "language: en\nprinciples: [{name: a, principle: {en: A}}]\nexamples: {comparisons: [{language: en, principle: b, "
    "prompt: p, first: f, second: s, better: first}]}": r"an example names the principle 'b'; those here are a",
    "principles: [": r"mine.yaml:\d+: this is not valid YAML",
}


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_told_with_file_and_key(write, text):
    with pytest.raises(ConfigError, match=MISTAKES[text]):
        load_constitution(write(text))


def test_what_is_no_constitution():
    with pytest.raises(ConfigError, match=r"generel: no constitution; .* one that comes with Baro: general, medical"):
        load_constitution("generel")


def test_a_language_that_is_not_there_is_refused(write):
    with pytest.raises(ConfigError, match=r"language: ko: principles\.0\.principle has no text in ko"):
        load_constitution(write(KIND), "ko")


def test_principles_are_drawn_by_weight_and_by_key(write):
    found = load_constitution(write(KIND))
    drawn = Counter(found.draw(0, f"row {i}", 1).name for i in range(2000))
    assert 0.72 < drawn["brief"] / 2000 < 0.78  # 3 of 4
    assert [found.draw(0, "x", k).name for k in range(9)] == [found.draw(0, "x", k).name for k in range(9)]
    assert [found.draw(0, "x", k).name for k in range(20)] != [found.draw(1, "x", k).name for k in range(20)]


def test_the_turns_of_critique_and_revision(write):
    found = load_constitution(write(KIND))
    kind, brief = found.principles
    system = (Message("system", "You are a bear."), *EN)
    assert critique_request(found, brief, system, "Fine.") == (
        *system,
        Message("assistant", "Fine."),
        Message("user", "What is too long?"),
    )
    asked = revision_request(found, kind, EN, "Fine.", "It is short.")
    assert asked[:2] == (*EN, Message("assistant", "Fine."))
    assert asked[2].content == "Say where your last answer falls short of this: Be kind."
    assert asked[3] == Message("assistant", "It is short.")
    assert asked[4].content.endswith("write the answer alone: Be kind.")


def test_examples_stand_behind_the_system_message_in_the_prompts_language():
    found = load_constitution("general")
    system = Message("system", "s")
    for prompt, other in ((EN, "Moon"), (KO, "한글은 누가")):
        turns = critique_request(found, found.named("fair"), (system, *prompt), "a")
        assert turns[0] == system
        assert turns[-3:-1] == (*prompt, Message("assistant", "a"))
        assert [turn.role for turn in turns[1:]] == ["user", "assistant"] * (len(turns) // 2 - 1) + ["user"]
        compared = comparison_request(found, found.named("fair"), prompt, "one", "two")
        assert any(other in turn.content for turn in compared[:-1])
        assert {turn.content for turn in compared[1:-1:2]} == set(OPTIONS)


def test_the_question_about_two_answers(write):
    found = load_constitution(write(KIND))
    (asked,) = comparison_request(found, found.principles[1], EN, "{second}", "Well.")
    assert asked.content == (
        "Here are a conversation and two answers to its last message.\n\nUser: How are you?\n\nWhich is shorter?\n\n"
        "(A) {second}\n\n(B) Well.\n\nReply with (A) or (B) alone."
    )
    thought = comparison_request(found, found.principles[1], EN, "x", "y", ends_with="thoughts")
    assert thought[0].content.endswith("First think it over in a few sentences, without deciding yet.")
    decided = verdict_request(thought, "x is short", "en")
    assert decided[1:] == (
        Message("assistant", "x is short"),
        Message("user", "So which one is it? Reply with (A) or (B) alone."),
    )


@pytest.mark.parametrize("page", ["docs/constitution.md", "docs/ko/constitution.md"])
def test_the_files_of_its_page_are_what_the_stages_take(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    constitution, asked, labels, recipe = [tmp_path / name for name in ("c.yaml", "a.yaml", "l.yaml", "r.yaml")]
    for path, text in zip((constitution, asked, labels, recipe), files, strict=True):
        path.write_text(text)
    assert [one.name for one in load_constitution(str(constitution)).principles] == ["emergency", "fair"]
    assert load_config(critique.Config, asked).critic.server.model == "my-critic"
    assert load_config(label.Config, labels).judging.bounds == (0.1, 0.9)
    (tmp_path / "base-model").mkdir()
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    stages = load_pipeline(recipe).stages
    assert [stage.name for stage in stages] == ["critique", "sft", "answers", "labels", "dpo", "report"]
