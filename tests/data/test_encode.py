"""Records to samples: tokens, marks, fields, units; and what becomes of rows that cannot be used."""

import time

import pytest
from tiny import encode_any

from baro.data.encode import (
    account,
    encode_demonstrations,
    encode_preferences,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from baro.data.formats import read_records, write_records
from baro.data.ledger import Ledger
from baro.errors import DataError
from baro.records import Demonstration, Preference, Prompt, Ranking


@pytest.fixture
def encoded(jsonl, plain):
    """Read rows as the wanted kind and encode them; returns samples, their texts, and the ledger."""

    def run(encode, rows, want=None, max_length=100, template=plain):
        loaded = read_records(jsonl(rows), want)
        ledger = Ledger(loaded.name)
        samples = list(encode(loaded, template, max_length, ledger))
        texts = [
            (template.visible(s.prompt_ids.tolist()), *(template.visible(c.ids.tolist()) for c in s.completions))
            for s in samples
        ]
        return samples, texts, ledger

    return run


def sentences(ledger: Ledger) -> list[str]:
    return [str(entry) for entry in ledger.dropped]


PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "no"}


def test_demonstrations(encoded):
    samples, texts, ledger = encoded(encode_demonstrations, [{"prompt": "hi", "completion": "hello"}])
    assert texts == [("<s>User: hi\nAssistant:", " hello</s>")]
    (branch,) = samples[0].completions
    assert samples[0].key == "rows.jsonl:1"
    assert branch.scored.tolist() == [True, True, True]
    assert (branch.last, branch.fields, branch.units) == (2, {}, {})
    assert ledger.kept == 1


def test_preferences(encoded):
    samples, texts, _ = encoded(encode_preferences, [{**PAIR, "p_chosen": 0.75, "margin": 2.0}])
    assert texts == [("<s>User: hi\nAssistant:", " hello</s>", " no</s>")]
    chosen, rejected = samples[0].completions
    assert chosen.fields == {"chosen": 1.0, "rank": 1.0, "p_chosen": 0.75, "margin": 2.0}
    assert rejected.fields == {"chosen": 0.0, "rank": 2.0, "p_chosen": 0.75, "margin": 2.0}
    assert (chosen.units, rejected.units) == ({"pairs": 1.0, "prompts": 1.0, "chosen_tokens": 3.0}, {})


def test_rankings_and_pairs_as_rankings(encoded):
    rows = [{"prompt": "hi", "responses": ["ok", "no", "yes"], "ranks": [2, 3, 1]}]
    samples, texts, _ = encoded(encode_rankings, rows)
    assert texts == [("<s>User: hi\nAssistant:", " ok</s>", " no</s>", " yes</s>")]
    sure = {"p_chosen": 1.0, "margin": 0.0}
    assert [c.fields for c in samples[0].completions] == [{"rank": rank, **sure} for rank in (2.0, 3.0, 1.0)]
    assert [c.units for c in samples[0].completions] == [{"prompts": 1.0}, {}, {"chosen_tokens": 3.0}]
    samples, _, _ = encoded(encode_rankings, [PAIR], Ranking)
    assert [c.fields for c in samples[0].completions] == [{"rank": 1.0, **sure}, {"rank": 2.0, **sure}]


def test_prompts_have_no_completions_and_stand_once(encoded):
    rows = [{"prompt": "hi"}, {"prompt": "bye"}, {"prompt": "hi"}]
    samples, texts, ledger = encoded(encode_prompts, rows)
    assert texts == [("<s>User: hi\nAssistant:",), ("<s>User: bye\nAssistant:",)]
    assert sentences(ledger) == ["rows.jsonl:3: says the same as rows.jsonl:1"]
    assert all(sample.completions == () for sample in samples)


def test_prompts_of_larger_records_may_repeat(encoded):
    rows = [PAIR, {**PAIR, "rejected": "why"}]
    samples, _, ledger = encoded(encode_prompts, rows, Prompt)
    assert (len(samples), ledger.dropped, len(ledger.repeated)) == (1, [], 1)
    ledger.check(0.0)


