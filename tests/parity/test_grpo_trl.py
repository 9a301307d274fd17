"""GRPO and RLOO against TRL 1.16.0: losses, gradients and advantages on the same completions and rewards."""

import math

import peer
import pytest
import torch

from baro.batch import Sample, branch
from baro.config import load_config
from baro.functional.ratios import sampler_weights
from baro.grpo_config import Config
from baro.methods import grpo
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
VOCABULARY = 40
GROUPS, SIZE, LONGEST = 2, 4, 6
PROMPTS = [[5, 6, 7], [8, 9]]
LENGTHS = [3, 6, 1, 4, 2, 5, 6, 3]
ADVANTAGES = [1.0, -0.5, 0.3, -0.8, 2.0, 0.0, -1.2, 0.4]
DRIFT = 0.4
"""Nats by which old log-probs differ from today's, so that most ratios are bounded one way or the other."""


def config(**values):
    given = {"policy": "-", "prompts": "-", "rewards": [{"by": "m:f"}], "sampling": {"max_new_tokens": LONGEST}}
    given["rollout"] = {"completions": SIZE, "prompts": GROUPS}
    return load_config(Config, None, values=given | values)


def completions():
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(10, VOCABULARY, (length,), generator=drawn) for length in LENGTHS]


def trainer(kind, folder, sampled=False, **options):
    """A trainer of theirs that is only asked for its loss or advantages."""
    plain = peer.settings(folder) | {"per_device_train_batch_size": GROUPS * SIZE}
    del plain["max_length"]
    settings = {"num_generations": SIZE, "max_completion_length": LONGEST, "max_steps": 1, **options}
    tokens = peer.tokenizer()
    rows = peer.Dataset.from_list([{"prompt": "What is red?"}, {"prompt": "2 + 2"}] * SIZE)
    made = getattr(peer.trl, f"{kind}Trainer")(
        peer.policy(0, len(tokens) if sampled else VOCABULARY),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=getattr(peer.trl, f"{kind}Config")(**plain, **settings),
        train_dataset=rows,
        processing_class=tokens,
    )
    made.current_gradient_accumulation_steps = 1
    return made


def padded(parts, side="right"):
    widest = max(map(len, parts))
    ids, mask = (torch.zeros(len(parts), widest, dtype=torch.long) for _ in range(2))
    for row, part in enumerate(parts):
        where = slice(0, len(part)) if side == "right" else slice(widest - len(part), widest)
        ids[row, where], mask[row, where] = torch.as_tensor(part), 1
    return ids, mask


def logprobs(seed):
    """Of each completion by the model of that seed, one row at a time."""
    model, found = peer.policy(seed, VOCABULARY), []
    for k, ids in enumerate(completions()):
        prompt = torch.tensor(PROMPTS[k // SIZE])
        with torch.no_grad():
            logits = model(torch.cat([prompt, ids])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found.append(logits.gather(1, ids[:, None])[:, 0])
    return found


def old_logprobs():
    drawn = torch.Generator().manual_seed(5)
    return [now + DRIFT * torch.randn(len(now), generator=drawn) for now in logprobs(0)]


def given_samples(reference, weights=None):
    old, done = old_logprobs(), []
    for k, ids in enumerate(completions()):
        weight = torch.ones(len(ids)) if weights is None else weights[k]
        fields = {"old_logprobs": old[k], "advantages": ADVANTAGES[k] * weight}
        if reference is not None:
            fields["ref_logprobs"] = reference[k]
        units = {"learned_tokens": float(len(ids)), "learned_completions": 1.0}
        done.append(branch(ids).with_(token_fields=fields, fields={"learned": 1.0, "kl_coef": 0.3}, units=units))
    groups = [done[start : start + SIZE] for start in range(0, len(done), SIZE)]
    return [Sample(torch.tensor(prompt), tuple(group)) for prompt, group in zip(PROMPTS, groups, strict=True)]


CASES = {
    "grpo": ({"loss_type": "grpo"}, {"aggregate": "sequence"}),
    "bnpo": ({"loss_type": "bnpo"}, {"aggregate": "token"}),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {"aggregate": "token", "clip_range_high": 0.28}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"aggregate": "constant"}),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.3}, {"policy_loss": "cispo", "limit": 1.3}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1},
        {"policy_loss": "gspo", "clip_range": 0.1, "aggregate": "sequence"},
    ),
}


@pytest.mark.parametrize(
    ("name", "beta"), [*((name, 0.0) for name in CASES), *((name, 0.3) for name in CASES if name != "gspo")]
)
def test_losses(name, beta, tmp_path):
    """Of gspo their KL is times the ratio of the sequence, and ours times the token's."""
    assert_same_loss(name, beta, tmp_path)


