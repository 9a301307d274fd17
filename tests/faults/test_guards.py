"""Guards stop a run with the reason and exit code 3; its last good checkpoint is kept, and the same command goes on."""

import json
import re

import pytest

SFT = """
policy: base
demonstrations: demonstrations.jsonl
trainer: {{steps: 8, batch_size: 4, checkpoint_every: 2, learning_rate: {rate}}}
"""
PPO = """
policy: base
prompts: prompts.jsonl
rewards: [{{by: "{by}"}}]
rollout: {{prompts: 4, completions: 1, epochs: 1, minibatches: 2, max_error_fraction: {errors}}}
sampling: {{max_new_tokens: 6}}
kl: {{stop_above: {kl}}}
trainer: {{steps: 8, checkpoint_every: 2, learning_rate: 1e-2}}
"""
REWARDS = """
def none(prompts, completions, **columns):
    return [None for _ in completions]

def half(prompts, completions, **columns):
    return [None if i % 2 else 1.0 for i in range(len(completions))]

calls = []

def failing(prompts, completions, **columns):
    calls.append(1)
    if len(calls) == 3:
        raise ValueError("no connection")
    return [1.0 for _ in completions]

def short(prompts, completions, **columns):
    return [1.0]

def same(prompts, completions, **columns):
    return [1.0 for _ in completions]
"""


@pytest.fixture
def run(baro, project):
    """Run a config in a directory named after the test's case."""
    (project / "guard_rewards.py").write_text(REWARDS)

    def run(verb, name, config, first=""):
        (project / f"{name}.yaml").write_text(config)
        return baro(verb, f"{name}.yaml", "--out", f"stopped/{name}", first=first)

    return run


@pytest.fixture
def stopped(run, project):
    """Run a config to its stop, and once more: it goes on from its checkpoint and stops for the same reason."""

    def check(verb, name, config, *, first="", code=3):
        said, again = (run(verb, name, config, first) for _ in range(2))
        for one in (said, again):
            assert (one.code, one.out) == (code, ""), one.err
            assert "Traceback" not in one.err
        assert said.errors == again.errors
        path = project / "stopped" / name
        assert json.loads((path / "run.json").read_text())["status"] == "stopped"
        return said.errors, sorted(int(folder.name[-6:]) for folder in path.glob("checkpoints/step-*"))

    return check


NAN_IN_STEP_6 = """
from baro.trainer import Trainer
train_step = Trainer._train_step
def broken(self, *step):
    if self.step == 5:
        next(self.objective.policy.parameters()).data.fill_(float("nan"))
    return train_step(self, *step)
Trainer._train_step = broken
"""


def test_a_loss_that_is_no_number(stopped, run):
    sentence, checkpoints = stopped("sft", "nan", SFT.format(rate="1e-2"), first=NAN_IN_STEP_6)
    assert sentence == (
        "step 6: the loss is nan and the gradient norm nan; no update was made. Lower the learning rate, or look at the"
        " last rows of metrics.jsonl"
    )
    assert checkpoints == [2, 4]
    assert run("sft", "nan", SFT.format(rate="1e-2")).code == 0  # the checkpoint is a good one


def test_a_learning_rate_that_breaks_the_model(stopped):
    sentence, checkpoints = stopped("sft", "rate", SFT.format(rate="1e30"))
    assert re.fullmatch(
        r"step 2: the loss is (nan|inf|[\d.]+) and the gradient norm (nan|inf); no update was made\. Lower the learning"
        r" rate, or look at the last rows of metrics\.jsonl",
        sentence,
    )
    assert checkpoints == []


SPARE = """
import torch
from baro.methods import sft
load_policy = sft.load_policy
def with_spare(folder, **options):
    policy = load_policy(folder, **options)
    policy.spare = torch.nn.Parameter(torch.zeros(2), requires_grad={trained})
    policy.spare.grad = {gradient}
    return policy
sft.load_policy = with_spare
"""