def test_texts_are_cut_into_pieces(encoded):
    samples, texts, ledger = encoded(encode_texts, [{"text": "hi hello bye"}, {"text": "ok"}], max_length=3)
    assert [sample.key for sample in samples] == [
        "rows.jsonl:1#1",
        "rows.jsonl:1#2",
        "rows.jsonl:1#3",
        "rows.jsonl:2#1",
    ]
    assert [whole for _, whole in texts] == ["hi ", "hello ", "bye</s>", "ok</s>"]
    assert ledger.kept == 2


def test_conversations_serve_as_text_in_the_words_of_the_template(encoded):
    samples, texts, _ = encoded(encode_texts, [PAIR], Demonstration)
    assert texts == [("<s>", "User: hi\nAssistant: hello</s>")]
    assert samples[0].completions[0].scored.all()


def test_raw_text_is_a_demonstration_too(encoded):
    samples, texts, _ = encoded(encode_demonstrations, [{"text": "hi bye"}])
    assert texts == [("<s>", "hi bye</s>")]
    assert samples[0].key == "rows.jsonl:1#1"


# ------------------------------------------------------------------------------------------------------ unusable rows

UNUSABLE = {
    "equal pair": (
        {**PAIR, "rejected": "hello"},
        "'chosen' equals 'rejected'; a pair needs two different completions",
    ),
    "equal as tokens": (
        {**PAIR, "chosen": "xyzzy", "rejected": "plugh"},  # two unknown words
        "'chosen' and 'rejected' become the same tokens; a pair needs two",
    ),
    "no answer": (
        {**PAIR, "chosen": []},
        "has no answer of the assistant after the prompt",
    ),
    "prompt too long": (
        {**PAIR, "prompt": "hi " * 9},
        "the prompt has 23 tokens, and max_length is 14",
    ),
    "pair too long": (
        {**PAIR, "rejected": "no no no no no"},
        "a completion ends at token 17, and max_length is 14; cut, it would tell a lie",
    ),
    "no prompt": (
        {"prompt": [], "chosen": "a", "rejected": "b"},
        "has no prompt; the completions have nothing in common to answer",
    ),
    "answered prompt": (
        {**PAIR, "prompt": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
        "the prompt ends with the assistant's turn; there is nothing to answer",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_pairs_are_dropped_with_a_sentence(encoded, name):
    row, sentence = UNUSABLE[name]
    samples, _, ledger = encoded(encode_preferences, [PAIR, row], max_length=14)
    assert len(samples) == ledger.kept == 1
    assert sentences(ledger) == [f"rows.jsonl:2: {sentence}"]
    with pytest.raises(DataError, match="1 of 2 rows cannot be used"):
        ledger.check(0.01)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"ranks": [1, 1]}, "all 'ranks' are equal; a ranking needs two different ranks"),
        ({"responses": ["ok", "ok"]}, "the same response has two ranks; leave one of them out"),
    ],
)
def test_unusable_rankings(encoded, row, sentence):
    good = {"prompt": "hi", "responses": ["ok", "no"], "ranks": [1, 2]}
    _, _, ledger = encoded(encode_rankings, [good, good | row])
    assert sentences(ledger) == [f"rows.jsonl:2: {sentence}"]


def test_a_long_demonstration_is_cut_and_has_no_end_of_turn(encoded, plain):
    samples, texts, ledger = encoded(encode_demonstrations, [{"prompt": "hi", "completion": "ok no yes"}], max_length=9)
    assert texts == [("<s>User: hi\nAssistant:", " ok ")]
    assert samples[0].completions[0].last == 2
    assert [str(e) for e in ledger.truncated] == [
        "rows.jsonl:1: has 13 tokens; what stands after max_length 9 is left out"
    ]
    assert ledger.kept == 1


def test_a_cut_keeps_the_last_end_of_turn_that_is_left(encoded):
    said = [
        {"role": r, "content": c} for r, c in zip(["user", "assistant"] * 2, ["hi", "ok", "why", "no"], strict=True)
    ]
    samples, texts, _ = encoded(encode_demonstrations, [{"messages": said}], max_length=12)
    assert texts == [("<s>User: hi\nAssistant:", " ok</s>\nUser: ")]
    (branch,) = samples[0].completions
    assert branch.scored.tolist() == [True, True, True, False, False, False]
    assert branch.last == 2


