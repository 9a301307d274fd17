"""What judges an answer is obeyed or refused: labels, scores, ranks and weights, in any spelling and in any row."""

import json
import re

import pytest
from tiny import encode_any

from baro.data.encode import account, encode_comparisons
from baro.data.formats import NOUNS, read_records
from baro.data.known import LAYOUTS
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.errors import DataError
from baro.records import Demonstration, Message, Preference, Prompt, Ranking, Rated, Safety, Thumb

YES, NO = (Message("assistant", "yes"),), (Message("assistant", "no"),)
PAIR = {"prompt": "hi", "chosen": "yes", "rejected": "no"}


def told(loaded):
    ledger = Ledger(loaded.name)
    account(loaded, ledger)
    return ledger


# --------------------------------------------------------------------------------------------------------------- thumbs


@pytest.mark.parametrize(
    ("up", "down"), [(True, False), (1, 0), (1.0, 0.0), ("1", "0"), ("true", "False"), ("1.0", "0.0")], ids=repr
)
def test_every_spelling_of_a_thumb_is_one(jsonl, up, down):
    rows = [
        {"prompt": f"hi {i}", "completion": "no" if i % 2 else "yes", "label": down if i % 2 else up} for i in range(4)
    ]
    loaded = read_records(jsonl(rows))
    assert [(one.completion, one.label) for one in loaded.records] == [(YES, True), (NO, False)] * 2
    assert "'label' its thumb (true or 1 is up)" in loaded.description
    answers = read_records(jsonl(rows), Demonstration)
    assert {one.completion for one in answers.records} == {YES}  # what people rejected is never imitated
    assert [entry.reason for entry in told(answers).repeated] == ["thumb down"] * 2


def test_thumbs_of_a_table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion,label\nhi,yes,1\nho,no,0\nhu,yes,\n")
    loaded = read_records(path)
    assert [one.label for one in loaded.records] == [True, False]
    assert [entry.reason for entry in told(loaded).dropped] == ["no label"]


@pytest.mark.parametrize("label", ["good", 2, "-1", 0.5, "toxic", ["up"]], ids=repr)
def test_another_label_is_refused_and_may_be_set_aside(jsonl, label):
    path = jsonl([{"prompt": "hi", "completion": "yes", "label": label}])
    for want in (None, Thumb, Demonstration):
        with pytest.raises(DataError, match=r"rows\.jsonl:1: column 'label' is .*; a thumb is true or 1 \(up\)"):
            list(read_records(path, want))
    assert read_records(path, Demonstration, Reading(ignore=("label",))).records[0].completion == YES


# ------------------------------------------------------------------------------------------------------------ every row


@pytest.mark.parametrize("empty", [None, "missing"])
@pytest.mark.parametrize(
    ("column", "value", "kind", "reason"),
    [("label", 0, Thumb, "no label"), ("score", 5, Rated, "no score"), ("helpfulness", 0, Rated, "no score")],
)
def test_the_first_rows_decide_and_not_the_first_row(jsonl, empty, column, value, kind, reason):
    rows = [{"prompt": f"hi {i}", "completion": "yes", column: value if i == 3 else None} for i in range(5)]
    if empty == "missing":
        rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
    loaded = read_records(jsonl(rows))
    ledger = told(loaded)
    assert loaded.kind is kind
    assert (ledger.kept, [entry.reason for entry in ledger.dropped]) == (1, [reason] * 4)


def test_a_judgment_that_comes_later_stops_rather_than_being_kept_beside(jsonl):
    rows = [{"prompt": f"hi {i}", "completion": "yes", "label": None} for i in range(600)]
    rows[555]["label"] = 0
    with pytest.raises(DataError, match=r"rows\.jsonl:556: column 'label' judges the row \(0\), and nothing obeys it"):
        list(read_records(jsonl(rows), Demonstration))


JUDGING = {
    "label": "0",
    "labels": [1],
    "score": "good",
    "scores": [1],
    "rank": 2,
    "weight": 0.5,
    "rating": "bad",
    "reward": "x",
    "unsafe": 1,
    "is_safe": False,
    "acceptable?": 0,
    "is_response_0_safe": False,
    "safer_response_id": 1,
    "annotation_1": "2_full_refusal",
    "final_label": "3_partial_refusal",
}
UNJUDGED = {
    "prompt/completion": {"prompt": "hi", "completion": "yes"},
    "messages": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
    "text": {"text": "once upon a time"},
    "prompt/responses": {"prompt": "hi", "responses": ["yes"]},
}


