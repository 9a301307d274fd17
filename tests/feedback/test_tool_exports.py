"""Files that Argilla and Label Studio wrote: what is taken, and what is named with its reason (exports/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from feedback.judging import Desk, new_store
from sqlalchemy import func, select
from typer.testing import CliRunner

from baro.errors import ConfigError
from baro.feedback import answers, commands, intake, schema
from baro.feedback.derive import votes_of
from baro.feedback.imports import import_file, read_judged

FOLDER = Path(__file__).parent / "exports"
LEFT = {"outcome": "win", "position": 0, "strength": 0}
RIGHT = LEFT | {"position": 1}
TIE, BOTH_BAD = ({"outcome": name, "position": None, "strength": 0} for name in ("tie", "both_bad"))
FORMS = {"label_studio": "label-studio", "argilla": "argilla"}


def read(name):
    """The judgments as (line, end of the user's id, what was said), and the ledger."""
    path = FOLDER / name
    form, judged, ledger = read_judged(path)
    assert form == FORMS[path.parent.name]
    said = [(int(one.key.rpartition(":")[2]), one.rater[-1], _said(one.answer)) for one in judged]
    return said, judged, ledger


def _said(answer):
    match answer:
        case answers.PairAnswer():
            return answer.choice.model_dump()
        case answers.RankAnswer():
            return answer.ranks
        case answers.ThumbAnswer():
            return [thumb.good for thumb in answer.thumbs]
        case answers.CriteriaAnswer():
            return answer.scores
    return answer.text


def told(entries):
    return [str(entry) for entry in entries]


# --------------------------------------------------------------------------------------------------------- Label Studio


def test_pairwise():
    """Four people on one task, one of them twice, in the order of time; a tie by a second control."""
    said, judged, ledger = read("label_studio/pairs.json")
    assert said == [
        (1, "2", LEFT), (1, "1", LEFT), (1, "3", RIGHT), (1, "1", RIGHT),
        (2, "2", TIE), (2, "3", LEFT), (3, "2", BOTH_BAD),
    ]  # fmt: skip
    assert [one.comment for one in judged[:3]] == ["Because it is short.", "", '둘째가 낫다\n\nand "kinder"']
    assert judged[0].responses == ("Water it 1 times a week.", 'Mist it, "never" soak it; 1 drops\nare enough 🌿')
    assert (judged[0].at_ms, judged[0].active_ms) == (1_795_278_401_929, 2_953)
    assert told(ledger.dropped) == [
        "pairs.json:1: the answer {'rating': 2} to 'sure' (of type 'rating') fits no kind of judgment",
        "pairs.json:4: one person's answers to 'comparison' and 'otherwise' contradict each other; none was taken",
    ]
    assert [(one.key, one.reason) for one in ledger.repeated] == [
        ("pairs.json:1", "prediction"), ("pairs.json:2", "empty"),
        ("pairs.json:5", "skipped"), ("pairs.json:5", "skipped"),
    ]  # fmt: skip


def test_choices_between_two():
    said, _, ledger = read("label_studio/choices.json")
    assert said == [(1, "2", LEFT), (1, "3", TIE), (1, "1", RIGHT), (2, "3", BOTH_BAD), (3, "1", RIGHT)]
    assert ["'strength' (of type 'choices')" in one for one in told(ledger.dropped)] == [True, True]


def test_ranker():
    said, _, ledger = read("label_studio/ranker.json")
    assert said == [(1, "2", [2, 3, 4, 1]), (1, "3", [1, 2, 3, 4]), (2, "2", [1, 2, 3, 4])]
    assert [one.reason for one in ledger.repeated] == ["skipped"]


def test_ranker_with_buckets():
    """The answers in the only bucket that was used are ranked; two used buckets are no order."""
    said, _, ledger = read("label_studio/buckets.json")
    assert said == [(2, "3", [2, None, 1, None])]
    assert told(ledger.dropped) == [
        "buckets.json:1: 'rank' sorts the answers into 'best' and 'unsafe'; which of them is the order is not told",
        "buckets.json:3: 'rank' ranks nothing",
    ]


def test_grades_of_one_answer():
    said, judged, ledger = read("label_studio/grading.json")
    assert said == [
        (1, "2", "It is 2."), (2, "2", [True]), (2, "2", "It is 2."), (2, "2", {"helpfulness": [5], "honesty": [3]}),
    ]  # fmt: skip
    assert [turn.role for turn in judged[0].prompt] == ["system", "user"]
    assert [one.active_ms for one in judged] == [10_664, 3_086, 0, 0]
    assert told(ledger.dropped) == [
        "grading.json:2: the answer {'choices': ['Too long']} to 'faults' (of type 'choices') fits no kind of judgment"
    ]
    assert told(ledger.repeated) == ["grading.json:3: nobody has annotated it"]


def test_a_comparison_without_a_prompt():
    said, _, ledger = read("label_studio/plainpair.json")
    assert said == []
    assert told(ledger.dropped) == ["plainpair.json:1: holds no prompt with answers beside it"]


@pytest.mark.parametrize("name", ["choices.min.json", "choices.csv"])
def test_exports_that_say_too_little(name):
    with pytest.raises(ConfigError, match=rf"{name}: is Label Studio's JSON-MIN or CSV, .* export it as JSON"):
        read_judged(FOLDER / "label_studio" / name, "label-studio")


# -------------------------------------------------------------------------------------------------------------- Argilla


RANKS = [(1, "1", [2, 3, 1]), (1, "2", [1, 2, 1]), (1, "1", {"rating": [4, None, None]})]


@pytest.mark.parametrize("name", ["v1-ranks.jsonl", "v1-ranks.records.json"])
def test_version_1(name):
    """A data set as it lies on the Hub, and its records; ties have equal ranks, ``rating-1`` is of ``response-1``."""
    said, judged, ledger = read(f"argilla/{name}")
    assert said == RANKS
    assert [one.comment for one in judged] == ["Owls are fine.", "", ""]
    assert told(ledger.dropped) == [f"{name}:1: the answer ['rude'] to the question 'faults' fits no kind of judgment"]
    assert [(one.key[-1], one.reason) for one in ledger.repeated] == [
        ("1", "suggestion"), ("1", "discarded"), ("2", "draft"), ("3", "not judged"),
    ]  # fmt: skip


def test_version_1_is_no_file_of_pairs():
    """Its fields may be called chosen and rejected; what counts is what people said of them."""
    said, _, ledger = read("argilla/v1-pairs.jsonl")
    assert said == [(1, "1", RIGHT), (1, "2", TIE)]
    assert not ledger.dropped
    for name, form in (("argilla/v1-pairs.jsonl", "argilla"), ("label_studio/pairs.json", "label-studio")):
        with pytest.raises(ConfigError, match=f"import it with --format {form}"):
            read_judged(FOLDER / name, "plain")


def test_version_2():
    said, judged, ledger = read("argilla/v2-pairs.jsonl")
    assert said == [(1, "1", LEFT), (1, "2", TIE), (1, "1", {"quality": [5, 1]}), (2, "1", RIGHT)]
    assert judged[0].comment == "It is true."
    assert [turn.role for turn in judged[0].prompt] == ["system", "user"]
    assert [one.reason for one in ledger.repeated if one.reason != "suggestion"] == ["discarded", "draft", "not judged"]
    assert ledger.truncated == []


def test_version_2_without_the_status_of_responses():
    """``to_json`` leaves it out: what was discarded counts as well, and the ledger says so."""
    said, _, ledger = read("argilla/v2-pairs.json")
    assert said == [
        (1, "1", LEFT), (1, "2", TIE), (1, "3", RIGHT), (1, "1", {"quality": [5, 1]}), (2, "1", RIGHT), (2, "2", LEFT),
    ]  # fmt: skip
    assert [(one.key, one.reason) for one in ledger.truncated] == [
        ("v2-pairs.json:1", "status not told"), ("v2-pairs.json:2", "status not told"),
    ]  # fmt: skip


def test_version_2_with_one_answer():
    said, _, ledger = read("argilla/v2-ones.jsonl")
    assert said == [
        (1, "1", [True]),
        (1, "2", [False]),
        (1, "1", "Hello!"),
        (1, "1", {"clarity": [4]}),
        (1, "2", {"clarity": [2]}),
    ]
    assert told(ledger.repeated) == ["v2-ones.jsonl:1: the response of user 11111111 is discarded"]


@pytest.mark.parametrize("name", ["v2-ranks.jsonl", "v2-ranks.parquet"])
def test_version_2_in_every_file(name):
    assert read(f"argilla/{name}")[0] == [(1, "1", [2, 3, 1]), (1, "2", [1, 3, 2])]


@pytest.mark.parametrize("name", ["v1-pairs.csv", "v2-ones.csv"])
def test_tables_that_hold_no_lists(name):
    with pytest.raises(ConfigError, match=rf"{name}: is a CSV of Argilla's records, .* export them as JSON Lines"):
        read_judged(FOLDER / "argilla" / name, "argilla")


# --------------------------------------------------------------------------------------------------------- into a store

TAKEN = {
    "label_studio/pairs.json": 7, "label_studio/choices.json": 5, "label_studio/ranker.json": 3,
    "label_studio/buckets.json": 1, "label_studio/grading.json": 4, "argilla/v1-ranks.jsonl": 3,
    "argilla/v1-pairs.jsonl": 2, "argilla/v2-pairs.jsonl": 4, "argilla/v2-ones.jsonl": 5, "argilla/v2-ranks.parquet": 2,
}  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path / "store")
    yield Desk(store)
    store.close()


