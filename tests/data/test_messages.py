"""No message of a row is lost without a word: context, history, keys of a message, other spellings, other roles."""

import json

import pytest
from tiny import encode_any

from baro.data.encode import account
from baro.data.formats import read_records
from baro.data.known import LAYOUTS
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.errors import DataError
from baro.records import Demonstration, Message, Preference

SYSTEM = {"role": "system", "content": "be kind"}
HI, A, B, YES, NO = (
    {"role": role, "content": content}
    for role, content in (("user", "hi"), ("assistant", "a"), ("user", "b"), ("assistant", "yes"), ("assistant", "no"))
)


def turns(*messages):
    return tuple(Message(one["role"], one["content"]) for one in messages)


def told(loaded):
    ledger = Ledger(loaded.name)
    account(loaded, ledger)
    return ledger


# ----------------------------------------------------------------------------------------------------- context, history


@pytest.mark.parametrize("before", [[SYSTEM], [HI, A], [SYSTEM, HI, A]], ids=["system", "turns", "both"])
def test_what_stands_before_the_repeated_prompt_belongs_to_it(jsonl, before):
    row = {"prompt": "b", "chosen": [*before, B, YES], "rejected": [*before, B, NO]}
    assert read_records(jsonl([row])).records == (Preference(turns(*before, B), turns(YES), turns(NO)),)
    half = {**row, "rejected": "no"}
    assert read_records(jsonl([half])).records[0].prompt == turns(*before, B)
    alone = {"prompt": "b", "completion": [*before, B, YES]}
    assert read_records(jsonl([alone])).records == (Demonstration(turns(*before, B), turns(YES)),)


def test_answers_behind_different_turns_are_no_pair(jsonl):
    row = {"prompt": "b", "chosen": [HI, A, B, YES], "rejected": [SYSTEM, B, NO]}
    (entry,) = told(read_records(jsonl([row]))).dropped
    assert str(entry) == "rows.jsonl:1: the answers in 'chosen' and 'rejected' have different turns before the prompt"


@pytest.mark.parametrize("history", [[["hi", "a"]], [HI, A], json.dumps([HI, A])], ids=["pairs", "messages", "text"])
@pytest.mark.parametrize("answers", [{"output": "yes"}, {"chosen": "yes", "rejected": "no"}], ids=["sft", "pair"])
def test_history_stands_before_the_prompt(jsonl, history, answers):
    row = {"instruction": "b", "input": "", "system": "be kind", "history": history, **answers}
    loaded = read_records(jsonl([row]))
    assert loaded.records[0].prompt == turns(SYSTEM, HI, A, B)
    assert "'history' read as well" in loaded.description
    assert read_records(jsonl([{**row, "history": []}])).records[0].prompt == turns(SYSTEM, B)


def test_a_history_that_is_none_is_refused(jsonl):
    with pytest.raises(DataError, match=r"column 'history' needs messages, or a list of \[question, answer\]"):
        list(read_records(jsonl([{"instruction": "b", "output": "yes", "history": ["hi"]}])))


@pytest.mark.parametrize("turns_of", [[HI, A], ["first question", "first answer"], str([HI, A])], ids=type)
def test_other_columns_that_look_like_turns_are_told(jsonl, turns_of):
    loaded = read_records(jsonl([{"prompt": "b", "completion": "yes", "earlier": turns_of, "tags": ["x", "y"]}]))
    assert loaded.description.endswith("look like turns of a conversation, and are not read: 'earlier'")


# ------------------------------------------------------------------------------------------------------- every layout

