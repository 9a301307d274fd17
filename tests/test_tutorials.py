"""Every recipe of examples/tutorials takes one step on a tiny model: its keys and its numbers are accepted."""

import json
from pathlib import Path

import pytest
import yaml

from baro.config import load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.models.load import Architecture, new_policy, new_scalar_model, save_policy, save_scalar_model
from baro.verbs import VERBS

FOLDER = Path(__file__).parents[1] / "examples" / "tutorials"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ROWS = [{"prompt": f"Say {n}.", "chosen": f"Yes: {n}!", "rejected": "No."} for n in range(24)]
SMALL = {"sampling": ("sampling.max_new_tokens=4",), "trainer": ("trainer.steps=1", "trainer.epochs=null")}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A policy and a reward model of a few thousand parameters."""
    root = tmp_path_factory.mktemp("models")
    template = Template(train_tokenizer([json.dumps(ROWS)], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=600, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), root / "policy")
    template.save(root / "policy")
    save_scalar_model(new_scalar_model(root / "policy", seed=1), root / "reward")
    template.save(root / "reward")
    return root


@pytest.fixture
def data(tmp_path):
    columns = {
        "preferences": ("prompt", "chosen", "rejected"),
        "demonstrations": ("prompt", "chosen"),
        "prompts": ("prompt",),
    }
    thumbs = [{"prompt": r["prompt"], "completion": r[k], "label": k == "chosen"} for r in ROWS for k in list(r)[1:]]
    (tmp_path / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumbs))
    for name, kept in columns.items():
        rows = [{("completion" if name == "demonstrations" and k == "chosen" else k): r[k] for k in kept} for r in ROWS]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_a_step(recipe, models, data):
    path = FOLDER / f"{recipe}.yaml"
    given = yaml.safe_load(path.read_text())
    verb = recipe.replace("_", "-")
    config_class, run = VERBS[verb if verb in VERBS else recipe.partition("_")[0]].load()
    inputs = {"policy": models / "policy", "model": models / "policy", "reward_model": models / "reward"}
    inputs["cost_model"] = models / "reward"
    inputs |= {name: data / f"{name}.jsonl" for name in ("preferences", "demonstrations", "prompts", "thumbs")}
    changes = [f"{key}={value}" for key, value in inputs.items() if key in given]
    changes += [change for key, several in SMALL.items() if key in given for change in several]
    finished = run(load_config(config_class, path, changes), data / "run")
    assert finished.finished
    assert finished.metrics.read()[-1]["step"] >= 1  # a PPO rollout is several steps