@pytest.mark.parametrize("name", TAKEN)
def test_all_of_it_is_stored_once(desk, name):
    first, second = (import_file(desk.store, desk.project, FOLDER / name) for _ in range(2))
    assert (first.judgments, first.known) == (TAKEN[name], 0)
    assert (second.judgments, second.known, second.tasks) == (0, TAKEN[name], 0)
    assert first.ledger.kept == TAKEN[name]
    assert told(second.ledger.dropped) == told(first.ledger.dropped)


def test_who_changed_their_mind_counts_once(desk):
    """User 1 said left, then right; of the six who judged a pair each has one vote on it."""
    import_file(desk.store, desk.project, FOLDER / "label_studio/pairs.json")
    with desk.store.read() as connection:
        pairs = votes_of(connection, desk.project.id).pairs
        assert len(pairs) == 6
        first = [pair for pair in pairs if pair.judgment.submitted_ms >= 1_795_278_497_000]
        assert sum(pair.position == 1 for pair in first) == 2
        assert connection.execute(select(func.count()).select_from(schema.rater)).scalar_one() == 3


def test_two_exports_of_one_data_set_are_the_same_judgments(desk):
    for name, judgments in (("v1-ranks.jsonl", 3), ("v1-ranks.records.json", 0)):
        assert import_file(desk.store, desk.project, FOLDER / "argilla" / name).judgments == judgments