def test_demonstrations_without_anything_to_learn(encoded):
    rows = [
        {"messages": [{"role": "user", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi " * 9}, {"role": "assistant", "content": "ok"}]},
        {"messages": [{"role": "assistant", "content": "ok"}]},
    ]
    _, _, ledger = encoded(encode_demonstrations, rows, max_length=14)
    assert sorted(sentences(ledger)) == [
        "rows.jsonl:1: has no answer of the assistant after the prompt",
        "rows.jsonl:2: the prompt has 23 tokens, and max_length is 14",
        "rows.jsonl:3: the prompt ends with the assistant's turn; there is nothing to answer",
    ]
    _, _, ledger = encoded(encode_demonstrations, [{"prompt": p, "completion": "ok"} for p in ("hi", [])])
    assert sentences(ledger) == ["rows.jsonl:2: has no prompt; the completions have nothing in common to answer"]


def test_an_empty_answer_is_legal(encoded):
    samples, texts, _ = encoded(encode_demonstrations, [{"prompt": "hi", "completion": ""}])
    assert texts == [("<s>User: hi\nAssistant:", "</s>")]
    assert samples[0].completions[0].scored.tolist() == [True]


def test_texts_without_a_scored_token(encoded, chatml):
    _, _, ledger = encoded(encode_texts, [{"text": ""}, {"text": "hi"}], max_length=1, template=chatml)
    assert sentences(ledger) == [
        "rows.jsonl:1: the text is empty",
        "rows.jsonl:2: no token of this text can be scored; it needs two tokens or more",
    ]


def test_what_shows_without_a_tokenizer(jsonl):
    loaded = read_records(jsonl([PAIR, PAIR, {**PAIR, "chosen": "no"}]))
    ledger = Ledger(loaded.name)
    account(loaded, ledger)
    assert ledger.kept == 2
    assert [str(entry) for entry in ledger.votes] == ["rows.jsonl:2: judges what rows.jsonl:1 judges"]
    assert [entry.reason for entry in ledger.dropped] == ["equal pair"]


def test_a_template_error_names_the_row(encoded, mistral):
    rows = [{"prompt": "hi"}, {"prompt": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]}]
    with pytest.raises(DataError, match=r"^rows\.jsonl:2: the chat template refuses the turns system, user"):
        encoded(encode_prompts, rows, template=mistral)


def test_any_kind_is_encoded_by_its_own_encoder(jsonl, plain):
    answers = {"prompt": "hi", "responses": ["a", "ok"]}
    for row in (PAIR, {"prompt": "hi"}, {"text": "hi"}, answers, {**answers, "ranks": [1, 2]}):
        loaded = read_records(jsonl([row]))
        assert len(list(encode_any(loaded, plain, 50, Ledger("x")))) == 1


def test_hangul_survives_from_file_to_file(jsonl, tmp_path, byte_level):
    row = {"prompt": "서울은 어디?", "chosen": "한국의 수도입니다. e\u0301 👩‍👩‍👧", "rejected": "모름"}
    path = jsonl([row])
    loaded = read_records(path, Preference)
    (sample,) = encode_preferences(loaded, byte_level, 500, Ledger("x"))
    texts = [byte_level.decode(one.ids.tolist()) for one in sample.completions]
    assert texts == [row["chosen"], row["rejected"]]
    write_records(tmp_path / "again.jsonl", loaded.records)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_thousands_of_rows_take_seconds(jsonl, byte_level):
    loaded = read_records(jsonl([{"prompt": f"hello {i}", "completion": "한국의 수도 " * 5} for i in range(5000)]))
    begin = time.perf_counter()
    samples = list(encode_demonstrations(loaded, byte_level, 500, Ledger("x")))
    assert len(samples) == 5000
    assert time.perf_counter() - begin < 30