@pytest.mark.parametrize("column", JUDGING)
@pytest.mark.parametrize("name", UNJUDGED)
def test_a_column_that_judges_is_obeyed_or_refused(jsonl, name, column):
    path = jsonl([{**UNJUDGED[name], column: JUDGING[column]}])
    layout = read_records(path).fit.layout
    if layout.makes in (Thumb, Rated, Ranking, Safety):
        return  # obeyed
    with pytest.raises(DataError, match=f"column '{re.escape(column)}' judges the row .*data.ignore"):
        list(read_records(path))
    assert len(read_records(path, None, Reading(ignore=(column,))).records) == 1


@pytest.mark.parametrize("column", ["label", "weight", "winner"])
def test_nothing_stands_beside_a_judgment_that_may_change_it(jsonl, column):
    with pytest.raises(DataError, match=f"column '{column}' judges the row"):
        list(read_records(jsonl([{**PAIR, column: 0}])))
    assert read_records(jsonl([{**PAIR, column: 0}]), Prompt).records  # of the prompt it says nothing


def test_where_prompts_alone_are_wanted_judgments_are_columns_like_others(jsonl):
    path = jsonl([{"prompt": "hi", "completion": "yes", "weight": 0.5}])
    assert read_records(path, Prompt).records[0].extra == {"weight": 0.5}


def test_every_layout_without_a_judgment_is_in_this_test():
    unjudged = {layout.name for layout in LAYOUTS if layout.makes is Demonstration}
    assert unjudged <= {*UNJUDGED, "conversations", "prompt/answer", "prompt/solution"}
    assert set(NOUNS) >= {layout.makes for layout in LAYOUTS}


# --------------------------------------------------------------------------------------------------------------- scores


def test_a_score_whose_direction_nobody_knows_is_refused(jsonl):
    rows = [
        {"prompt": "hi", "completion": text, "toxicity_score": score} for text, score in (("yes", 0.1), ("no", 0.9))
    ]
    with pytest.raises(DataError, match=r"'toxicity_score' judges the row \(0\.1\).*data\.criteria if it is a score"):
        list(read_records(jsonl(rows)))
    rows = [{"prompt": "hi", "completion": text, "warmth_score": score} for text, score in (("yes", 0.1), ("no", 0.9))]
    named = read_records(jsonl(rows), Demonstration, Reading(criteria=("warmth_score",)))
    assert [one.completion for one in named.records] == [NO]  # the higher one


def test_a_column_may_say_that_it_is_a_score(jsonl):
    rows = [{"prompt": "hi", "response": "yes", "score/말투": 2, "clarity": 4}]
    assert read_records(jsonl(rows)).records[0].scores == ({"말투": 2.0, "clarity": 4.0},)
    with pytest.raises(DataError, match="column 'mood_score' judges the row"):  # beside scores that are known, too
        list(read_records(jsonl([{**rows[0], "mood_score": 1}])))


def test_rated_answers_serve_by_the_best_one(jsonl):
    rows = [{"prompt": "hi", "response": text, "helpfulness": n, "verbosity": 1} for text, n in (("no", 0), ("yes", 4))]
    assert [one.completion for one in read_records(jsonl(rows), Demonstration).records] == [YES]


@pytest.mark.parametrize(("scale", "margin"), [(None, 0.0), (0.1, 0.7), (1.0, 7.0)])
def test_scores_of_a_pair_make_a_margin_only_where_that_is_asked_for(jsonl, scale, margin):
    path = jsonl([{**PAIR, "score_chosen": 8.5, "score_rejected": 1.5}])
    loaded = read_records(path, None, Reading(margin_scale=scale))
    assert loaded.records[0].margin == pytest.approx(margin)
    used = "kept and not used" if scale is None else f"a margin = {scale:g} × score difference where none is given"
    assert loaded.description.endswith(f"; the scores are {used} (median difference 7)")
    given = jsonl([{**PAIR, "score_chosen": 8.5, "score_rejected": 1.5, "margin": 0.25}])
    assert read_records(given, None, Reading(margin_scale=scale)).records[0].margin == 0.25


