"""Whatever a chat template does, an answer is learned whole or the row is told of."""

import itertools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from baro.data.encode import ENCODERS
from baro.data.formats import read_records
from baro.data.ledger import Ledger
from baro.data.new_tokenizer import train_tokenizer
from baro.data.rows import Unusable
from baro.data.template import Template
from baro.models.forward import ScoredModel
from baro.records import Message, Rollout
from baro.rewards.learned import LearnedReward

HEAD = "{{ '<|im_start|>' + m['role'] + '\\n' }}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
ALWAYS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
STRIPPED = "{% set c = m['content'] %}{% if m['role'] == 'assistant' %}{% set c = c.split('</think>')[-1] %}{% endif %}"
LAST = (  # thinking stands in the last answer only, an empty one if there is none
    "{% if m['role'] == 'assistant' %}{% set a = m['content'].split('</think>')[-1].lstrip('\\n') %}"
    "{% set t = m['content'].split('</think>')[0].split('<think>')[-1].strip('\\n') if '</think>' in m['content'] %}"
    "{% if loop.last %}{{ '<think>\\n' + (t or '') + '\\n</think>\\n\\n' }}{% endif %}{{ a }}"
    "{% else %}{{ m['content'] }}{% endif %}"
)


def turns_of(body: str, opening: str = OPEN) -> str:
    return "{% for m in messages %}" + HEAD + body + "{{ '<|im_end|>\\n' }}{% endfor %}" + opening


HABITS = {
    "keeps": turns_of("{{ m['content'] }}"),
    "trims": turns_of("{{ m['content'] | trim }}"),
    "drops": turns_of(STRIPPED + "{{ c }}"),
    "drops and opens": turns_of(STRIPPED + "{{ c }}", ALWAYS),
    "keeps and opens": turns_of("{{ m['content'] }}", ALWAYS),
    "last only": turns_of(LAST),
    "last only and opens": turns_of(LAST, ALWAYS),
    "cuts": turns_of("{{ m['content'][:12] if m['role'] == 'assistant' else m['content'] }}"),
    "first line only": turns_of("{{ m['content'].split('\\n')[0] }}"),
}
ANSWERS = {
    "plain": "It is five.",
    "spaced": " It is five.\n",
    "two lines": "It is\nfive.",
    "thinking": "<think>\nTwo and three.\n</think>\n\nIt is five.",
    "tight thinking": "<think>Two and three.</think>It is five.",
    "as it was sampled": "Two and three.\n</think>\n\nIt is five.",
    "before the thinking": "Well. <think>Two.</think> It is five.",
    "empty": "",
}
QUESTION = (Message("user", "What is two and three?"),)


def with_template(text: str) -> Template:
    trained = train_tokenizer(["What is two and three? It is five."], 300).backend_tokenizer
    trained.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<|bos|>", eos_token="<|eos|>")
    tokenizer.chat_template = text
    return Template(tokenizer)


@pytest.fixture(scope="module")
def habits() -> dict[str, Template]:
    return {name: with_template(text) for name, text in HABITS.items()}


@pytest.mark.parametrize(("habit", "answer"), list(itertools.product(HABITS, ANSWERS)))
def test_an_answer_is_learned_whole_behind_what_the_sampler_is_fed_or_refused(habits, habit, answer):
    template, said = habits[habit], ANSWERS[answer]
    try:
        encoded = template.encode(QUESTION, (Message("assistant", said),))
    except Unusable:
        return  # which ones is the next test's
    assert encoded.prompt_ids == template.encode_prompt(QUESTION)
    scored = [i for i, mark in zip(encoded.completion_ids, encoded.scored, strict=True) if mark]
    assert scored[-1] == template.end_of_turn
    learned = "".join((template.rendering.opening + template.visible(scored)).split())
    tag = "" if habit.endswith("opens") and said.startswith("<think>") else "<think>"
    assert "".join(said.split()).removeprefix("" if tag else "<think>") in learned
    assert learned.count("<think>") <= 1


REFUSED = {
    "drops": {"thinking", "tight thinking", "as it was sampled", "before the thinking"},
    "drops and opens": {"plain", "spaced", "two lines", "empty", "before the thinking"},
    "keeps and opens": {"plain", "spaced", "two lines", "empty", "before the thinking"},
    "last only": {"before the thinking"},
    "last only and opens": {"before the thinking"},
    "cuts": set(ANSWERS) - {"plain", "spaced", "two lines", "empty"},
    "first line only": {"two lines", "thinking", "as it was sampled"},
}


@pytest.mark.parametrize("habit", HABITS)
def test_which_answers_a_habit_cannot_hold(habits, habit):
    refused = set()
    for name, said in ANSWERS.items():
        try:
            habits[habit].encode(QUESTION, (Message("assistant", said),))
        except Unusable:
            refused.add(name)
    assert refused == REFUSED.get(habit, set())


