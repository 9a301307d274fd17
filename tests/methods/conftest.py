"""A tiny policy for the stages that draw answers."""

import pytest

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.models.load import Architecture, new_policy, save_policy

PROMPTS = ["Say hi.", "Say bye.", "What is one and one?", "Name a colour."]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A folder with a tiny untrained Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("policy")
    template = Template(train_tokenizer([f"User: {prompt}\nAssistant: hello" for prompt in PROMPTS] * 3, 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder)
    template.save(folder)
    return folder
