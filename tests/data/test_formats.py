"""Every layout: read with its columns in any order, refused with file, line and a way out, written and read again."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baro.data.formats import read_records, write_records
from baro.data.messages import parse_transcript
from baro.errors import DataError
from baro.records import Answers, Demonstration, Message, Preference, Prompt, Ranking, Rated, Thumb

HH = Path(__file__).parents[3] / "shared/data/hh_harmless_test.jsonl.gz"


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str) -> Message:
    return Message("assistant", text)


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


EXTRA = {"source": "x"}
HELLO = [{"role": "assistant", "content": "hello"}]
LAYOUTS = {
    "prompt/completion": (
        {"prompt": "hi", "completion": "hello", **EXTRA},
        Demonstration((user("hi"),), (answer("hello"),), EXTRA),
        "rows.jsonl: demonstrations; the answer is 'completion'; kept beside them: 'source'",
    ),
    "prompt/response": (
        {"prompt": "hi", "response": "hello"},
        Demonstration((user("hi"),), (answer("hello"),)),
        "rows.jsonl: demonstrations; the answer is 'response'",
    ),
    "prompt/completion as messages": (
        {"prompt": said("hi"), "completion": HELLO},
        Demonstration((user("hi"),), (answer("hello"),)),
        "rows.jsonl: demonstrations; the answer is 'completion'",
    ),
    "messages": (
        {"messages": [{"role": "system", "content": "s"}, *said("hi", "hello", "bye", "ok", "why")]},
        Demonstration((Message("system", "s"), user("hi")), (answer("hello"), user("bye"), answer("ok"))),
        "rows.jsonl: demonstrations; of 'messages', the prompt is what stands before the first answer, and "
        "the completion is the rest up to the last answer",
    ),
    "prompt/chosen/rejected": (
        {"prompt": "hi", "chosen": "hello", "rejected": "no", "p_chosen": 0.75, "margin": 2, **EXTRA},
        Preference((user("hi"),), (answer("hello"),), (answer("no"),), 0.75, 2.0, EXTRA),
        "rows.jsonl: preferences; prompt, 'chosen' and 'rejected' as named; 'p_chosen' read as well; 'margin' read "
        "as well; kept beside them: 'source'",
    ),
    "prompt/chosen/rejected, messages with the prompt in them": (
        {"prompt": "hi", "chosen": said("hi", "hello"), "rejected": said("hi", "no")},
        Preference((user("hi"),), (answer("hello"),), (answer("no"),)),
        "rows.jsonl: preferences; prompt, 'chosen' and 'rejected' as named",
    ),
    "prompt/chosen/rejected, messages without the prompt": (
        {"prompt": said("hi"), "chosen": HELLO, "rejected": [{"role": "assistant", "content": "no"}]},
        Preference((user("hi"),), (answer("hello"),), (answer("no"),)),
        "rows.jsonl: preferences; prompt, 'chosen' and 'rejected' as named",
    ),
    "prompt/chosen/rejected, transcripts": (
        {"prompt": "\n\nHuman: hi\n\nAssistant:", "chosen": " hello", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
        Preference((user("hi"),), (answer("hello"),), (answer("no"),)),
        "rows.jsonl: preferences; prompt, 'chosen' and 'rejected' as named",
    ),
    "chosen/rejected messages": (
        {"chosen": said("hi", "hello", "bye", "ok"), "rejected": said("hi", "hello", "bye", "oh no")},
        Preference((user("hi"), answer("hello"), user("bye")), (answer("ok"),), (answer("oh no"),)),
        "rows.jsonl: preferences; 'chosen' and 'rejected' are whole conversations up to their last answers, the prompt "
        "is what both begin with",
    ),
    "chosen/rejected transcripts": (
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye \n\nAssistant: okay",
            "rejected": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye \n\nAssistant: okapi",
        },
        Preference((user("hi"), answer("hello"), user("bye ")), (answer("okay"),), (answer("okapi"),)),
        "rows.jsonl: preferences; 'chosen' and 'rejected' are whole conversations up to their last answers, the prompt "
        "is what both begin with",
    ),
    "rankings": (
        {"prompt": "hi", "responses": ["a", "b", HELLO], "ranks": [2, 1, 2], **EXTRA},
        Ranking((user("hi"),), ((answer("a"),), (answer("b"),), (answer("hello"),)), (2, 1, 2), EXTRA),
        "rows.jsonl: rankings; prompt, 'responses' and 'ranks' (1 is best) as named; kept beside them: 'source'",
    ),
    "answers": (
        {"prompt": "hi", "responses": ["a", ""], "finished": [True, False], **EXTRA},
        Answers((user("hi"),), ("a", ""), (True, False), EXTRA),
        "rows.jsonl: answers; 'responses' are answers without a judgment; 'finished' read as well; kept beside them: "
        "'source'",
    ),
    "text": (
        {"text": "once upon"},
        Demonstration((), (answer("once upon"),)),
        "rows.jsonl: demonstrations; 'text' is raw text",
    ),
    "prompt": (
        {"prompt": "hi", "id": "4"},
        Prompt((user("hi"),), {"id": "4"}),
        "rows.jsonl: prompts; 'prompt' is the prompt; kept beside them: 'id'",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_recognised_with_its_columns_in_any_order(jsonl, name):
    row, record, sentence = LAYOUTS[name]
    columns = list(row)
    for order in (columns, columns[::-1], sorted(columns), columns[1:] + columns[:1]):
        loaded = read_records(jsonl([{column: row[column] for column in order}]))
        assert loaded.records == (record,)
        assert loaded.keys == ("rows.jsonl:1",)
    loaded = read_records(jsonl([row]), type(record))
    assert loaded.description == sentence
    assert not loaded.converted


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_comes_back_as_it_was_written(tmp_path, jsonl, name):
    _, record, _ = LAYOUTS[name]
    write_records(tmp_path / "again.jsonl", [record, record])
    assert read_records(tmp_path / "again.jsonl", type(record)).records == (record, record)


# ------------------------------------------------------------------------------------------------------ transcripts


def test_a_transcript_keeps_everything_but_one_space():
    assert parse_transcript("\n\nHuman:  a\n\nb \n\nAssistant:c\n\nHuman: \n\nAssistant:") == (
        user(" a\n\nb "),
        answer("c"),
        user(""),
        answer(""),
    )


def test_the_common_prompt_ends_at_a_turn_and_before_an_answer(jsonl):
    rows = [
        {"chosen": said("hi", "a", "x", "b"), "rejected": said("hi", "a", "y", "b")},  # the user went on differently
        {"chosen": said("hi", "a"), "rejected": said("hi", "a", "x", "b")},  # one is the beginning of the other
        {"chosen": said("hi", "a", "x"), "rejected": said("hi", "b", "x")},  # nothing is scored after the last answer
        {"chosen": said("hi", "a"), "rejected": said("ho", "a")},  # nothing in common
        {"chosen": said("hi", "same"), "rejected": said("hi", "same")},
    ]
    records = read_records(jsonl(rows)).records
    assert records[0].prompt == (user("hi"),)
    assert records[0].chosen == (answer("a"), user("x"), answer("b"))
    assert (records[1].chosen, records[1].rejected) == ((answer("a"),), (answer("a"), user("x"), answer("b")))
    assert (records[2].chosen, records[2].rejected) == ((answer("a"),), (answer("b"),))
    assert records[3].prompt == ()
    assert records[4].chosen == records[4].rejected == (answer("same"),)


@pytest.mark.skipif(not HH.exists(), reason="the human pairs are not beside the repository")
def test_all_human_pairs_become_messages():
    loaded = read_records(HH, Preference)
    assert len(loaded.records) == 2312
    for record in loaded.records:
        assert record.prompt[0].role == "user"
        assert record.prompt[-1].role == "user"
        for completion in (record.chosen, record.rejected):
            assert completion[0].role == completion[-1].role == "assistant"
        assert not any("\n\nHuman:" in turn.content for turn in record.prompt + record.chosen + record.rejected)
    with gzip.open(HH, "rt") as lines:  # nothing was lost on the way
        first = json.loads(next(lines))["chosen"]
    names = {"user": "Human", "assistant": "Assistant"}
    turns = loaded.records[0].prompt + loaded.records[0].chosen
    assert "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in turns) == first


# ---------------------------------------------------------------------------------------------- one record for another


def test_a_record_serves_as_what_it_contains(jsonl):
    pair = {"prompt": "hi", "chosen": "hello", "rejected": "no", "p_chosen": 0.25, **EXTRA}
    path = jsonl([pair])
    as_demonstration = read_records(path, Demonstration)
    assert as_demonstration.records == (Demonstration((user("hi"),), (answer("hello"),), EXTRA),)
    assert as_demonstration.converted
    assert as_demonstration.description.endswith("; 'chosen' serves as the answer")
    assert read_records(path, Prompt).records == (Prompt((user("hi"),), EXTRA),)
    assert read_records(path, Prompt).description.endswith("; only the prompt is used")
    ranking = read_records(path, Ranking).records[0]
    assert ranking.ranks == (2, 1)
    assert read_records(path, (Preference, Ranking)).records[0].p_chosen == 0.25
    ranked = jsonl([{"prompt": "hi", "responses": ["a", "b"], "ranks": [2, 1]}], "ranked.jsonl")
    assert read_records(ranked, Demonstration).records[0].completion == (answer("b"),)
    assert read_records(ranked, Prompt).records == (Prompt((user("hi"),)),)
    assert isinstance(read_records(ranked, (Preference, Ranking)).records[0], Ranking)


@pytest.mark.parametrize(("p_chosen", "ranks"), [(1.0, (1, 2)), (0.5, (1, 1)), (0.1, (2, 1))])
def test_pairs_as_rankings(jsonl, p_chosen, ranks):
    path = jsonl([{"prompt": "hi", "chosen": "a", "rejected": "b", "p_chosen": p_chosen}])
    assert read_records(path, Ranking).records[0].ranks == ranks


def test_the_first_layout_that_holds_what_is_wanted_decides(jsonl):
    path = jsonl([{"prompt": "hi", "chosen": "a", "rejected": "b", "messages": said("hi", "m"), "text": "hi m"}])
    assert isinstance(read_records(path).records[0], Preference)
    assert read_records(path, Demonstration).records[0].completion == (answer("a"),)  # somebody chose it
    assert read_records(path, Prompt).records[0].prompt == (user("hi"),)


def test_answers_keep_their_responses_where_prompts_are_wanted(jsonl):
    path = jsonl([{"prompt": "hi", "responses": ["a", "b"]}])
    assert read_records(path).records == (Answers((user("hi"),), ("a", "b"), (True, True)),)
    assert read_records(path, Prompt).records == (Prompt((user("hi"),), {"responses": ["a", "b"]}),)


def test_records_stand_behind_their_keys(jsonl):
    loaded = read_records(jsonl([{"prompt": text} for text in "abc"]))
    assert [record.prompt[0].content for record in loaded.at(["rows.jsonl:3", "rows.jsonl:1"], Prompt)] == ["c", "a"]


# ------------------------------------------------------------------------------------------------------------ refusals


KNOWN = (
    "prompt/chosen/rejected, messages/chosen/rejected, conversations/chosen/rejected, chosen/rejected, "
    "prompt/response_0/response_1/better_response_id, "
    "prompt/response_0/response_1/is_response_0_safe/is_response_1_safe, prompt/responses/unsafe, "
    "prompt/completion/unsafe, prompt/responses/ranks, prompt/ranking, "
    "prompt/responses/scores, prompt/responses/ratings, prompt/completion/label, prompt/completion, "
    "messages, conversations, prompt/responses, prompt/answer, prompt/tests, text, prompt"
)
REFUSED = {
    "missing": (
        [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": "b", "rejectd": "c"}],
        "rows.jsonl:2: column 'rejected' is missing, which the first rows have; did you mean 'rejectd'?",
    ),
    "missing, nothing like it": (
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "xyz": "b"}],
        "rows.jsonl:2: column 'completion' is missing, which the first rows have; it has 'prompt', 'xyz'",
    ),
    "wrong type": (
        [{"prompt": "a", "completion": 3}],
        "rows.jsonl:1: column 'completion' is a number; text or a list of messages is needed",
    ),
    "null": ([{"text": "a"}, {"text": None}], "rows.jsonl:2: column 'text' is null; text is needed"),
    "null prompt": (
        [{"prompt": None, "completion": "b"}],
        "rows.jsonl:1: column 'prompt' is null; text or a list of messages is needed",
    ),
    "content": (
        [{"messages": [*said("hi"), {"role": "assistant", "content": 3}]}],
        "rows.jsonl:1: the content of message 2 of 'messages' is a number; text is needed",
    ),
    "no message": (
        [{"messages": ["hi"]}],
        "rows.jsonl:1: message 1 of 'messages' is no message; an object with 'role' and 'content', or 'from' "
        "and 'value', is needed",
    ),
    "plain text without prompt": (
        [{"chosen": "a", "rejected": "b"}],
        "rows.jsonl:1: column 'chosen' is plain text without a prompt; add a column 'prompt', or give messages or a "
        r"'\n\nHuman: ... \n\nAssistant: ...' transcript",
    ),
    "another prompt": (
        [{"prompt": "hi", "chosen": said("ho", "a"), "rejected": "b"}],
        "rows.jsonl:1: column 'chosen' begins with another prompt than 'prompt' holds; leave the prompt out of it",
    ),
    "p_chosen": (
        [{"prompt": "a", "chosen": "b", "rejected": "c", "p_chosen": 1.5}],
        "rows.jsonl:1: 'p_chosen' is 1.5; a probability from 0 to 1 is needed",
    ),
    "margin": (
        [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "big"}],
        "rows.jsonl:1: column 'margin' is text; a finite number is needed",
    ),
    "ranks": (
        [{"prompt": "a", "responses": ["b", "c"], "ranks": [1]}],
        "rows.jsonl:1: 'responses' has 2 entries and 'ranks' 1; each response needs a rank",
    ),
    "half ranks": (
        [{"prompt": "a", "responses": ["b", "c"], "ranks": [1, 1.5]}],
        "rows.jsonl:1: 'ranks' must be whole numbers from 1, the best, upwards",
    ),
    "responses": (
        [{"prompt": "a", "responses": "b", "ranks": [1]}],
        "rows.jsonl:1: column 'responses' is text; a list is needed",
    ),
    "answers": (
        [{"prompt": "a", "responses": ["b", None]}],
        "rows.jsonl:1: column 'responses' must be a list of texts; answers are what `baro generate` writes",
    ),
    "finished": (
        [{"prompt": "a", "responses": ["b"], "finished": [1]}],
        "rows.jsonl:1: column 'finished' must be a list of true and false",
    ),
    "too few finished": (
        [{"prompt": "a", "responses": ["b", "c"], "finished": [True]}],
        "rows.jsonl:1: 'responses' has 2 entries and 'finished' 1; each response needs one",
    ),
    "unknown": (
        [{"topic": "a", "reply": "b"}],
        f"rows.jsonl:1: no known layout has the columns 'topic', 'reply'; give one of {KNOWN}",
    ),
    "no column": (
        [{}],
        f"rows.jsonl:1: has no column; give one of {KNOWN}",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_cannot_be_read_stop(jsonl, name):
    rows, sentence = REFUSED[name]
    with pytest.raises(DataError) as error:
        list(read_records(jsonl(rows)))
    assert str(error.value) == sentence


def test_a_file_of_the_wrong_kind_is_refused_with_what_is_needed(jsonl):
    with pytest.raises(DataError) as error:
        read_records(jsonl([{"prompt": "a", "chosen": "b", "rejecteds": "c"}]), Preference)
    assert str(error.value) == (
        "rows.jsonl:1: columns 'prompt', 'chosen', 'rejecteds' are prompts, and preferences are needed: "
        "prompt/chosen/rejected, messages/chosen/rejected, conversations/chosen/rejected, chosen/rejected, "
        "prompt/response_0/response_1/better_response_id; "
        "is 'rejecteds' meant to be 'rejected'?"
    )
    with pytest.raises(DataError, match="are demonstrations, and preferences or rankings are needed"):
        read_records(jsonl([{"prompt": "a", "completion": "b"}]), (Preference, Ranking))
    with pytest.raises(DataError, match=r"rows\.jsonl:1: holds no prompt; fix or remove this row"):
        list(read_records(jsonl([{"text": "a"}]), Prompt))


# ------------------------------------------------------------------------------------------------------- round trips

TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "한국어 ㄱㅏ",
            "e\u0301",
            "شكرا \u202e",
            "👩‍👩‍👧",
            "\u2028\x00\x85",
            "\n\nHuman: a\n\nAssistant:",
            "Human: x\n\nAssistant: y",
        ]
    ),
)
PROMPT = st.lists(TEXT, min_size=1, max_size=3).map(
    lambda texts: tuple((user, answer)[(i + len(texts) + 1) % 2](text) for i, text in enumerate(texts))
)
COMPLETION = st.one_of(
    TEXT.map(lambda text: (answer(text),)),
    st.tuples(TEXT, TEXT, TEXT).map(lambda t: (answer(t[0]), user(t[1]), answer(t[2]))),
)
OTHERS = st.dictionaries(st.sampled_from(["id", "출처"]), st.one_of(st.none(), st.integers(), TEXT, st.lists(TEXT)))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCORES = st.dictionaries(st.sampled_from(["clarity", "한국어 점수"]), FLOATS)
RECORDS = {
    Prompt: st.builds(Prompt, PROMPT, OTHERS),
    Demonstration: st.builds(Demonstration, PROMPT, COMPLETION, OTHERS),
    Preference: st.builds(Preference, PROMPT, COMPLETION, COMPLETION, st.floats(0, 1), FLOATS, OTHERS),
    Answers: st.builds(Answers, PROMPT, st.tuples(TEXT, TEXT), st.tuples(st.booleans(), st.booleans()), OTHERS),
    Thumb: st.builds(Thumb, PROMPT, COMPLETION, st.booleans(), OTHERS),
    Rated: st.tuples(COMPLETION, COMPLETION).flatmap(
        lambda two: st.builds(Rated, PROMPT, st.just(two), st.tuples(SCORES, SCORES).filter(any), OTHERS)
    ),
    Ranking: st.lists(COMPLETION, min_size=2, max_size=3).flatmap(
        lambda many: st.builds(Ranking, PROMPT, st.just(tuple(many)), st.just(tuple(range(1, len(many) + 1))), OTHERS)
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
@given(choose=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_read_back(tmp_path_factory, kind, choose):
    records = tuple(choose.draw(st.lists(RECORDS[kind], min_size=1, max_size=3)))
    path = tmp_path_factory.mktemp("round") / "rows.jsonl.gz"
    write_records(path, records)
    assert read_records(path, kind).records == records


@given(st.lists(TEXT, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_raw_text_is_read_back(tmp_path_factory, texts):
    records = tuple(Demonstration((), (answer(text),)) for text in texts)
    path = tmp_path_factory.mktemp("round") / "rows.json"
    write_records(path, records)
    assert read_records(path, Demonstration).records == records