def test_the_command_names_what_it_dropped(tmp_path, monkeypatch):
    runner, store = CliRunner(), str(tmp_path / "store")
    assert runner.invoke(commands.app, ["create", "demo", "--store", store]).exit_code == 0
    path = str(FOLDER / "label_studio/buckets.json")
    given = ["import", "demo", path, "--format", "label-studio", "--store", store]
    done = runner.invoke(commands.app, given)
    assert (done.exit_code, done.stdout) == (0, "1 judgments added, 0 known\n")
    assert "buckets.json:3: 'rank' ranks nothing\n" in done.stderr
    monkeypatch.setattr(intake, "TOLD", 1)
    assert "and 1 more rows were dropped\n" in runner.invoke(commands.app, given).stderr


# ----------------------------------------------------------------------------------- what would have been taken wrongly


def shown(tmp_path, fields, responses):
    path = tmp_path / "argilla.json"
    path.write_text(json.dumps([{"fields": fields, "responses": responses}]))
    _, judged, ledger = read_judged(path)
    return [_said(one.answer) for one in judged], judged, ledger


def said_by(user, value):
    return [{"value": value, "user_id": user, "status": "submitted"}]


def test_yes_is_praise_only_where_the_question_is_whether_it_is_good(tmp_path):
    """As in Label Studio's assessment template: whether it fails to follow, hallucinates, is inappropriate."""
    one = {"prompt": "q", "response": "x"}
    for question in ("helpful", "is_correct", "Is the answer acceptable?"):
        assert shown(tmp_path, one, {question: said_by("u", "Yes")})[0] == [[True]]
    for question in ("hallucination", "fails_to_follow", "inappropriate", "not_helpful", "safe"):
        found, _, ledger = shown(tmp_path, one, {question: said_by("u", "No")})
        assert (found, len(ledger.dropped)) == ([], 1)


def test_words_in_a_comment_are_no_choice(tmp_path):
    two = {"prompt": "q", "response_1": "x", "response_2": "y"}
    given = {"preference": said_by("u", "response_2"), "reason": said_by("u", "none"), "notes": said_by("u", "same")}
    found, (one,), ledger = shown(tmp_path, two, given)
    assert (found, one.comment, ledger.dropped) == ([RIGHT], "none\n\nsame", [])


def test_two_questions_that_are_answered_differently(tmp_path):
    two = {"prompt": "q", "response_1": "x", "response_2": "y"}
    given = {"helpful": said_by("u", "response_1"), "safer": said_by("u", "response_2") + said_by("v", "response_1")}
    found, (one,), ledger = shown(tmp_path, two, given)
    assert (found, one.rater) == ([LEFT], "v")
    assert ["'helpful' and 'safer' contradict each other" in line for line in told(ledger.dropped)] == [True]
    alike = {"helpful": said_by("u", "response_1"), "safer": said_by("u", "response_1")}
    assert shown(tmp_path, two, alike)[0] == [LEFT]


def test_names_of_models_are_no_answers(tmp_path):
    two = {"prompt": "q", "model_a": "small", "model_b": "large", "response_a": "x", "response_b": "y"}
    found, (one,), _ = shown(tmp_path, two, {"best": said_by("u", "B")})
    assert (found, one.responses, one.models) == ([RIGHT], ("x", "y"), ("small", "large"))
    alone = {"prompt": "q", "model_a": "its answer", "model_b": "another"}
    assert shown(tmp_path, alone, {"best": said_by("u", "model_a")})[0] == [LEFT]


def test_scores_by_the_number_of_their_answer(tmp_path):
    three = {"prompt": "q", "response-1": "x", "response-2": "y", "response-3": "z"}
    given = {"Help-2": said_by("u", 3), "Help-3": said_by("u", 5), "rating_response-1": said_by("u", 2)}
    assert shown(tmp_path, three, given)[0] == [{"help": [None, 3, 5], "rating": [2, None, None]}]