def test_pairs_that_their_scores_contradict_are_counted(jsonl):
    rows = [{**PAIR, "score_chosen": 1 + i, "score_rejected": 3, "id": i} for i in range(4)]
    assert read_records(jsonl(rows)).description.endswith(
        "; in 2 of the first 4 pairs the chosen answer has the lower score"
    )


# ---------------------------------------------------------------------------------------------------------------- votes

RANKED = {"prompt": "hi", "responses": ["a", "b", "c"]}
SECOND_OPINIONS = {
    "pairs alike": (PAIR, PAIR),
    "pairs in the other order": (PAIR, {**PAIR, "chosen": "no", "rejected": "yes"}),
    "pairs by probability": ({**PAIR, "p_chosen": 0.9}, {**PAIR, "p_chosen": 0.3}),
    "pairs by margin": ({**PAIR, "margin": 2}, {**PAIR, "margin": 0.5}),
    "ranks": ({**RANKED, "ranks": [1, 3, 2]}, {**RANKED, "ranks": [3, 2, 1]}),
    "ranks alike": ({**RANKED, "ranks": [1, 3, 2]}, {**RANKED, "ranks": [1, 3, 2]}),
    "scores": ({**RANKED, "scores": [1, 2, 3]}, {**RANKED, "scores": [3, 2, 1]}),
    "thumbs": ({"prompt": "hi", "completion": "a", "label": 1}, {"prompt": "hi", "completion": "a", "label": 0}),
}


@pytest.mark.parametrize("name", SECOND_OPINIONS)
def test_a_second_rater_is_a_vote_and_no_repetition(jsonl, byte_level, name):
    one, other = SECOND_OPINIONS[name]
    loaded, ledger = read_records(jsonl([one, other, one])), Ledger("x")
    samples = list(encode_any(loaded, byte_level, 100, ledger))
    assert (len(samples), ledger.kept, ledger.dropped) == (3, 3, [])
    assert [str(entry) for entry in ledger.votes] == [
        "rows.jsonl:2: judges what rows.jsonl:1 judges",
        "rows.jsonl:3: judges what rows.jsonl:1 judges",
    ]


def test_three_votes_weigh_three_times_as_much(jsonl, byte_level):
    samples = list(encode_comparisons(read_records(jsonl([PAIR] * 3)), byte_level, 100, Ledger("x")))
    assert sum(one.units.get("prompts", 0) for s in samples for one in s.completions) == 3


def test_what_judges_nothing_is_still_there_once(jsonl):
    ledger = told(read_records(jsonl([{"prompt": "hi", "completion": "yes"}] * 2)))
    assert (ledger.kept, [entry.reason for entry in ledger.dropped]) == (1, ["duplicate"])


# ----------------------------------------------------------------------------------------------------- public layouts

