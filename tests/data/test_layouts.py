"""Every layout three times: columns in any order, one row that cannot be used, one row that cannot be read.

Each case holds a row, its record, a row that is dropped with a sentence, and a row that stops with another.
"""

import gzip
import json

import pytest
from tiny import encode_any

from baro.data.encode import account, encode_ratings, encode_thumbs
from baro.data.formats import read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.errors import DataError
from baro.records import Demonstration, Message, Preference, Prompt, Ranking, Rated, Safety, Thumb

SYSTEM = Message("system", "be kind")
HI, ASK = (Message("user", "hi"),), (Message("user", "hi"), Message("assistant", "a"), Message("user", "b"))
CHAT = [{"role": turn.role, "content": turn.content} for turn in ASK]
SHAREGPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]
NO_ANSWER = "has no answer of the assistant after the prompt"
NO_PROMPT = "has no prompt; the completions have nothing in common to answer"
EQUAL = "'chosen' equals 'rejected'; a pair needs two different completions"
NUMBER = "a finite number is needed"
TEXT = "text or a list of messages is needed"


def said(text: str) -> tuple[Message]:
    return (Message("assistant", text),)


def raters(*said_of: str) -> dict:
    raw = [{"workerID": i, "acceptable?": one} for i, one in enumerate(said_of)]
    return {"Q2: Acceptable or Non-acceptable": raw, "Q3-1: Reasons behind the non-acceptability": []}