CONTENTS = ["erste Frage", "erste Antwort", "zweite Frage", "gute Antwort", "andere Antwort"]
Q1, A1, Q2, GOOD, BAD = (
    {"role": "assistant" if "Antwort" in content else "user", "content": content} for content in CONTENTS
)
BEFORE = [Q1, A1, Q2]
EVERY = {
    "prompt/chosen/rejected": {"prompt": BEFORE, "chosen": [GOOD], "rejected": [BAD]},
    "messages/chosen/rejected": {"messages": BEFORE, "chosen": GOOD, "rejected": BAD},
    "conversations/chosen/rejected": {"conversations": BEFORE, "chosen": GOOD, "rejected": BAD},
    "chosen/rejected": {"chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]},
    "prompt/response_0/response_1/better_response_id": {
        "prompt": BEFORE, "response_0": [GOOD], "response_1": [BAD], "better_response_id": 0,
    },
    "prompt/response_0/response_1/is_response_0_safe/is_response_1_safe": {
        "prompt": BEFORE, "response_0": [GOOD], "response_1": [BAD], "is_response_0_safe": 1, "is_response_1_safe": 0,
    },
    "prompt/responses/unsafe": {"prompt": BEFORE, "responses": [[GOOD], [BAD]], "unsafe": [0, 1]},
    "prompt/completion/unsafe": {"prompt": BEFORE, "completion": [GOOD], "unsafe": 0.5},
    "prompt/completion/is_safe": {"prompt": BEFORE, "completion": [GOOD], "is_safe": True},
    "prompt/completion/acceptable?": {"prompt": BEFORE, "completion": [GOOD], "acceptable?": 1},
    "prompt/completion/type/annotation_1/annotation_2": {
        "prompt": BEFORE, "completion": [GOOD], "type": "contrast_discr", "annotation_1": "1_full_compliance",
        "annotation_2": "2_full_refusal",
    },
    "context/response1/response2/overall_preference": {
        "context": BEFORE, "response1": GOOD["content"], "response2": [BAD], "overall_preference": -1,
    },
    "history/human_ref_A/human_ref_B/labels": {
        "history": BEFORE, "human_ref_A": GOOD["content"], "human_ref_B": [BAD], "labels": 1,
    },
    "prompt/responses/ranks": {"prompt": BEFORE, "responses": [[GOOD], [BAD]], "ranks": [1, 2]},
    "prompt/ranking": {"prompt": BEFORE, "completion_0": [GOOD], "completion_1": [BAD], "ranking": [0, 1]},
    "prompt/answers": {
        "prompt": BEFORE, "answers": [{"answer": GOOD["content"], "rank": 1}, {"answer": BAD["content"], "rank": 2}],
    },
    "prompt/responses/scores": {"prompt": BEFORE, "responses": [[GOOD], [BAD]], "scores": [2, 1]},
    "prompt/responses/ratings": {"prompt": BEFORE, "responses": [[GOOD], [BAD]], "ratings": [2, 1]},
    "prompt/completion/label": {"prompt": BEFORE, "completion": [GOOD], "label": 1},
    "prompt/completion": {"prompt": BEFORE, "completion": [GOOD]},
    "messages": {"messages": [*BEFORE, GOOD]},
    "conversations": {"conversations": [*BEFORE, GOOD]},
    "prompt/responses": {"prompt": BEFORE, "responses": [GOOD["content"], BAD["content"]]},
    "prompt/answer": {"prompt": BEFORE, "answer": GOOD["content"]},
    "prompt/ground_truth": {"prompt": BEFORE, "ground_truth": GOOD["content"]},
    "prompt/solution": {"prompt": BEFORE, "solution": GOOD["content"]},
    "prompt/tests": {"prompt": BEFORE, "tests": ["assert True"]},
    "prompt": {"prompt": BEFORE},
}  # fmt: skip


def test_every_layout_that_holds_turns_is_here():
    without = {"text", "text/tests", "message_id/parent_id/text/role/message_tree_id"}
    assert {layout.name for layout in LAYOUTS} - without == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_every_message_of_a_row_stands_in_its_record(jsonl, name):
    row = EVERY[name]
    loaded = read_records(jsonl([row]))
    assert loaded.fit.layout.name == name
    wanted = [content for content in CONTENTS if content in json.dumps(row, ensure_ascii=False)]
    found = repr(loaded.records[0])
    assert [content for content in wanted if content in found] == wanted


@pytest.mark.parametrize("spelling", [json.dumps, str], ids=["JSON", "Python"])
@pytest.mark.parametrize("name", EVERY)
def test_messages_that_a_cell_spells_out_are_messages(jsonl, name, spelling):
    row = EVERY[name]
    texts = {key: spelling(value) if _is_turns(value) else value for key, value in row.items()}
    assert repr(read_records(jsonl([texts])).records[0]) == repr(read_records(jsonl([row])).records[0])


def _is_turns(value):
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def test_a_spelling_that_cannot_be_read_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,chosen,rejected\nhi,\"[{'role': 'user', 'content': 'hi'}\n {'role': 'assistant'}]\",no\n")
    with pytest.raises(
        DataError, match=r"rows\.csv:3: a cell holds messages in the spelling of Python; write the table"
    ):
        list(read_records(path))