@pytest.mark.parametrize(
    ("trained", "gradient", "sentence"),
    [
        (True, "None", "policy: spare is to be trained but received no gradient; freeze it or use it"),
        (False, "torch.ones(2)", "policy: spare is frozen but received a gradient; train it or detach it"),
    ],
)
def test_gradients_that_do_not_reach_what_they_should(stopped, trained, gradient, sentence):
    first = SPARE.format(trained=trained, gradient=gradient)
    assert stopped("sft", f"spare-{trained}", SFT.format(rate="1e-2"), first=first) == (sentence, [])


def test_too_much_kl(stopped):
    config = PPO.format(by="length_reward:short", errors=0, kl=0.001)
    sentence, checkpoints = stopped("ppo", "kl", config)
    assert re.fullmatch(
        r"the mean KL to the reference is \d+\.\d\d nats per completion, above kl\.stop_above=0\.001; raise kl\.coef or"
        r" lower the learning rate",
        sentence,
    )
    assert checkpoints[0] == 2


def test_rewards_that_fail(stopped, project):
    def fails(function):
        return stopped("ppo", function, PPO.format(by=f"guard_rewards:{function}", errors=0.05, kl=100), code=1)

    much = "scores failed, more than rollout.max_error_fraction=0.05 allows; the first:"
    nobody = f"{much} no reward scores this completion"
    assert fails("none") == (f"rollout 0: 4 of 4 {nobody} (none returned None)", [])
    assert fails("half") == (f"rollout 0: 2 of 4 {nobody} (half returned None)", [])


GRPO = """
policy: base
prompts: prompts.jsonl
rewards: [{by: "guard_rewards:same"}]
rollout: {prompts: 2, completions: 2}
sampling: {max_new_tokens: 4}
trainer: {steps: 30, checkpoint_every: 10, learning_rate: 1e-2}
"""


def test_a_reward_that_tells_nothing_apart(stopped):
    sentence, checkpoints = stopped("grpo", "same", GRPO)
    assert sentence == (
        "in 20 rollouts one after the other all completions of every prompt had equal scores, so that nothing can be "
        "learned; look at samples.jsonl: is the reward broken, or the task too hard or too easy?"
    )
    assert checkpoints[-1] == 10


def test_a_reward_function_that_raises(run, project):
    said = run("ppo", "raises", PPO.format(by="guard_rewards:failing", errors=0.05, kl=100))
    assert said.code == 1
    assert said.errors == (
        "rollout 2: 4 of 4 scores failed, more than rollout.max_error_fraction=0.05 allows; the first: failing raised"
        f" ValueError: no connection ({project}/guard_rewards.py:13)"
    )
    assert run("ppo", "raises", PPO.format(by="guard_rewards:failing", errors=0.05, kl=100)).code == 0


def test_few_failures_are_left_out(run, project):
    said = run("ppo", "few", PPO.format(by="guard_rewards:half", errors=0.5, kl=100))
    assert said.code == 0, said.err
    assert len((project / "stopped/few/samples.jsonl").read_text().splitlines()) == 4 * 2  # of 4 rollouts of 4


def test_a_reward_function_that_returns_too_few(run):
    said = run("ppo", "short", PPO.format(by="guard_rewards:short", errors=0.05, kl=100))
    assert said.code == 2
    assert said.errors == "short: returned 1 rewards for 4 completions; one each, in their order"


def test_a_gradient_norm_of_0_is_no_limit(run, project):
    for name in ("0", "1e9"):
        config = SFT.format(rate=f"1e-2, max_grad_norm: {name}")
        assert run("sft", f"norm-{name}", config).code == 0
    one, other = (project / "stopped" / f"norm-{name}" / "model/model.safetensors" for name in ("0", "1e9"))
    assert one.read_bytes() == other.read_bytes() != (project / "base/model.safetensors").read_bytes()