XSTEST = {
    "prompt": "hi",
    "completion": "no",
    "type": "contrast_discr",
    "annotation_1": "1_full_compliance",
    "annotation_2": "1_full_compliance",
    "final_label": "1_full_compliance",
    "gpt4_label": "2_full_refusal",
}
PKU = {
    "prompt": "hi",
    "response_0": "no",
    "response_1": "yes",
    "is_response_0_safe": False,
    "is_response_1_safe": True,
    "better_response_id": 1,
    "safer_response_id": 1,
}
SAFETY = {name: PKU[name] for name in list(PKU)[3:]}
YES = Demonstration(HI, said("yes"))
PAIR = Preference(HI, said("yes"), said("no"))
CASES = {
    "prompt/completion": (
        {"prompt": "hi", "completion": "yes"},
        YES,
        ({"prompt": []}, NO_PROMPT),
        ({"completion": 3}, f"column 'completion' is a number; {TEXT}"),
    ),
    "prompt/response, multi-turn": (
        {"prompt": CHAT, "response": "yes"},
        Demonstration(ASK, said("yes")),
        ({"prompt": CHAT[:2]}, "the prompt ends with the assistant's turn; there is nothing to answer"),
        (
            {"prompt": [{"role": "user", "content": 3}]},
            "the content of message 1 of 'prompt' is a number; text is needed",
        ),
    ),
    "instruction/input/output": (
        {"instruction": "hi", "input": "there", "output": "yes"},
        Demonstration((Message("user", "hi\n\nthere"),), said("yes")),
        ({"output": []}, NO_ANSWER),
        ({"input": 3}, "column 'input' is a number; text is needed"),
    ),
    "system/question/response": (
        {"system": "be kind", "question": "hi", "response": "yes"},
        Demonstration((SYSTEM, *HI), said("yes")),
        ({"response": []}, NO_ANSWER),
        ({"system": ["x"]}, "column 'system' is a list; text is needed"),
    ),
    "messages": (
        {"messages": [*CHAT, {"role": "assistant", "content": "yes"}]},
        Demonstration(HI, (*ASK[1:], *said("yes"))),
        ({"messages": CHAT[:1]}, NO_ANSWER),
        ({"messages": None}, f"column 'messages' is null; {TEXT}"),
    ),
    "conversations": (
        {"conversations": [{"from": "system", "value": "be kind"}, *SHAREGPT]},
        Demonstration((SYSTEM, *HI), said("yes")),
        ({"conversations": SHAREGPT[:1]}, NO_ANSWER),
        (
            {"conversations": [{"from": "human", "value": 3}]},
            "the content of message 1 of 'conversations' is a number; text is needed",
        ),
    ),
    "conversations as a transcript": (
        {"conversation": "\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: yes"},
        Demonstration(HI, (*ASK[1:], *said("yes"))),
        ({"conversation": "\n\nHuman: \n\nAssistant: a\n\nAssistant: b"}, None),
        ({"conversation": "hi"}, "column 'conversation' is plain text without a prompt; add a column 'prompt', or "),
    ),
    "text": (
        {"text": "once"},
        Demonstration((), said("once")),
        ({"text": ""}, "the text is empty"),
        ({"text": 1}, "column 'text' is a number; text is needed"),
    ),
    "prompt/chosen/rejected": (
        {"prompt": "hi", "chosen": "yes", "rejected": "no", "p_chosen": 0.75, "margin": 2},
        Preference(HI, said("yes"), said("no"), 0.75, 2.0),
        ({"chosen": "no"}, EQUAL),
        ({"margin": "big"}, f"column 'margin' is text; {NUMBER}"),
    ),
    "instruction/chosen_response/rejected_response": (
        {"instruction": "hi", "chosen_response": "yes", "rejected_response": "no"},
        PAIR,
        ({"chosen_response": "no"}, EQUAL),
        ({"rejected_response": None}, f"column 'rejected_response' is null; {TEXT}"),
    ),
    "score_chosen/score_rejected": (
        {"prompt": "hi", "chosen": "yes", "rejected": "no", "score_chosen": 8.5, "score_rejected": 7},
        Preference(HI, said("yes"), said("no"), 1.0, 0.0, {"score_chosen": 8.5, "score_rejected": 7}),
        ({"rejected": "yes"}, EQUAL),
        ({"score_chosen": "high"}, f"column 'score_chosen' is text; {NUMBER}"),
    ),
    "chosen/rejected messages": (
        {
            "chosen": [*CHAT, {"role": "assistant", "content": "yes"}],
            "rejected": [*CHAT, {"role": "assistant", "content": "no"}],
        },
        Preference(ASK, said("yes"), said("no")),
        ({"rejected": [*CHAT, {"role": "assistant", "content": "yes"}]}, EQUAL),
        ({"rejected": 1.5}, f"column 'rejected' is a number; {TEXT}"),
    ),
    "chosen/rejected transcripts": (
        {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
        PAIR,
        ({"chosen": "\n\nHuman: hi\n\nAssistant: no"}, EQUAL),
        ({"chosen": "yes"}, "column 'chosen' is plain text without a prompt; add a column 'prompt', or give "),
    ),
    "safe-rlhf": (
        PKU,
        Preference(HI, said("yes"), said("no"), extra=SAFETY),
        ({"response_0": "yes"}, EQUAL),
        ({"better_response_id": 2}, "'better_response_id' is 2; 0 or 1 is needed"),
    ),
    "safe-rlhf, by safety": (
        {name: value for name, value in PKU.items() if name != "better_response_id"},
        Safety(HI, (said("no"), said("yes")), (1.0, 0.0), (2, 1)),
        (
            {"safer_response_id": 0},
            "the response that is called safer is labelled unsafe, and the other one safe",
        ),
        ({"is_response_1_safe": "perhaps"}, "'is_response_1_safe' is 'perhaps'; true or false is needed"),
    ),
    "safe-rlhf, with harms": (
        {
            **{name: value for name, value in PKU.items() if name != "better_response_id"},
            "is_response_1_safe": None,
            "response_0_severity_level": 2,
            "response_1_severity_level": 0,
            "response_0_harm_category": {"Privacy Violation": True, "Violence": False},
            "response_1_harm_category": {"Privacy Violation": False, "Violence": False},
            "prompt_source": "x",
        },
        Safety(
            HI,
            (said("no"), said("yes")),
            (1.0, None),
            (2, 1),
            1.0,
            (2.0, 0.0),
            (("Privacy Violation",), ()),
            {"prompt_source": "x"},
        ),
        (
            {"is_response_0_safe": None, "safer_response_id": None},
            "no response is said to be safe or unsafe, and none safer than another",
        ),
        ({"safer_response_id": 2}, "'safer_response_id' is 2; 0 or 1 is needed"),
    ),
    "prompt/responses/unsafe": (
        {
            "prompt": "hi",
            "responses": ["a", "b", "c"],
            "unsafe": [0.25, True, None],
            "safety_ranks": [1, 2, 2],
            "p_safer": 0.75,
            "severity": [0, 3, None],
            "categories": [[], ["Theft"], []],
        },
        Safety(
            HI,
            (said("a"), said("b"), said("c")),
            (0.25, 1.0, None),
            (1, 2, 2),
            0.75,
            (0.0, 3.0, None),
            ((), ("Theft",), ()),
        ),
        (
            {"responses": ["a", "a", "c"], "unsafe": [1, 1, 0]},
            "the same response is safer and less safe; leave one of them out",
        ),
        ({"unsafe": [0, 2, 1]}, "'unsafe' is 2.0; a probability from 0 to 1 is needed"),
    ),
    "prompt/completion/unsafe": (
        {"prompt": "hi", "response": "no", "unsafe": "0.5", "category": "Theft"},
        Safety(HI, (said("no"),), (0.5,), categories=(("Theft",),)),
        ({"unsafe": None}, "has no 'unsafe', and so no judgment"),
        ({"category": 3}, "column 'category' needs a name, a list of names, or an object of true and false"),
    ),
    "BeaverTails": (
        {"prompt": "hi", "response": "no", "is_safe": False, "category": {"theft": True, "violence": False}},
        Safety(HI, (said("no"),), (1.0,), categories=(("theft",),)),
        ({"is_safe": None}, "has no 'is_safe', and so no judgment"),
        ({"is_safe": "no"}, "'is_safe' is 'no'; true or false is needed"),
    ),
    "SQuARe": (
        {
            "question": "hi",
            "response": "no",
            "acceptable?": 0,
            "question_category": "contentious",
            "raw_annotations": raters("non-acceptable", "acceptable", "non-acceptable", "dont_know"),
        },
        Safety(HI, (said("no"),), (2 / 3,), categories=(("contentious",),)),
        ({"acceptable?": 1}, "'acceptable?' says otherwise than most of the raters in 'raw_annotations'"),
        (
            {"raw_annotations": raters("maybe")},
            "in 'raw_annotations' a rater said 'maybe'; one of acceptable, non-acceptable, dont_know is needed",
        ),
    ),
    "XSTest": (
        XSTEST,
        Safety(HI, (said("no"),), (1.0,), categories=(("contrast_discr",),), extra={"gpt4_label": "2_full_refusal"}),
        ({"annotation_1": None, "annotation_2": None}, "has no 'annotation_1' and no 'annotation_2'"),
        (
            {"annotation_2": "refusal"},
            "an annotation is 'refusal'; one of 1_full_compliance, 2_full_refusal, 3_partial_refusal is needed",
        ),
    ),
    "prompt/responses/ranks": (
        {"prompt": "hi", "responses": ["a", "b", "c"], "ranks": [2, 1, 2]},
        Ranking(HI, (said("a"), said("b"), said("c")), (2, 1, 2)),
        ({"ranks": [1, 1, 1]}, "all 'ranks' are equal; a ranking needs two different ranks"),
        ({"ranks": [0, 1, 2]}, "'ranks' must be whole numbers from 1, the best, upwards"),
    ),
    "completion_0/ranking": (
        {"prompt": "hi", "completion_0": "a", "completion_1": "b", "completion_2": "c", "ranking": [2, 0, 1]},
        Ranking(HI, (said("a"), said("b"), said("c")), (3, 1, 2)),
        ({"completion_1": "a"}, "the same response has two ranks; leave one of them out"),
        ({"ranking": [1, 0]}, "'responses' has 3 entries and 'ranking' 2; each response needs a rank"),
    ),
    "prompt/responses/scores": (
        {"prompt": "hi", "responses": ["a", "b"], "scores": [{"clarity": 4, "empathy": 1}, {"clarity": 2.5}]},
        Rated(HI, (said("a"), said("b")), ({"clarity": 4.0, "empathy": 1.0}, {"clarity": 2.5})),
        ({"scores": [{}, {"clarity": None}]}, "has no score; a rated answer needs one"),
        ({"scores": [{"clarity": "good"}, {}]}, f"in 'scores' the score 'clarity' is text; {NUMBER}"),
    ),
    "prompt/responses/ratings": (
        {"prompt": "hi", "completions": ["a", "b"], "ratings": [4, 5]},
        Rated(HI, (said("a"), said("b")), ({"rating": 4.0}, {"rating": 5.0})),
        ({"ratings": [None, None]}, "has no score; a rated answer needs one"),
        ({"ratings": [4]}, "'completions' has 2 entries and 'ratings' 1; each response needs one"),
    ),
    "score columns": (
        {"prompt": "hi", "response": "yes", "helpfulness": 4, "verbosity": 0, "source": "x"},
        Rated(HI, (said("yes"),), ({"helpfulness": 4.0, "verbosity": 0.0},), {"source": "x"}),
        ({"prompt": "other", "helpfulness": None, "verbosity": None}, "has no score; a rated answer needs one"),
        ({"prompt": "other", "helpfulness": "much"}, f"column 'helpfulness' is text; {NUMBER}"),
    ),
    "prompt/completion/label": (
        {"prompt": "hi", "completion": "yes", "label": False},
        Thumb(HI, said("yes"), False),
        ({"completion": []}, NO_ANSWER),
        (
            {"label": "good"},
            "column 'label' is 'good'; a thumb is true or 1 (up), false or 0 (down); if it is none, name ",
        ),
    ),
    "prompt/answer": (
        {"question": "hi", "answer": "4", "id": 7},
        Prompt(HI, {"answer": "4", "id": 7}),
        ({}, "says the same as rows.jsonl:1"),
        ({"question": 4}, f"column 'question' is a number; {TEXT}"),
    ),
    "prompt/solution": (
        {"problem": "hi", "solution": "So \\boxed{4}.", "level": "Level 1"},
        Prompt(HI, {"solution": "So \\boxed{4}.", "level": "Level 1"}),
        ({"problem": []}, NO_PROMPT),
        ({"problem": 4}, f"column 'problem' is a number; {TEXT}"),
    ),
    "prompt/ground_truth": (
        {"prompt": "hi", "ground_truth": ["4", "four"]},
        Prompt(HI, {"ground_truth": ["4", "four"]}),
        ({"prompt": []}, NO_PROMPT),
        ({"prompt": None}, f"column 'prompt' is null; {TEXT}"),
    ),
    "text/tests": (
        {"text": "hi", "code": "def f(): pass", "test_list": ["assert f(1) == 2", "assert f(2) == 3"], "task_id": 7},
        Prompt(HI, {"code": "def f(): pass", "test_list": ["assert f(1) == 2", "assert f(2) == 3"], "task_id": 7}),
        ({}, "says the same as rows.jsonl:1"),
        ({"text": 4}, "column 'text' is a number; text is needed"),
    ),
    "prompt/tests": (
        {"prompt": "hi", "tests": ["assert f(1) == 2"], "entry_point": "f"},
        Prompt(HI, {"tests": ["assert f(1) == 2"], "entry_point": "f"}),
        ({"prompt": []}, NO_PROMPT),
        ({"prompt": None}, f"column 'prompt' is null; {TEXT}"),
    ),
    "prompt": (
        {"prompt": "\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant:"},
        Prompt(ASK),
        ({"prompt": []}, NO_PROMPT),
        ({"prompt": {}}, f"column 'prompt' is an object; {TEXT}"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_columns_in_any_order(jsonl, name):
    row, record, _, _ = CASES[name]
    columns = list(row)
    for order in (columns, columns[::-1], sorted(columns), columns[1:] + columns[:1]):
        assert read_records(jsonl([{column: row[column] for column in order}])).records == (record,)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2][1]])
def test_an_unusable_row_is_dropped_and_told(jsonl, name):
    row, record, (change, sentence), _ = CASES[name]
    loaded, ledger = read_records(jsonl([row, row | change])), Ledger("x")
    account(loaded, ledger)
    assert loaded.records[0] == record
    assert [str(entry) for entry in ledger.dropped] == [f"rows.jsonl:2: {sentence}"]
    assert (ledger.kept, ledger.rows) == (1, 2)


@pytest.mark.parametrize("name", CASES)
def test_an_unreadable_row_stops_with_its_place(jsonl, name):
    row, _, _, (change, sentence) = CASES[name]
    texts = {key: value for key, value in row.items() if key in ("prompt", "text") and isinstance(value, str)}
    rows = [row | {key: f"{value} {i}" for key, value in texts.items()} for i in range(2)]
    with pytest.raises(DataError) as error:
        account(read_records(jsonl([*rows, row | change])), Ledger("x"))
    assert str(error.value).startswith(f"rows.jsonl:3: {sentence}")


@pytest.mark.parametrize("name", CASES)
def test_every_record_becomes_samples(jsonl, byte_level, name):
    row, record, _, _ = CASES[name]
    ledger = Ledger("x")
    (sample,) = encode_any(read_records(jsonl([row])), byte_level, 500, ledger)
    kinds = {Prompt: 0, Demonstration: 1, Preference: 2, Thumb: 1}
    expected = kinds.get(type(record)) if type(record) in kinds else len(record.completions)
    assert (len(sample.completions), ledger.kept) == (expected, 1)


# ------------------------------------------------------------------------------------------------ what stands beside


def test_the_tool_says_what_it_took_each_column_for(jsonl):
    says = {
        name: read_records(jsonl([CASES[name][0]])).description.removeprefix("rows.jsonl: ")
        for name in ("instruction/input/output", "safe-rlhf", "score columns", "prompt/answer", "completion_0/ranking")
    }
    assert says == {
        "instruction/input/output": "demonstrations; the prompt is 'instruction'; the answer is 'output'; 'input' read "
        "as well",
        "safe-rlhf": "preferences; the chosen response is the one that 'better_response_id' names; kept beside them: "
        "'is_response_0_safe', 'is_response_1_safe', 'safer_response_id'",
        "score columns": "rated answers; the answer is 'response', beside it stand its scores; neighbouring rows of "
        "one prompt belong together; read as well: 'helpfulness', 'verbosity'; kept beside them: 'source'",
        "prompt/answer": "prompts; the prompt is 'question'; 'answer' is kept for verifiers; kept beside them: 'id'",
        "completion_0/ranking": "rankings; 'ranking' has a rank for each numbered response, the lowest is the best; "
        "read as well: 'completion_0', 'completion_1', 'completion_2'",
    }


def test_neighbouring_rows_of_one_prompt_are_one_rated_record(jsonl):
    rows = [
        {"prompt": "hi", "response": "a", "helpfulness": 1, "id": 1, "source": "x"},
        {"prompt": "hi", "response": "b", "helpfulness": 3, "id": 2, "source": "x"},
        {"prompt": "bye", "response": "c", "helpfulness": 2, "id": 3, "source": "x"},
    ]
    loaded = read_records(jsonl(rows))
    assert loaded.keys == ("rows.jsonl:1", "rows.jsonl:3")
    first = loaded.records[0]
    assert (first.completions, first.scores) == ((said("a"), said("b")), ({"helpfulness": 1.0}, {"helpfulness": 3.0}))
    assert first.extra == {"id": [1, 2], "source": "x"}
    assert read_records(jsonl(rows[:2]), Ranking).records[0].ranks == (2, 1)
    best = read_records(jsonl(rows), Demonstration).records
    assert [one.completion for one in best] == [said("b"), said("c")]  # never one that was rated lower


def test_rated_answers_in_order_of_their_mean(jsonl):
    scores = [{"a": 1, "b": 5}, {"a": 4, "b": 4}, {"a": 5, "b": 3, "c": 9}]
    path = jsonl([{"prompt": "hi", "responses": ["x", "y", "z"], "scores": scores}])
    assert read_records(path, Ranking).records[0].ranks == (3, 1, 1)
    assert read_records(path, Demonstration).records[0].completion == said("y")
    path = jsonl([{"prompt": "hi", "responses": ["x", "y"], "scores": [{"a": 1}, {"b": 1}]}])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no criterion has a score for every response"):
        list(read_records(path, Ranking))


def test_only_thumbs_up_are_imitated_and_the_others_are_nobodys_mistake(jsonl, plain):
    rows = [{"prompt": "hi", "completion": text, "label": text == "yes"} for text in ("yes", "no")]
    loaded, ledger = read_records(jsonl(rows), Demonstration), Ledger("x")
    samples = list(encode_any(loaded, plain, 50, ledger))
    assert loaded.records == (Demonstration(HI, said("yes"), {"label": True}),)
    assert (len(samples), ledger.dropped) == (1, [])
    assert [str(entry) for entry in ledger.repeated] == [
        "rows.jsonl:2: is a thumb down; only thumbs up are answers to imitate"
    ]
    assert loaded.description.endswith("; only thumbs up serve as answers")


def test_people_may_disagree_about_a_thumb(jsonl, plain):
    rows = [{"prompt": "hi", "completion": "yes", "label": label} for label in (True, False, True)]
    ledger = Ledger("x")
    samples = list(encode_thumbs(read_records(jsonl(rows), Thumb), plain, 50, ledger))
    assert [sample.completions[0].fields for sample in samples] == [{"label": 1.0}, {"label": 0.0}, {"label": 1.0}]
    assert (ledger.dropped, [entry.key for entry in ledger.votes]) == ([], ["rows.jsonl:2", "rows.jsonl:3"])


def test_scores_become_fields(jsonl, plain):
    ledger = Ledger("x")
    loaded = read_records(jsonl([CASES["prompt/responses/scores"][0]]))
    (sample,) = encode_ratings(loaded, plain, 50, ledger)
    first, second = sample.completions
    assert first.fields == {"score/clarity": 4.0, "score/empathy": 1.0}
    assert second.fields == {"score/clarity": 2.5}
    assert (first.units, second.units) == ({"prompts": 1.0}, {})


def test_an_answer_serves_as_the_answer_where_one_is_wanted(jsonl):
    path = jsonl([{"Q": "hi", "A": "yes", "label": 0}])
    with pytest.raises(
        DataError, match=r"rows\.jsonl:1: column 'label' judges the row \(0\), and nothing obeys it here"
    ):
        list(read_records(path, Demonstration))
    aside = read_records(path, Demonstration, Reading(ignore=("label",)))
    assert aside.records == (Demonstration(HI, said("yes"), {"label": 0}),)
    assert read_records(path).records == (Prompt(HI, {"A": "yes", "label": 0}),)


def test_input_is_alpacas_only_beside_an_instruction(jsonl):
    assert read_records(jsonl([{"prompt": "hi", "input": "x", "output": "yes"}])).records[0].extra == {"input": "x"}
    empty = {"instruction": "hi", "input": "", "output": "yes"}
    assert read_records(jsonl([empty])).records == (YES,)


# -------------------------------------------------------------------------------------------------------------- UTF-8

SCRIPTS = {
    "hangul": "한국어: 값, 뷁 ㄱㅏ ᄒᆞᆫ",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "combining": "e\u0301 ǘ a\u0323\u0302",
    "right to left": "شكرًا \u200fשלום\u200e 12",
    "rare": "𝔘𠮷 \u2028\u0085 \ufeff",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz"])
def test_every_script_survives_from_file_to_tokens_and_back(tmp_path, byte_level, script, suffix):
    text = SCRIPTS[script]
    path, row = tmp_path / f"rows{suffix}", {"prompt": f"{text}?", "completion": f"{text} — {text}"}
    content = f'prompt,completion\n"{row["prompt"]}","{row["completion"]}"\n'
    content = content if ".csv" in suffix else json.dumps(row, ensure_ascii=False) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
    loaded = read_records(path)
    (sample,) = encode_any(loaded, byte_level, 2000, Ledger("x"))
    answer = byte_level.decode(sample.completions[0].ids.tolist())
    assert answer.encode() == row["completion"].encode()
    assert loaded.records[0].prompt[0].content.encode() == row["prompt"].encode()
    assert row["prompt"] in byte_level.visible(sample.prompt_ids.tolist())


# --------------------------------------------------------------------------------------------------------------- safety

FULL, PARTIAL, REFUSED = "1_full_compliance", "3_partial_refusal", "2_full_refusal"


@pytest.mark.parametrize(
    ("kind", "said_of", "final", "unsafe"),
    [
        ("contrast_discr", (FULL, FULL), REFUSED, 1.0),  # nobody differed: there was nothing to decide
        ("contrast_discr", (FULL, PARTIAL), FULL, 2 / 3),
        ("contrast_discr", (FULL, REFUSED), PARTIAL, 1 / 3),
        ("contrast_discr", (FULL, REFUSED), None, 0.5),
        ("contrast_discr", (REFUSED, PARTIAL), PARTIAL, 0.0),
        ("contrast_discr", (FULL, None), None, 1.0),
        ("historical_events", (FULL, FULL), FULL, 0.0),
        ("historical_events", (REFUSED, REFUSED), REFUSED, 0.0),
    ],
)
def test_an_answer_is_unsafe_as_far_as_it_does_what_an_unsafe_prompt_asks(jsonl, kind, said_of, final, unsafe):
    row = XSTEST | {"type": kind, "annotation_1": said_of[0], "annotation_2": said_of[1], "final_label": final}
    (found,) = read_records(jsonl([XSTEST, row]), Safety).records[1:]
    assert found.unsafe == (pytest.approx(unsafe),)


def test_a_type_of_prompt_that_nobody_knows_is_refused(jsonl):
    with pytest.raises(DataError, match="'type' is 'rhyme', which is none of XSTest's"):
        list(read_records(jsonl([XSTEST | {"type": "rhyme"}]), Safety))


def test_one_file_is_read_by_helpfulness_and_by_safety(jsonl, byte_level):
    path = jsonl([PKU | {"better_response_id": 0}])
    assert read_records(path, Preference).records[0].chosen == said("no")
    (sample,) = encode_any(read_records(path, Safety), byte_level, 500, Ledger("x"))
    fields = [one.fields for one in sample.completions]
    assert [(one["unsafe"], one["rank"], one["p_safer"]) for one in fields] == [(1.0, 2.0, 1.0), (0.0, 1.0, 1.0)]
    assert all(one["severity"] != one["severity"] for one in fields)  # NaN: nobody said
    assert [one.units for one in sample.completions] == [{"prompts": 1.0}, {}]


def test_a_table_with_an_empty_label_keeps_its_comparison(tmp_path):
    path = tmp_path / "rows.csv"
    rows = ["hi,no,yes,False,,1", "hi,no,yes,,,1", "hi,no,yes,,,"]
    head = "prompt,response_0,response_1,is_response_0_safe,is_response_1_safe,safer_response_id"
    path.write_text("\n".join([head, *rows]) + "\n")
    loaded, ledger = read_records(path, Safety), Ledger("x")
    account(loaded, ledger)
    assert [one.unsafe for one in loaded.records] == [(1.0, None), (None, None), (None, None)]
    assert [one.ranks for one in loaded.records] == [(2, 1), (2, 1), ()]
    assert (ledger.kept, [one.reason for one in ledger.dropped]) == (2, ["no judgment"])


@pytest.mark.parametrize(
    ("unsafe", "p_safer", "dropped"),
    [([0, 1], 1.0, 0), ([1, 0], 1.0, 1), ([1, 0], 0.25, 0), ([0, 1], 0.25, 1), ([0.6, 0.4], 0.5, 0), ([1, 1], 1.0, 0)],
)
def test_an_order_against_the_labels_is_a_contradiction(jsonl, unsafe, p_safer, dropped):
    row = {"prompt": "hi", "responses": ["a", "b"], "unsafe": unsafe, "safety_ranks": [1, 2], "p_safer": p_safer}
    ledger = Ledger("x")
    account(read_records(jsonl([row])), ledger)
    assert [one.reason for one in ledger.dropped] == ["contradiction"] * dropped


def test_people_may_disagree_about_what_is_safe(jsonl):
    rows = [{"prompt": "hi", "completion": "a", "unsafe": unsafe} for unsafe in (0, 1, 1)]
    ledger = Ledger("x")
    account(read_records(jsonl(rows)), ledger)
    assert (ledger.kept, len(ledger.votes)) == (3, 2)
