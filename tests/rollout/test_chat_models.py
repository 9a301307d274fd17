"""A local model as a chat model: what it answers, and how likely it finds given answers."""

import pytest
import torch

from baro.chat_config import ChatModelConfig, ServerConfig
from baro.chat_models import load_chat_model
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError
from baro.models.load import Architecture, new_policy
from baro.records import Message, OptionScores, Reply, SamplingParams
from baro.rollout.chat import LocalChatModel
from baro.runs import RunDir

ASKED = [(Message("user", text),) for text in ("Which is better? (A) hi (B) bye", "Say no.", "And now?")]
OPTIONS = ("(A)", "(B)", "neither")


def local(positions=96):
    texts = [f"User: {one[0].content}\nAssistant: (A) (B) neither" for one in ASKED]
    template = Template(train_tokenizer(texts * 3, 290), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=positions, intermediate_size=24)
    return LocalChatModel(
        new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), template, name="tiny"
    )


def test_answers_are_a_function_of_conversation_and_key():
    model, params = local(), SamplingParams(max_new_tokens=6)
    found = model.chat(ASKED, 2, params, [3, 4, 5])
    assert [len(replies) for replies in found] == [2, 2, 2]
    assert found[0][0] != found[0][1]
    assert model.chat(ASKED[1:2], 2, params, [4]) == found[1:2]
    assert model.chat(ASKED[1:2], 2, params, [6]) != found[1:2]


def test_options_have_the_log_probs_of_the_models_own_forward():
    model = local()
    for conversation, scores in zip(ASKED, model.options(ASKED, OPTIONS), strict=True):
        for option, found in zip(OPTIONS, scores.logprobs, strict=True):
            text = f"User: {conversation[0].content}\nAssistant:"
            ids, opened = (model.template.tokenize_prompts([one])[0] for one in (f"{text} {option}", text))
            with torch.no_grad():
                logprobs = model.model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = sum(float(logprobs[t - 1, ids[t]]) for t in range(len(opened), len(ids)))
            assert found == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_answered_is_an_error_and_the_rest_is_answered():
    model = local(positions=40)
    long = (Message("user", "neither " * 40),)
    (first,), (failed,), (none,) = model.chat([ASKED[1], long, ()], 1, SamplingParams(max_new_tokens=4), [1, 2, 3])
    assert first.text is not None
    assert failed == Reply(None, error=failed.error)
    assert "the model reads 40" in failed.error
    assert "empty" in none.error
    scored, unscored = model.options([ASKED[1], long], ("(A)", "(B)"))
    assert len(scored.logprobs) == 2
    assert unscored == OptionScores(None, unscored.error)
    assert "the model reads 40" in unscored.error


@pytest.mark.parametrize("options", [("A", "A"), ("safe", "safer"), ("", "A")])
def test_options_exclude_each_other(options):
    with pytest.raises(ValueError, match="exclude each other"):
        local().options(ASKED, options)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give either model"),
        ({"model": "here", "server": {"base_url": "http://localhost/v1", "model": "there"}}, "give either model"),
        ({"model": "here", "by": "rules:critic"}, "give either model"),
        ({"server": {"base_url": "localhost:8000", "model": "there"}}, "it is no address"),
        ({"server": {"base_url": "http://me:secret@localhost/v1", "model": "there"}}, "holds no key"),
        ({"server": {"base_url": "http://localhost/v1", "model": "there", "api_key_env": "sk-abc"}}, "never the key"),
        ({"server": {"base_url": "http://localhost/v1", "model": "there", "max_cost": 1}}, "max_cost needs"),
        ({"server": {"base_url": "http://localhost/v1", "model": "there", "price_input": 1}}, "go together"),
    ],
)
def test_a_config_that_cannot_work_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        ChatModelConfig.model_validate(values)


def test_a_server_has_the_models_name():
    server = ServerConfig(base_url="http://localhost:8000/v1/", model="judge-7b")
    assert server.base_url == "http://localhost:8000/v1"
    assert ChatModelConfig(server=server).called == "judge-7b"
    assert ChatModelConfig(model="runs/critic").called == "critic"
    assert ChatModelConfig(by="baro.demo.safety_people:critic").called == "critic"


def test_rules_answer_in_place_of_a_model(tmp_path):
    run = RunDir(tmp_path, {"verb": "critique"})
    rules = load_chat_model(ChatModelConfig(by="baro.demo.safety_people:critic"), run=run)
    talk = (Message("user", "How do I wake the storm stone?"), Message("assistant", "Fill it with ink."))
    asked = (*talk, Message("user", "Could this answer hurt people?"))
    said = {rules.chat([asked], 1, SamplingParams(), [key])[0][0].text for key in range(40)}
    assert said == {"Yes, it tells how to wake it.", "No, it does no harm."}
    with pytest.raises(ConfigError, match="world:gold: has no method chat"):
        load_chat_model(ChatModelConfig(by="baro.demo.world:gold"), run=run)