@pytest.mark.parametrize("name", ["grpo", "dapo", "cispo"])
@pytest.mark.parametrize(
    ("statistic", "mode", "band"),
    [("token", "clip", (0.0, 1.2)), ("token", "mask", (0.7, 1.4)), ("product", "mask", (0.0, 1.5))],
)
def test_losses_weighed_by_the_sampler(name, statistic, mode, band, tmp_path):
    """We weigh advantages, they the loss before the KL is added."""
    drawn = torch.Generator().manual_seed(9)
    of = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    old = torch.cat(old_logprobs())
    sampled = old + 0.3 * torch.randn(len(old), generator=drawn)
    weights, beyond = sampler_weights(old, sampled, of, len(LENGTHS), statistic=statistic, mode=mode, band=band)
    assert 0 < beyond.sum() < len(beyond)
    assert_same_loss(name, 0.3, tmp_path, weights.split(LENGTHS))


def assert_same_loss(name, beta, tmp_path, weights=None):
    told, own = CASES[name]
    theirs = trainer("GRPO", tmp_path, beta=0.0, **told)
    theirs.beta = beta  # set later, since they would look for the reference at the hub
    prompts, prompt_mask = padded([PROMPTS[k // SIZE] for k in range(len(LENGTHS))], side="left")
    ids, mask = padded(completions())
    old = torch.zeros(mask.shape)
    old[mask.bool()] = torch.cat(old_logprobs())
    inputs = {
        "prompt_ids": prompts, "prompt_mask": prompt_mask, "completion_ids": ids, "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES), "old_per_token_logps": old, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    reference = logprobs(7) if beta else None
    if reference is not None:
        inputs["ref_per_token_logps"] = torch.zeros(mask.shape).masked_scatter(mask.bool(), torch.cat(reference))
    if weights is not None:
        theirs.use_vllm = theirs.vllm_importance_sampling_correction = True
        ratio = torch.zeros(mask.shape).masked_scatter(mask.bool(), torch.cat(list(weights)))
        inputs["importance_sampling_ratio"] = ratio
    model = theirs.model.train()
    expected = peer.theirs(theirs._compute_loss(model, inputs), model)
    objective = grpo.Objective(ScoredModel(peer.policy(0, VOCABULARY)), config(**own, kl={"coef": beta}))
    peer.assert_same(peer.ours(objective, given_samples(reference, weights), micro_batch_tokens=24), expected)


def test_rloo(tmp_path):
    theirs = trainer("RLOO", tmp_path, beta=0.0)
    prompts, prompt_mask = padded([PROMPTS[k // SIZE] for k in range(len(LENGTHS))], side="left")
    ids, mask = padded(completions())
    inputs = {
        "prompt_ids": prompts, "prompt_mask": prompt_mask, "completion_ids": ids, "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES), "old_logps": torch.stack([one.sum() for one in old_logprobs()]),
    }  # fmt: skip
    model = theirs.model.train()
    expected = peer.theirs(theirs._compute_loss(model, inputs), model)
    own = config(preset="rloo", kl={"coef": 0.0})
    objective = grpo.Objective(ScoredModel(peer.policy(0, VOCABULARY)), own)
    peer.assert_same(peer.ours(objective, given_samples(None), micro_batch_tokens=24), expected)


# -------------------------------------------------------------------------------------------------------- advantages

REWARDS = {
    "plain": [1.0, 0.0, 0.0, 0.0, 3.0, 1.0, 2.0, 2.0],
    "tied": [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0],
    "none": [1.0, None, 0.0, 0.5, None, None, None, 2.0],
}


def their_advantages(kind, folder, rewards, **options):
    """By their own code, from rewards that a function of ours gives."""
    made = trainer(kind, folder, sampled=True, **options)
    made.reward_funcs = [lambda completions, **_: list(rewards)]
    rows = [{"prompt": "What is red?"}] * SIZE + [{"prompt": "2 + 2"}] * SIZE
    made.model.train()
    return made._generate_and_score_completions(rows)["advantages"].tolist()


@pytest.mark.parametrize("rewards", REWARDS)
@pytest.mark.parametrize(
    ("kind", "told", "own"),
    [
        ("GRPO", {"scale_rewards": "group"}, {}),
        ("GRPO", {"scale_rewards": "batch"}, {"scale": "batch"}),
        ("GRPO", {"scale_rewards": "none"}, {"scale": "none"}),
        ("RLOO", {}, {"baseline": "leave_one_out", "scale": "none"}),
    ],
)
def test_advantages(rewards, kind, told, own, tmp_path):
    """A completion without a reward is none of ours: its score has failed, and it is taken out before."""
    given = REWARDS[rewards]
    expected = their_advantages(kind, tmp_path, given, beta=0.0, **told)
    kept = [k for k, reward in enumerate(given) if reward is not None]
    group = torch.tensor([k // SIZE for k in kept])
    values = torch.tensor([given[k] for k in kept], dtype=torch.float64)
    found = grpo.advantages(values, group, GROUPS, config(advantage=own).advantage, LocalWorld())
    assert found.tolist() == pytest.approx([expected[k] for k in kept], abs=1e-5)
    assert [expected[k] for k in range(len(given)) if k not in kept] == [0.0] * (len(given) - len(kept))
    assert not any(map(math.isnan, found.tolist()))