SAID = [{"from": "human", "value": "hi"}]
HI = (Message("user", "hi"),)
PUBLIC = {
    "LLaMA-Factory": (
        {"conversations": SAID, "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}},
        Preference(HI, YES, NO),
    ),
    "axolotl": (
        {
            "messages": [{"role": "user", "content": "hi"}],
            "chosen": {"role": "assistant", "content": "yes"},
            "rejected": {"role": "assistant", "content": "no"},
        },
        Preference(HI, YES, NO),
    ),
    "HelpSteer3": (
        {
            "domain": "general",
            "context": [{"role": "user", "content": "hi"}],
            "response1": "no",
            "response2": "yes",
            "overall_preference": 2,
        },
        Preference(HI, YES, NO, extra={"domain": "general", "overall_preference": 2}),
    ),
    "HelpSteer3, the first": (
        {
            "context": [{"role": "user", "content": "hi"}],
            "response1": "yes",
            "response2": "no",
            "overall_preference": -1,
        },
        Preference(HI, YES, NO, extra={"overall_preference": -1}),
    ),
    "HelpSteer3, neither": (
        {
            "context": [{"role": "user", "content": "hi"}],
            "response1": "yes",
            "response2": "no",
            "overall_preference": 0,
        },
        Preference(HI, YES, NO, 0.5, extra={"overall_preference": 0}),
    ),
    "SHP": (
        {"history": "hi", "human_ref_A": "no", "human_ref_B": "yes", "labels": 0, "score_A": 3, "score_B": 9},
        Preference(HI, YES, NO, extra={"score_A": 3, "score_B": 9}),
    ),
    "Nectar": (
        {
            "prompt": "\n\nHuman: hi\n\nAssistant: ",
            "answers": [{"answer": "no", "model": "m", "rank": 2.0}, {"answer": "yes", "model": "n", "rank": 1.0}],
        },
        Ranking(HI, (NO, YES), (2, 1)),
    ),
    "Argilla's orca pairs": (
        {"system": "", "input": "hi", "chosen": "yes", "rejected": "no", "rating": [9.0, 8.0], "chosen_score": 9.0},
        Preference(HI, YES, NO, extra={"rating": [9.0, 8.0], "chosen_score": 9.0}),
    ),
    "UltraFeedback": (
        {
            "instruction": "hi",
            "completions": [
                {"response": "no", "annotations": {"honesty": {"Rating": "2"}, "helpfulness": {"Rating": "N/A"}}},
                {"response": "yes", "annotations": {"honesty": {"Rating": "5"}, "helpfulness": {"Rating": "4"}}},
            ],
        },
        Rated(HI, (NO, YES), ({"honesty": 2.0}, {"honesty": 5.0, "helpfulness": 4.0})),
    ),
    "whole numbers with a point": (
        {"prompt": "hi", "responses": ["no", "yes"], "ranks": [2.0, 1.0]},
        Ranking(HI, (NO, YES), (2, 1)),
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_layouts_are_read_unasked(jsonl, name):
    row, record = PUBLIC[name]
    assert read_records(jsonl([row, row])).records[0] == record


def test_sentences_use_the_names_of_the_file(jsonl):
    with pytest.raises(DataError, match=r"^rows\.jsonl:1: 'completions' has 1 entries and 'ratings' 2"):
        list(read_records(jsonl([{"instruction": "hi", "completions": ["a"], "ratings": [1, 2]}])))


TREE = [
    {"message_id": "q", "parent_id": None, "role": "prompter", "text": "hi", "rank": None},
    {"message_id": "a", "parent_id": "q", "role": "assistant", "text": "no", "rank": 1},
    {"message_id": "b", "parent_id": "q", "role": "assistant", "text": "yes", "rank": 0},
    {"message_id": "c", "parent_id": "b", "role": "prompter", "text": "and?", "rank": None},
    {"message_id": "d", "parent_id": "c", "role": "assistant", "text": "so", "rank": None},
    {"message_id": "e", "parent_id": "a", "role": "prompter", "text": "why?", "rank": None},
]


def test_of_trees_only_the_assistants_turns_are_learned(jsonl):
    path = jsonl([{**row, "message_tree_id": "q", "lang": "en"} for row in TREE])
    rankings = told(read_records(path, Ranking))
    assert (rankings.kept, rankings.dropped) == (1, [])  # one question has one reply, and one has none
    ranking = read_records(path, Ranking).records[0]
    assert (ranking.prompt, ranking.completions, ranking.ranks) == (HI, (NO, YES), (2, 1))
    learned = read_records(path, Demonstration).records
    assert [(one.prompt[-1].content, one.completion[0].content) for one in learned] == [("hi", "yes"), ("and?", "so")]
    assert [turn.content for turn in learned[1].prompt] == ["hi", "yes", "and?"]
    asked = [one.prompt[-1].content for one in read_records(path, Prompt).records]
    assert asked == ["hi", "and?"]


def test_a_turn_of_a_conversation_is_no_raw_text(jsonl):
    path = jsonl([{"text": "hi", "role": "prompter", "parent_id": None}])
    with pytest.raises(DataError, match="no known layout has the columns 'text', 'role', 'parent_id'"):
        read_records(path)


def test_votes_survive_the_ledger_of_a_run():
    ledger, again = Ledger("x", kept=2), Ledger("x")
    ledger.vote("x:2", "judges what x:1 judges")
    again.restore(json.loads(json.dumps(ledger.state())))
    assert again == ledger
    ledger.check(0.0)