def test_an_opened_think_is_not_written_twice(habits):
    for name in ("thinking", "as it was sampled"):
        encoded = habits["drops and opens"].encode(QUESTION, (Message("assistant", ANSWERS[name]),))
        visible = habits["drops and opens"].visible
        assert visible(encoded.prompt_ids).endswith("<|im_start|>assistant\n<think>\n")
        assert visible(encoded.completion_ids) == "Two and three.\n</think>\n\nIt is five.<|im_end|>"


KINDS = {
    "demonstration": {"prompt": "Hi", "completion": ANSWERS["thinking"]},
    "preference": {"prompt": "Hi", "chosen": "Yes.", "rejected": ANSWERS["thinking"]},
    "ranking": {"prompt": "Hi", "responses": ["Yes.", ANSWERS["thinking"]], "ranks": [1, 2]},
    "thumb": {"prompt": "Hi", "completion": ANSWERS["thinking"], "label": True},
    "rated answers": {"prompt": "Hi", "responses": ["Yes.", ANSWERS["thinking"]], "scores": [1, 2]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_counts_what_a_template_leaves_out(habits, jsonl, kind):
    ledger = Ledger("rows.jsonl")
    loaded = read_records(jsonl([KINDS[kind]]))
    assert list(ENCODERS[loaded.kind](loaded, habits["drops"], 500, ledger)) == []
    assert [str(entry) for entry in ledger.dropped] == [
        "rows.jsonl:1: the chat template leaves out a part of the answer ('<think>\\nTwo and three.\\n</think>\\n\\nIt "
        "is f…'); take the part out of the row, or use a template that keeps it (`template: plain`)"
    ]
    assert ledger.dropped[0].reason == "template leaves out"


def test_an_answer_without_thinking_does_not_follow_an_opened_think(habits):
    with pytest.raises(Unusable, match=r"opens each answer with <think>, and this answer neither begins with it nor"):
        habits["drops and opens"].encode(QUESTION, (Message("assistant", "It is five."),))


def dialogue(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def test_of_earlier_answers_that_are_rewritten_the_last_one_is_learned_and_that_is_said(habits, jsonl):
    ledger, template = Ledger("rows.jsonl"), habits["last only"]
    rows = [{"messages": dialogue("Hi", ANSWERS["thinking"], "Sure?", "<think>\nYes.\n</think>\n\nYes.")}]
    loaded = read_records(jsonl([*rows, {"messages": dialogue("Hi", "Hello.")}]))
    samples = list(ENCODERS[loaded.kind](loaded, template, 500, ledger))
    visible = [template.visible(one.completions[0].ids.tolist()) for one in samples]
    assert visible[0] == "<think>\nYes.\n</think>\n\nYes.<|im_end|>"
    before = (Message("user", "Hi"), Message("assistant", ANSWERS["thinking"]), Message("user", "Sure?"))
    assert samples[0].prompt_ids.tolist() == template.encode_prompt(before)
    assert (ledger.kept, ledger.dropped) == (2, [])
    assert [str(entry) for entry in ledger.truncated] == [
        "rows.jsonl:1: the chat template rewrites earlier answers, so that only the last answer is learned"
    ]


def test_a_pair_of_several_answers_that_are_rewritten_is_not_used(habits, jsonl):
    ledger = Ledger("rows.jsonl")
    row = {"chosen": dialogue("Hi", "Hello.", "Sure?", "Yes."), "rejected": dialogue("Hi", "No.", "Why?", "No.")}
    loaded = read_records(jsonl([row]))
    assert list(ENCODERS[loaded.kind](loaded, habits["last only"], 500, ledger)) == []
    assert [entry.reason for entry in ledger.dropped] == ["template rewrites"]


def test_raw_text_of_a_conversation_is_whole_too(habits):
    said = (*QUESTION, Message("assistant", ANSWERS["thinking"]))
    assert "Two and three." in habits["keeps"].rendering.conversation(said)
    with pytest.raises(Unusable, match=r"leaves out a part of the answer .*Two and three"):
        habits["drops"].rendering.conversation(said)


SAYS = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
INCOMPLETE = {  # templates that leave out turns that are no answers, and what they leave out of TALK
    "everything": ("{% for m in messages %}" + SAYS + "{% endfor %}", None),
    "trims": ("{% for m in messages %}" + SAYS.replace("m['content']", "m['content'].strip()") + "{% endfor %}", None),
    "system in the last question": (
        "{% set before = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}"
        "{% if loop.revindex0 < 2 and m['role'] == 'user' %}{{ before + '\\n' }}{% endif %}" + SAYS + "{% endfor %}",
        None,
    ),
    "no system": ("{% for m in messages if m['role'] != 'system' %}" + SAYS + "{% endfor %}", "the system message"),
    "last question": (
        "{% for m in messages %}{% if m['role'] != 'user' or loop.revindex0 < 2 %}" + SAYS + "{% endif %}{% endfor %}",
        "the user's turn",
    ),
    "half a question": (
        "{% for m in messages %}"
        + SAYS.replace("m['content']", "(m['content'][:3] if m['role'] == 'user' else m['content'])")
        + "{% endfor %}",
        "the user's turn",
    ),
}
TALK = [
    {"role": "system", "content": " Be kind.\n"},
    {"role": "user", "content": "How are you? "},
    {"role": "assistant", "content": "Well."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]
ROWS_OF_TALK = {
    "demonstration": {"messages": TALK},
    "prompt": {"prompt": TALK[:4]},
    "answer": {"prompt": TALK[:4], "completion": "Because."},
    "pair": {"prompt": TALK[:4], "chosen": "Because.", "rejected": "No."},
    "thumb": {"prompt": TALK[:4], "completion": "Because.", "label": True},
}


@pytest.mark.parametrize("row", ROWS_OF_TALK)
@pytest.mark.parametrize("name", INCOMPLETE)
def test_every_turn_stands_in_what_the_model_reads_or_the_row_is_told_of(name, row, jsonl):
    """A system message that no model sees would be trained as if it had been obeyed."""
    text, lost = INCOMPLETE[name]
    template = with_template(text + OPEN)
    ledger, loaded = Ledger("rows.jsonl"), read_records(jsonl([ROWS_OF_TALK[row]]))
    samples = list(ENCODERS[loaded.kind](loaded, template, 500, ledger))
    if lost is None:
        (sample,) = samples
        read = template.visible([*sample.prompt_ids.tolist(), *(i for b in sample.completions for i in b.ids.tolist())])
        assert all(turn["content"].strip() in read for turn in TALK[: 4 if row == "prompt" else 5])
        return
    assert samples == []
    (entry,) = ledger.dropped
    assert entry.reason == "template leaves out"
    assert f"leaves out a part of {lost} ('" in entry.sentence
    assert ("`data.system: merge`" in entry.sentence) == (lost == "the system message")


def test_a_short_turn_is_not_found_in_the_template_s_own_words(jsonl):
    """The letters of `a` stand in every text; whether the template writes the turn is asked with a word of its own."""
    template = with_template(INCOMPLETE["no system"][0] + OPEN)
    with pytest.raises(Unusable, match=r"leaves out a part of the system message \('a'\)"):
        template.encode_prompt((Message("system", "a"), Message("user", "Hi")))


def test_a_reward_model_gives_no_score_for_what_its_template_leaves_out(habits):
    torch.manual_seed(0)
    template = habits["drops"]
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForSequenceClassification(LlamaConfig(vocab_size=template.vocabulary, num_labels=1, **shape))
    source = LearnedReward(ScoredModel(model), template, name="kindness")
    rollouts = [Rollout(QUESTION, (Message("assistant", text),)) for text in ("Five.", ANSWERS["thinking"], "Six.")]
    scores = source.score(rollouts)
    assert [one.error is None for one in scores] == [True, False, True]
    assert scores[1].error.startswith("kindness: the chat template leaves out a part of the answer")
    assert source.score([rollouts[0], rollouts[2]]) == [scores[0], scores[2]]


# ------------------------------------------------------------------------------------------------ tokens for people


def sentencepiece(kind: str) -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁two", "two", "▁one", "one", ":", "▁:", *"abcdefghijklmnopqrstuvwxyz."]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], 0))
    if kind == "Metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    backend.add_special_tokens(["<s>", "</s>"])
    return backend


@pytest.mark.parametrize("kind", ["Metaspace", "Strip"])
def test_a_space_at_the_beginning_of_a_token_is_shown(kind):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=sentencepiece(kind), bos_token="<s>", eos_token="</s>")
    template = Template(tokenizer, "none")
    ids = [template.tokenizer.convert_tokens_to_ids(one) for one in ("one", "▁two", "two", "▁", "</s>")]
    assert [template.visible([i]) for i in ids] == ["one", " two", "two", " ", "</s>"]
    assert template.visible(ids) == "one twotwo </s>"
    shown = {}
    for answer in (" two", "two"):
        completion = template.encode((Message("user", "one"),), (Message("assistant", answer),)).completion_ids
        shown[answer] = "".join(template.visible([i]) for i in completion)
    assert shown == {" two": " two</s>", "two": "two</s>"}