def test_text_about_messages_stays_text(jsonl):
    text = "[{'role': is a key of messages"
    with pytest.raises(DataError, match="spelling of Python"):
        list(read_records(jsonl([{"prompt": text, "completion": "yes"}])))
    about = "Write {'role': 'user'} as JSON"
    assert read_records(jsonl([{"prompt": about, "completion": "yes"}])).records[0].prompt == (Message("user", about),)


# --------------------------------------------------------------------------------------------------- keys of a message


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"trainable": 0}, {"loss": "false"}]
)
@pytest.mark.parametrize("column", ["messages", "chosen"])
def test_turns_that_are_not_to_be_learned_are_not_scored(jsonl, chatml, mark, column):
    whole = [HI, {**A, **mark}, B, YES]
    row = {"messages": whole} if column == "messages" else {"chosen": whole, "rejected": [HI, {**A, **mark}, B, NO]}
    (sample,) = encode_any(read_records(jsonl([row])), chatml, 200, Ledger("x"))
    one = sample.completions[0]
    learned = chatml.decode(one.ids[one.scored].tolist())
    assert "yes" in learned
    assert "a" not in learned.replace("<|im_end|>", "")


def test_marks_that_mean_yes_change_nothing(jsonl):
    marked = {"messages": [HI, {**A, "weight": 1, "train": True, "loss": None}]}
    assert read_records(jsonl([marked])).records == read_records(jsonl([{"messages": [HI, A]}])).records


UNREAD = {
    "tool_calls": [{"id": 1}],
    "function_call": {"name": "f"},
    "reasoning_content": "well",
    "thinking": "hm",
    "images": ["x.png"],
    "weight": 0.5,
    "loss": "maybe",
}


@pytest.mark.parametrize("key", UNREAD)
def test_a_key_that_changes_the_meaning_is_obeyed_or_the_row_is_refused_by_name(jsonl, key):
    rows = [{"messages": [HI, {**A, key: UNREAD[key]}]}, {"messages": [B, {**YES, key: None}]}]
    ledger = told(read_records(jsonl(rows)))
    (entry,) = ledger.dropped
    assert ledger.kept == 1
    assert entry.sentence.startswith("message 2 of 'messages' ")
    assert repr(key) in entry.sentence


def test_other_keys_are_told_once(jsonl):
    rows = [{"messages": [{**HI, "name": "Bora", "id": 3}, {**A, "name": None}]}] * 3
    assert read_records(jsonl(rows)).description.endswith("; left out of messages: 'id', 'name'")


# ---------------------------------------------------------------------------------------------------- roles and parts


def test_a_role_that_nobody_knows_costs_its_row_and_not_the_file(jsonl):
    rows = [{"messages": [HI, {"role": "tool", "content": "4"}, A]}, {"messages": [B, YES]}]
    ledger = told(read_records(jsonl(rows)))
    assert (ledger.kept, [entry.reason for entry in ledger.dropped]) == (1, ["unknown role"])
    assert "message 2 of 'messages' has the role 'tool'; known roles are user" in ledger.dropped[0].sentence


def test_parts_that_are_text_are_joined_and_others_are_told(jsonl):
    parts = {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}
    image = {"role": "user", "content": [{"type": "image", "url": "x"}]}
    loaded = read_records(jsonl([{"messages": [parts, A]}, {"messages": [image, A]}]))
    assert loaded.records == (Demonstration(turns(HI), turns(A)),)
    assert [entry.sentence for entry in told(loaded).dropped] == [
        "message 1 of 'messages' holds a part of the type 'image', and Baro reads text"
    ]


@pytest.mark.parametrize(
    ("system", "prompt"),
    [("keep", (SYSTEM, HI)), ("merge", ({"role": "user", "content": "be kind\n\nhi"},)), ("drop", (HI,))],
)
def test_system_messages_go_where_they_are_wanted(jsonl, system, prompt):
    for row in ({"messages": [SYSTEM, HI, A]}, {"system": "be kind", "prompt": "hi", "completion": "a"}):
        loaded = read_records(jsonl([row]), None, Reading(system=system))
        assert loaded.records[0].prompt == turns(*prompt)
        assert ("system messages" in loaded.description) is (system != "keep")
