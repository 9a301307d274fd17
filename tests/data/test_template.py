"""Tokens are written above the marks that are expected of them."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from baro.data.new_tokenizer import train_tokenizer
from baro.data.prefix import without_prefix_space
from baro.data.rendering import PLAIN, plain_text
from baro.data.template import Encoded, Template
from baro.errors import ConfigError, DataError
from baro.records import Message

STORIES = Path(__file__).parents[3] / "shared/models/stories260k"


def laid_out(template: Template, encoded: Encoded) -> tuple[str, str, str]:
    """The prompt's tokens, the completion's tokens, and below each of them x where it is scored."""
    names = template.tokenizer.convert_ids_to_tokens(encoded.completion_ids)
    shown = [name.replace("\n", "\\n").replace(" ", "_") for name in names]
    marks = [("x" if mark else ".").ljust(len(name)) for name, mark in zip(shown, encoded.scored, strict=True)]
    prompt = template.tokenizer.convert_ids_to_tokens(encoded.prompt_ids)
    prompt = [name.replace("\n", "\\n").replace(" ", "_") for name in prompt]
    return " ".join(prompt), " ".join(shown), " ".join(marks).rstrip()


def test_chatml_scores_the_answer_and_its_end_of_turn(chatml, turns):
    encoded = chatml.encode(turns("hi"), turns("hello now", first="assistant"))
    assert laid_out(chatml, encoded) == (
        "<|im_start|> user \\n hi <|im_end|> \\n <|im_start|> assistant \\n",
        "hello _ now <|im_end|>",
        "x     x x   x",
    )
    assert encoded.last == 3


def test_llama3_has_one_bos(llama3, turns):
    encoded = llama3.encode(turns("hi"), turns("hello", first="assistant"))
    assert laid_out(llama3, encoded) == (
        "<s> <|start_header_id|> user <|end_header_id|> \\n \\n hi <|eot_id|> "
        "<|start_header_id|> assistant <|end_header_id|> \\n \\n",
        "hello <|eot_id|>",
        "x     x",
    )


def test_mistral_writes_a_space_before_the_answer_and_decode_takes_it_away(mistral, turns):
    encoded = mistral.encode(turns("hi"), turns("hello", first="assistant"))
    assert laid_out(mistral, encoded) == ("<s> [INST] _ hi _ [/INST]", "_ hello </s>", "x x     x")
    assert mistral.decode(encoded.completion_ids) == "hello"


def test_plain_is_bos_user_assistant_eos(plain, turns):
    encoded = plain.encode(turns("hi"), turns("hello", first="assistant"))
    assert laid_out(plain, encoded) == ("<s> User: _ hi \\n Assistant:", "_ hello </s>", "x x     x")


def test_plain_with_system_and_earlier_turns(plain, turns):
    prompt = (Message("system", "be kind"), *turns("hi", "hello", "why"))
    assert laid_out(plain, plain.encode(prompt, turns("no", first="assistant"))) == (
        "<s> System: _ be _ kind \\n User: _ hi \\n Assistant: _ hello </s> \\n User: _ why \\n Assistant:",
        "_ no </s>",
        "x x  x",
    )


def test_none_is_raw_continuation_with_eos(plain, turns):
    raw = Template(plain.tokenizer, "none")
    encoded = raw.encode(turns("hi "), turns("hello", first="assistant"))
    assert laid_out(raw, encoded) == ("<s> hi _", "hello </s>", "x     x")


def test_open_ends_nothing_though_the_tokenizer_has_an_end(plain, turns, tmp_path):
    raw = Template(plain.tokenizer, "open")
    encoded = raw.encode(turns("hi "), turns("hello", first="assistant"))
    assert laid_out(raw, encoded) == ("<s> hi _", "hello", "x")
    assert laid_out(raw, raw.encode_text("hi hello", 100)[0])[1] == "hi _ hello"
    assert raw.end_ids == frozenset()
    raw.save(tmp_path)
    assert Template.load(tmp_path).kind == "open"
    assert Template.load(tmp_path).fingerprint == raw.fingerprint != Template(plain.tokenizer, "none").fingerprint


def test_none_adds_no_end_where_the_tokenizer_has_none(turns):
    trained = train_tokenizer(["hello"], 300)
    bare = Template(PreTrainedTokenizerFast(tokenizer_object=trained.backend_tokenizer), "none")
    encoded = bare.encode(turns("hi"), turns("yes", first="assistant"))
    assert bare.end_ids == frozenset()
    assert bare.decode(encoded.completion_ids) == "yes"
    assert encoded.last == len(encoded.completion_ids) - 1
    assert "answers never end by themselves" in bare.describe()


def test_user_turns_inside_a_completion_are_not_scored(chatml, plain, turns):
    completion = turns("hello", "why", "no now", first="assistant")
    assert laid_out(chatml, chatml.encode(turns("hi"), completion))[1:] == (
        "hello <|im_end|> \\n <|im_start|> user \\n why <|im_end|> \\n <|im_start|> assistant \\n no _ now <|im_end|>",
        "x     x          .  .            .    .  .   .          .  .            .         .  x  x x   x",
    )
    encoded = plain.encode(turns("hi"), completion)
    assert laid_out(plain, encoded)[1:] == (
        "_ hello </s> \\n User: _ why \\n Assistant: _ no _ now </s>",
        "x x     x    .  .     . .   .  .          x x  x x   x",
    )
    assert encoded.last == 13


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "plain"])
def test_an_empty_answer_scores_its_end_of_turn(name, request, turns):
    template = request.getfixturevalue(name)
    encoded = template.encode(turns("hi"), turns("", first="assistant"))
    end = template.end_of_turn
    assert encoded.completion_ids[-1] == end
    assert encoded.scored[-1]
    assert template.decode(encoded.completion_ids) == ""


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "plain", "byte_level"])
def test_prompt_ids_are_what_the_sampler_is_fed_with_at_most_one_bos(name, request, turns):
    template = request.getfixturevalue(name)
    prompt = turns("hi", "hello", "bye")
    encoded = template.encode(prompt, turns("ok", first="assistant"))
    assert encoded.prompt_ids == template.encode_prompt(prompt)
    bos = template.tokenizer.bos_token_id
    assert (encoded.prompt_ids + encoded.completion_ids).count(bos) == (0 if bos is None else 1)


def test_tokens_equal_those_of_apply_chat_template(llama3, chatml, turns):
    prompt, completion = turns("hi", "hello", "bye"), turns("ok", first="assistant")
    for template, tail in ((llama3, 0), (chatml, 1)):  # ChatML writes a line end after the end of the turn
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt + completion]
        whole = template.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        encoded = template.encode(prompt, completion)
        assert encoded.prompt_ids + encoded.completion_ids == whole[: len(whole) - tail]


def test_a_bos_that_the_template_forgets_is_put_in_front(llama3, turns):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=llama3.tokenizer.backend_tokenizer, bos_token="<s>")
    tokenizer.chat_template = llama3.text.replace("{{- bos_token -}}", "")
    template = Template(tokenizer)
    assert template.encode_prompt(turns("hi")) == llama3.encode_prompt(turns("hi"))


def test_a_template_without_end_tokens_gets_eos(chatml, turns):
    bare = "{% for m in messages %}{{ m['role'] + '\\n' + m['content'] + '\\n' }}{% endfor %}"
    bare += "{% if add_generation_prompt %}{{ 'assistant\\n' }}{% endif %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=chatml.tokenizer.backend_tokenizer, eos_token="</s>")
    tokenizer.chat_template = bare
    template = Template(tokenizer)
    encoded = template.encode(turns("hi"), turns("ok", first="assistant"))
    assert laid_out(template, encoded)[1:] == ("ok \\n </s>", "x  x  x")


def test_a_merge_over_the_boundary_tokenises_the_completion_alone(byte_level, turns, tokens_of):
    raw = Template(byte_level.tokenizer, "none")
    encoded = raw.encode(turns("ab"), turns("cd", first="assistant"))
    assert tokens_of(raw, raw.encode_text("abcd", 99)[0].completion_ids) == ["abcd", "<|eos|>"]
    assert encoded.prompt_ids == raw.encode_prompt(turns("ab"))
    assert raw.decode(encoded.prompt_ids) == "ab"
    assert raw.decode(encoded.completion_ids) == "cd"
    assert all(encoded.scored)


def test_a_template_that_rewrites_earlier_turns_is_named(thinking, turns):
    with pytest.raises(DataError) as error:
        thinking.encode(turns("hi"), turns("hello", "why", "no", first="assistant"))
    assert str(error.value) == (
        "the chat template (own) rewrites earlier turns: its text of 4 messages does not begin with its text of the "
        "first 2; put the earlier turns into 'prompt' and give one answer after it, or use `template: plain`"
    )
    encoded = thinking.encode(turns("hi"), turns("no", first="assistant"))  # the last answer alone is fine
    assert thinking.decode(encoded.completion_ids) == "no"


def test_a_template_that_refuses_a_role_says_so(mistral, turns):
    with pytest.raises(DataError, match="refuses the turns system, user: no system role here; try `template: plain`"):
        mistral.encode_prompt((Message("system", "be kind"), *turns("hi")))


# ------------------------------------------------------------------------------------------------------------ raw text


def test_text_is_cut_into_pieces_that_begin_with_bos(plain, tokens_of):
    pieces = plain.encode_text("hi hello bye", 3)
    shown = [tokens_of(plain, p.prompt_ids) + tokens_of(plain, p.completion_ids) for p in pieces]
    assert shown == [["<s>", "hi", " "], ["<s>", "hello", " "], ["<s>", "bye", "</s>"]]
    assert all(all(p.scored) for p in pieces)
    assert [p.last for p in pieces] == [1, 1, 1]


def test_without_bos_the_first_token_of_a_piece_is_not_scored(chatml, tokens_of):
    pieces = chatml.encode_text("hi hello bye", 3)
    assert [p.prompt_ids for p in pieces] == [[], []]
    assert [tokens_of(chatml, p.completion_ids) for p in pieces] == [["hi", " ", "hello"], [" ", "bye", "</s>"]]
    assert [p.scored for p in pieces] == [[False, True, True], [False, True, True]]
    assert len(chatml.encode_text("hi", 1)) == 0  # nothing predicts either token


def test_an_empty_prompt_means_raw_text(plain, turns):
    encoded = plain.encode((), turns("hi bye", first="assistant"))
    assert laid_out(plain, encoded) == ("<s>", "hi _ bye </s>", "x  x x   x")
    assert plain.encode((), turns("", first="assistant")) == Encoded([plain.bos], [], [], -1)


# ------------------------------------------------------------------------------------------------------------- decode


SCRIPTS = st.sampled_from(
    ["한국어 ㅎㅏㄴ", "שלום مرحبا", "👩‍👩‍👧🇰🇷", "e\u0301 a\u0308", "\u200d\u202e", "  x  ", "\n\n", "日本"]
)


@given(st.one_of(st.text(max_size=30), st.lists(SCRIPTS, max_size=4).map("".join)))
@settings(max_examples=200, deadline=None)
def test_any_answer_survives_byte_for_byte(byte_level, answer):
    assume(not any(word in answer for word in byte_level.tokenizer.all_special_tokens))  # which are no text
    prompt, completion = (Message("user", "hello"),), (Message("assistant", answer),)
    for template in (byte_level, Template(byte_level.tokenizer, "none")):
        encoded = template.encode(prompt, completion)
        assert template.decode(encoded.completion_ids) == answer
        assert all(encoded.scored)


def test_half_a_character_at_the_end_does_not_crash(byte_level, turns):
    ids = byte_level.encode(turns("hello"), turns("글", first="assistant")).completion_ids
    assert byte_level.decode(ids[:-2]).endswith("\ufffd")
    assert byte_level.decode([]) == ""


# ----------------------------------------------------------------------------------------------------- load and save


@pytest.mark.parametrize("kind", ["auto", "plain", "none"])
@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "plain", "byte_level"])
def test_a_saved_template_comes_back_with_its_fingerprint(name, kind, request, tmp_path, turns):
    template = Template(request.getfixturevalue(name).tokenizer, kind)
    template.save(tmp_path)
    again = Template.load(tmp_path)
    assert again.fingerprint == template.fingerprint
    assert again.kind == template.kind
    prompt, completion = turns("hi"), turns("hello", first="assistant")
    assert again.encode(prompt, completion) == template.encode(prompt, completion)


def test_fingerprints_tell_templates_and_tokenizers_apart(plain, chatml, byte_level):
    templates = [plain, chatml, byte_level, Template(plain.tokenizer, "none"), Template(chatml.tokenizer, "plain")]
    assert len({template.fingerprint for template in templates}) == 5


def test_saving_leaves_the_tokenizer_as_it_was(plain, tmp_path):
    plain.save(tmp_path)
    assert plain.tokenizer.chat_template is None
    assert {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert (tmp_path / "chat_template.jinja").read_text() == PLAIN


def test_what_cannot_be_loaded_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="gone: no such model folder"):
        Template.load(tmp_path / "gone")
    with pytest.raises(ConfigError, match="the model folder is empty"):
        Template.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no tokenizer in the folder; put tokenizer.json and tokenizer_config.json"):
        Template.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="the tokenizer cannot be loaded"):
        Template.load(tmp_path)


def test_the_description_is_one_line(plain, chatml):
    assert plain.describe() == (
        f"template: plain (User: … Assistant: …); begins with <s>; ends with </s>; fingerprint {plain.fingerprint}"
    )
    assert chatml.describe().startswith("template: the tokenizer's own; begins with none; ends with <|im_end|>, </s>;")


def test_padding_is_never_eos(chatml, byte_level):
    assert chatml.special == {"bos": None, "eos": 3, "pad": 0}
    assert byte_level.special == {"bos": 1, "eos": 2, "pad": 0}


def test_a_new_tokenizer_is_the_same_every_time():
    texts = ["the cat sat on the mat", "고양이가 매트에 앉았다", "the the cat cat"] * 3
    first, second = (train_tokenizer(texts, 300).backend_tokenizer.to_str() for _ in range(2))
    assert first == second
    assert Template(train_tokenizer(texts, 270)).vocabulary == 270
    with pytest.raises(ConfigError, match="vocab_size is 200; a byte-level BPE needs at least 259"):
        train_tokenizer(texts, 200)


def test_plain_text_has_the_words_of_the_plain_template(plain, turns):
    conversation = (Message("system", "be kind"), *turns("hi", "hello"))
    assert plain_text(conversation) == "System: be kind\nUser: hi\nAssistant: hello"
    assert plain.rendering.conversation(conversation) == plain_text(conversation) + "</s>"


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer"),
    [
        (normalizers.Prepend("▁"), None),
        (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
        (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)),
        (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
        (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=True)])),
    ],
)
def test_whatever_puts_a_space_in_front_can_be_stopped(normalizer, pre_tokenizer):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "ab": 1, "▁ab": 2, "Ġab": 3}, unk_token="<unk>"))
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    assert backend.encode("ab").ids in ([2], [3])
    assert without_prefix_space(backend).encode("ab").ids == [1]


@pytest.mark.skipif(not STORIES.exists(), reason="the pretrained model is not beside the repository")
def test_a_sentencepiece_tokenizer_puts_no_space_into_the_middle(turns, tokens_of):
    template = Template.load(STORIES, "none")
    encoded = template.encode(turns("Once upon a ti"), turns("me, Lily", first="assistant"))
    assert encoded.prompt_ids[0] == template.bos == 1
    assert not tokens_of(template, encoded.completion_ids)[0].startswith("▁")
    assert template.decode(encoded.completion_ids) == "me, Lily"
    plain = Template.load(STORIES)
    for answer in ("there was", " there", "", "한국"):
        assert plain.decode(plain.encode(turns("hi"), turns(answer, first="assistant")).completion_ids) == answer


@pytest.mark.parametrize(("split", "expected"), [(False, ["347", "Ġ+", "Ġ285"]), (True, [*"347", "Ġ+", "Ġ", *"285"])])
def test_digits_are_tokens_of_their_own_where_they_are_to_be(split, expected):
    tokenizer = train_tokenizer(["347 + 285 is 632"] * 50, 290, split_digits=split)
    assert tokenizer.tokenize("347 + 285") == expected
    assert tokenizer.decode(tokenizer("347 + 285 is 632")["input_ids"], skip_special_tokens=True) == "347 + 285 is 632"
