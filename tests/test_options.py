"""Every option does something: changed on a tiny run it changes weights, metrics, records or the refusal.

A key that is not changed here stands in NOTHING_TO_SEE with the reason; a new key fails until it is in one of both.
"""

import ast
import hashlib
import inspect
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from baro.config import NO_EFFECT, Config, load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.declared import declared_keys, inputs_in
from baro.errors import BaroError
from baro.feedback import coefficients
from baro.models.load import Architecture, new_policy, save_policy
from baro.problems import union_members
from baro.rollout.engine import Engine
from baro.verbs import VERBS

SOURCE = Path(__file__).parents[1] / "src" / "baro"
TESTED = (
    *(
        "base",
        "sft",
        "reward",
        "cost",
        "dpo",
        "kto",
        "ppo",
        "safe-ppo",
        "grpo",
        "critique",
        "generate",
        "label",
        "verify",
        "evaluate",
    ),
    "feedback collect",
)

# ------------------------------------------------------------------------------------------------ a field that is read

READ_WHOLE = {
    "SamplingConfig": "SamplingConfig.params makes SamplingParams of all of it",
}


def config_classes():
    """Every config class of Baro that a verb, chat or the feedback server can be given."""
    pending = [one.load()[0] for one in VERBS.values()]
    from baro.methods import chat

    pending.append(chat.Config)
    found = {}
    while pending:
        one = pending.pop()
        if one.__qualname__ + one.__module__ in found:
            continue
        found[one.__qualname__ + one.__module__] = one
        pending += [block for field in one.model_fields.values() for block in inner_classes(field.annotation)]
    return sorted(found.values(), key=lambda one: (one.__module__, one.__name__))


def inner_classes(annotation):
    members = union_members(annotation)
    nested = [inner for member in members for inner in getattr(member, "__args__", ())]
    return [one for one in (*members, *nested) if isinstance(one, type) and issubclass(one, Config)]


def attributes_read():
    """Names after a dot in Baro's code, the bodies of config classes left out: a check alone uses nothing."""
    names = set()
    configs = {one.__name__ for one in config_classes()} | {"OptimiserConfig", "OnlineConfig"}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        checks = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name in configs
            for method in node.body
            if isinstance(method, ast.FunctionDef)
            and method.decorator_list
            and "validator" in ast.unparse(method.decorator_list[0])
            for inner in ast.walk(method)
        }
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and id(n) not in checks}
    return names


def test_every_field_of_every_config_is_read_somewhere():
    read = attributes_read() | {"dropout"}  # which may only be 0
    declared = {key for one in config_classes() for key, _, _ in declared_keys(one)}  # read where a run is opened
    unread = [
        f"{one.__module__}.{one.__name__}.{name}"
        for one in config_classes()
        if one.__name__ not in READ_WHOLE
        for name in one.model_fields
        if name not in read and name not in declared
    ]
    assert not unread, "nothing reads these"


# ---------------------------------------------------------------------------------------------- an option that acts

TRAINER = {"steps": 3, "batch_size": 4, "learning_rate": 0.01, "held_out_fraction": 0.25}
ONLINE = {"steps": 2, "learning_rate": 0.01}
DATA = {"max_length": 96, "max_dropped_fraction": 1.0}
LEAST = {
    "base": {
        "text": "pairs.jsonl",
        "architecture": {
            "vocabulary": 280, "hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "max_positions": 96,
        },
        "trainer": TRAINER | {"warmup_steps": 0},
        "data": DATA,
    },
    "sft": {"policy": "policy", "demonstrations": "pairs.jsonl", "trainer": TRAINER, "data": DATA},
    "reward": {"model": "policy", "preferences": "pairs.jsonl", "trainer": TRAINER, "data": DATA},
    "cost": {"model": "policy", "preferences": "safety.jsonl", "trainer": TRAINER, "data": DATA},
    "dpo": {"policy": "policy", "preferences": "pairs.jsonl", "trainer": TRAINER, "data": DATA},
    "kto": {"policy": "policy", "thumbs": "thumbs.jsonl", "trainer": TRAINER, "data": DATA},
    "ppo": {
        "policy": "policy", "prompts": "prompts.jsonl", "rewards": [{"by": "score_of_options:letters"}],
        "rollout": {"prompts": 4, "completions": 2, "epochs": 1, "minibatches": 2, "max_error_fraction": 1.0},
        "sampling": {"max_new_tokens": 6}, "trainer": ONLINE, "data": DATA,
    },
    "safe-ppo": {
        "policy": "policy", "prompts": "prompts.jsonl", "rewards": [{"by": "score_of_options:letters"}],
        "costs": [{"by": "score_of_options:digits"}], "constraint": {"limit": 1.0},
        "rollout": {"prompts": 4, "completions": 2, "epochs": 1, "minibatches": 2, "max_error_fraction": 1.0},
        "sampling": {"max_new_tokens": 6}, "trainer": ONLINE, "data": DATA,
    },
    "grpo": {
        "policy": "policy", "prompts": "prompts.jsonl", "rewards": [{"by": "score_of_options:letters"}],
        "rollout": {"prompts": 4, "completions": 3, "max_error_fraction": 1.0},
        "sampling": {"max_new_tokens": 6}, "trainer": ONLINE, "data": DATA,
    },
    "generate": {
        "policy": "policy", "prompts": "prompts.jsonl", "n": 2, "sampling": {"max_new_tokens": 6}, "data": DATA,
    },
    "critique": {
        "constitution": "mine.yaml", "policy": "policy", "prompts": "prompts.jsonl", "rounds": 1,
        "critic": {"by": "score_of_options:chatter"}, "reviser": {"by": "score_of_options:chatter"},
        "unfinished": "keep", "sampling": {"max_new_tokens": 6}, "max_error_fraction": 1.0,
    },
    "label": {"answers": "answers.jsonl", "by": "score_of_options:judge"},
    "verify": {"file": "sums.jsonl", "verifier": "gsm8k"},
    "evaluate": {
        "policies": {"new": "policy"}, "against": "other", "prompts": "prompts.jsonl",
        "judges": {"judge": "score_of_options:judge"}, "sampling": {"max_new_tokens": 6}, "data": DATA,
    },
    "feedback collect": {"answers": "answers.jsonl", "by": "score_of_options:people", "overlap": 1},
}  # fmt: skip
DEAR = {"trainer.learning_rate": 5.0, "trainer.schedule": "constant"}  # the last weights are not the best
LORA = {"lora.r": 2}
OFFLINE = {
    "trainer.learning_rate": (0.02, {}),
    "trainer.epochs": (2, {"trainer.steps": None}),
    "trainer.steps": (2, {}),
    "trainer.batch_size": (3, {}),
    "trainer.schedule": ("cosine", {}),
    "trainer.warmup_steps": (2, {"trainer.warmup_steps": 0}),
    "trainer.max_grad_norm": (0.001, {}),
    "trainer.weight_decay": (0.5, {}),
    "trainer.optimizer": ("muon", {}),
    "trainer.seed": (5, {}),
    "trainer.evaluate_every": (2, {}),
    "trainer.held_out_fraction": (0.5, {}),
    "trainer.held_out": ("more.jsonl", {}),
    "trainer.keep": ("best", DEAR),
    "data.max_length": (24, {}),
    "data.max_dropped_fraction": (0.0, {}),
    "data.encoding": ("utf-16", {}),
    "compute.device": ("cuda", {}),
    "compute.dtype": ("bfloat16", {}),
}
TEMPLATE = {"data.template": ("none", {})}


def columns(records: str) -> dict:
    """What is said about the columns of a file, which is the input of this name."""
    return {
        "data.system": ("drop", {records: "talks.jsonl"}),
        "data.criteria": (["warmth_score"], {records: "warm.jsonl"}),
        "data.ignore": (["weight"], {records: "weighed.jsonl"}),
    }


ADAPTERS = {
    "lora.r": (3, LORA),
    "lora.alpha": (8.0, LORA),
    "lora.target_modules": (["q_proj"], LORA),
}
SAMPLING = {
    "sampling.max_new_tokens": (4, {}),
    "sampling.temperature": (0.5, {}),
    "sampling.top_k": (2, {}),
    "sampling.top_p": (0.5, {}),
    "sampling.min_p": (0.99, {}),
}
WHOLE = {"reward_model": "reward", "rewards": [], "accept_weak_reward_model": True}  # at which values start
IMITATED = {"ptx.demonstrations": "texts.jsonl"}
EVALUATED = {
    "evaluation.prompts": "prompts.jsonl", "evaluation.rewards": [{"by": "score_of_options:letters"}],
    "evaluation.judge": "score_of_options:judge", "evaluation.every": 2,
}  # fmt: skip
BEST_OF = {"best_of": {"n": 2, "by": "score_of_options:letters"}}
CHOOSE = {"choose": {"policy": "margin", "count": 5, "rewards": ["score_of_options:letters"]}}
SEVERAL = {"by": ["score_of_options:letters", "score_of_options:digits"], "scaled_on": "answers.jsonl"}
PRINCIPLES = {"by": None, "constitution": "mine.yaml", "labeller.by": "score_of_options:chatter"}
BEST_OF_SEVERAL = {"best_of": {"n": 8, **SEVERAL}}
ONLINE_CHANGES = (
    {key: OFFLINE[key] for key in OFFLINE if key.startswith(("data", "compute"))}
    | TEMPLATE
    | ADAPTERS
    | SAMPLING
    | {
        "data.system": ("drop", {"prompts": "talks.jsonl"}),
        "trainer.learning_rate": (0.02, {}),
        "trainer.epochs": (2, {"trainer.steps": None, "rollout.prompts": 8}),
        "trainer.steps": (1, {}),
        "trainer.schedule": ("cosine", {"trainer.steps": 4}),
        "trainer.warmup_steps": (2, {}),
        "trainer.max_grad_norm": (0.001, {}),
        "trainer.weight_decay": (0.5, {}),
        "trainer.optimizer": ("muon", {}),
        "trainer.seed": (5, {}),
        "data.max_length": (14, {}),
        "data.max_dropped_fraction": (0.0, {}),
        "rewards": ([{"by": "score_of_options:letters", "weight": 2.0}], {}),
        "reward_model": ("reward", {"rewards": []}),
        "accept_weak_reward_model": (True, {"rewards": [{"by": "weak"}]}),
        "ref_policy": ("other", {}),
        "reward_shaping.clip": (0.5, {}),
        "reward_shaping.missing_eos": ("replace", {}),
        "reward_shaping.missing_eos_penalty": (5.0, {"reward_shaping.missing_eos": "subtract"}),
        "reward_shaping.normalise": ("sum", {}),
        "ptx.demonstrations": ("more.jsonl", IMITATED),
        "ptx.coef": (3.0, IMITATED),
        "ptx.batch_size": (1, IMITATED),
        "evaluation.prompts": ("more.jsonl", EVALUATED),
        "evaluation.rewards": ([{"by": "score_of_options:sometimes"}], EVALUATED),
        "evaluation.judge": (None, EVALUATED),
        "evaluation.completions": (2, EVALUATED),
        "evaluation.every": (1, EVALUATED | {"trainer.steps": 4}),
        "evaluation.keep": ("sooner", EVALUATED | {"evaluation.rewards": [{"by": "score_of_options:sooner"}]}),
    }
)
"""What the online methods share."""
ROUGH = {"sampler_gate.band": [0.9, 1.1]}  # with a sampler that is not exact
BOTH = [{"by": "score_of_options:letters"}, {"by": "score_of_options:digits"}]
PPO_CHANGES = ONLINE_CHANGES | {
    "value_model": ("reward", {}),
    "rollout.prompts": (5, {}),
    "rollout.completions": (3, {}),
    "rollout.epochs": (2, {"rollout.minibatches": 1}),
    "rollout.minibatches": (1, {}),
    "rollout.max_error_fraction": (0.0, {"rewards": [{"by": "score_of_options:sometimes"}]}),
    "kl.coef": (1.0, {"trainer.steps": 4}),
    "kl.target": (0.001, {"trainer.steps": 6}),
    "kl.horizon": (20.0, {"trainer.steps": 6, "kl.target": 0.001}),
    "kl.stop_above": (1e-6, {"trainer.steps": 4}),
    "value.learning_rate": (0.1, {}),
    "value.clip_range": (1e-4, {"rollout.epochs": 2}),
    "reward_shaping.whiten": (True, {}),
    "clip_range": (0.0001, {"rollout.epochs": 3, "trainer.steps": 6}),
    "gamma": (0.5, {}),
    "gae_lambda": (0.1, {}),
    "early_stop_kl": (1e-9, {"trainer.steps": 8, "rollout.epochs": 2}),
    "kl.reference": ("ema", {"trainer.steps": 6, "kl.coef": 1.0}),
    "kl.ema_decay": (0.1, {"trainer.steps": 6, "kl.coef": 1.0, "kl.reference": "ema"}),
    "kl.refresh_every": (2, {"trainer.steps": 6, "kl.coef": 1.0, "kl.reference": "refresh"}),
    "value.pretrain_rollouts": (1, {}),
    "shared_trunk": (False, LORA | WHOLE),
    "rollout.draws": (3, {"rewards": [{"by": "score_of_options:odd"}]}),
}
SCALAR = {
    "pooling": ("mean", {}),
    "head": ("ffn", {}),
    "freeze_backbone": (True, {}),
    "input_template": ("{completion} of {prompt}", {}),
}
"""What reward and cost models share."""
CHANGES = {
    "base": OFFLINE
    | {
        "data.max_dropped_fraction": (0.0, {"text": "texts.jsonl"}),
        "architecture.vocabulary": (270, {}),
        "architecture.split_digits": (True, {}),
        "architecture.hidden_size": (8, {}),
        "architecture.intermediate_size": (16, {}),
        "architecture.layers": (2, {}),
        "architecture.heads": (1, {}),
        "architecture.max_positions": (24, {}),
        "data.template": ("none", {}),
    }
    | columns("text"),
    "sft": OFFLINE | TEMPLATE | ADAPTERS | columns("demonstrations"),
    "cost": OFFLINE
    | TEMPLATE
    | ADAPTERS
    | {
        "trainer.held_out": ("more_safety.jsonl", {}),
        "data.system": ("drop", {"preferences": "safety_talks.jsonl"}),
        "data.ignore": (["weight"], {"preferences": "safety_weighed.jsonl"}),
        "margin_scale": (2.0, {}),
        **SCALAR,
    },
    "reward": OFFLINE
    | TEMPLATE
    | ADAPTERS
    | columns("preferences")
    | SCALAR
    | {
        "margin_scale": (0.1, {"preferences": "scored.jsonl"}),
        "loss": ("plackett_luce", {"preferences": "rankings.jsonl"}),
        "label_smoothing": (0.2, {}),
        "center_rewards_coefficient": (0.5, {}),
        "criteria": ({"kind": 1.0}, {"preferences": "rated.jsonl", "loss": "regression"}),
        "sigmoid": (True, {}),
        "members": (2, {}),
        "bootstrap": (True, {"members": 2}),
    },
    "dpo": OFFLINE
    | TEMPLATE
    | ADAPTERS
    | columns("preferences")
    | {
        "ref_policy": ("other", {}),
        "loss": ("ipo", {}),
        "beta": (1.0, {}),
        "label_smoothing": (0.2, {}),
        "gamma": (3.0, {"loss": "simpo"}),
        "sft_coef": (0.5, {}),
    },
    "kto": OFFLINE
    | TEMPLATE
    | ADAPTERS
    | columns("thumbs")
    | {
        "ref_policy": ("other", {}),
        "loss": ("apo_zero_unpaired", {}),
        "beta": (1.0, {}),
        "desirable_weight": (2.0, {}),
        "undesirable_weight": (2.0, {}),
    },
    "ppo": PPO_CHANGES,
    "safe-ppo": {key: one for key, one in PPO_CHANGES.items() if key != "reward_shaping.whiten"}
    | {
        "cost_model": ("reward", {"costs": []}),
        "costs": ([{"by": "score_of_options:letters", "weight": 3.0}], {}),
        "cost_value_model": ("reward", {}),
        "constraint.limit": (-5.0, {}),
        "constraint.mode": ("threshold", {}),
        "constraint.multiplier": (3.0, {}),
        "constraint.learning_rate": (0.5, {}),
        "constraint.proportional": (2.0, {}),
        "constraint.window": (2, {"trainer.steps": 4}),
        "constraint.delay": (1, {}),
        "constraint.floor": (0.9, {"constraint.limit": 100.0}),
        "constraint.ceiling": (1.1, {}),
    },
    "grpo": ONLINE_CHANGES
    | {
        "preset": ("rloo", {}),
        "rollout.prompts": (5, {}),
        "rollout.completions": (4, {}),
        "rollout.epochs": (2, {"trainer.steps": 3}),
        "rollout.minibatches": (2, {}),
        "rollout.max_error_fraction": (0.0, {"rewards": [{"by": "score_of_options:sometimes"}]}),
        "rollout.draws": (3, {"rewards": [{"by": "score_of_options:odd"}], "rollout.completions": 2}),
        "kl.coef": (1.0, {"trainer.steps": 4}),
        "kl.target": (0.001, {"trainer.steps": 6, "kl.coef": 1.0}),
        "kl.horizon": (20.0, {"trainer.steps": 6, "kl.coef": 1.0, "kl.target": 0.001}),
        "kl.stop_above": (1e-6, {"trainer.steps": 4}),
        "kl.reference": ("ema", {"trainer.steps": 6, "kl.coef": 1.0}),
        "kl.ema_decay": (0.1, {"trainer.steps": 6, "kl.coef": 1.0, "kl.reference": "ema"}),
        "kl.refresh_every": (2, {"trainer.steps": 6, "kl.coef": 1.0, "kl.reference": "refresh"}),
        "kl.place": ("reward", {"trainer.steps": 4, "kl.coef": 1.0}),
        "kl.estimator": ("k2", {"trainer.steps": 4, "kl.coef": 1.0}),
        "advantage.baseline": ("leave_one_out", {"advantage.scale": "none"}),
        "advantage.scale": ("none", {}),
        "advantage.ddof": (0, {}),
        "advantage.epsilon": (1.0, {}),
        "advantage.terms": ("each", {"rewards": BOTH}),
        "policy_loss": ("gspo", {"rollout.epochs": 2, "trainer.steps": 4}),
        "clip_range": (0.0001, {"rollout.epochs": 3, "trainer.steps": 6}),
        "clip_range_high": (0.0001, {"rollout.epochs": 3, "trainer.steps": 6}),
        "limit": (1.0, {"policy_loss": "cispo", "rollout.epochs": 3, "trainer.steps": 6}),
        "aggregate": ("sequence", {"sampling.max_new_tokens": 12}),
        "overlong_buffer": (6, {}),
        "truncated": ("leave_out", {"sampling.max_new_tokens": 12}),
        "sampler_gate.level": ("sequence", ROUGH),
        "sampler_gate.mode": ("mask", ROUGH),
        "sampler_gate.statistic": ("geometric_mean", ROUGH | {"sampler_gate.level": "sequence"}),
        "sampler_gate.band": ([0.5, 2.0], ROUGH),
    },
    "generate": SAMPLING
    | {
        "n": (3, {}),
        "seed": (5, {}),
        "limit": (2, {}),
        "data.max_length": (14, {}),
        "data.max_dropped_fraction": (0.0, {}),
        "data.template": ("none", {}),
        "data.encoding": ("utf-16", {}),
        "data.system": ("drop", {"prompts": "talks.jsonl"}),
        "compute.device": ("cuda", {}),
        "compute.dtype": ("bfloat16", {}),
    },
    "critique": SAMPLING
    | {
        "constitution": ("general", {}),
        "critic.by": ("score_of_options:silent", {}),
        "reviser.by": ("score_of_options:silent", {}),
        "rounds": (2, {}),
        "keep": ("all", {"rounds": 2}),
        "unfinished": ("drop", {}),
        "language": ("ko", {}),
        "max_error_fraction": (0.0, {}),
        "seed": (5, {}),
        "limit": (2, {}),
        "encoding": ("utf-16", {}),
        "compute.device": ("cuda", {}),
        "compute.dtype": ("bfloat16", {}),
    },
    "label": {
        "constitution": ("general", PRINCIPLES),
        "labeller.by": ("score_of_options:silent", PRINCIPLES),
        "judging.language": ("ko", PRINCIPLES),
        "judging.reasoning": (True, PRINCIPLES),
        "judging.clamp": ([0.4, 0.6], PRINCIPLES),
        "judging.verdicts": (3, PRINCIPLES | {"labeller.by": "score_of_options:silent"}),
        "judging.max_new_tokens": (2, PRINCIPLES | {"labeller.by": "score_of_options:silent"}),
        "max_error_fraction": (0.0, {"by": "score_of_options:sometimes"}),
        "as": ("ranks", {}),
        "pairs_per_prompt": (3, {}),
        "seed": (5, {}),
        "compute.device": ("cuda", {"by": "reward"}),
        "compute.dtype": ("bfloat16", {"by": "reward"}),
        "combine": ("worst", {"as": "ranks", **SEVERAL}),
        "penalty": (0.01, {"as": "ranks", "combine": "variance", **SEVERAL}),
        "scaled_on": ("texts.jsonl", {"as": "ranks", "combine": "worst", **SEVERAL}),
        "verifier": ({"name": "text", "answer": "kind"}, {"by": None, "verifier": {"name": "text", "answer": "other"}}),
    },
    "evaluate": SAMPLING
    | {
        "policies": ({"new": "other"}, {}),
        "against": ("policy", {}),
        "prompts": ("more.jsonl", {}),
        "pairs": ("more.jsonl", {}),
        "baseline_pairs": ("pairs.jsonl", {"pairs": "more.jsonl"}),
        "loss_on": ("more.jsonl", {}),
        "judges": ({"other": "score_of_options:judge"}, {}),
        "rewards": ({"letters": "score_of_options:letters"}, {}),
        "ref_policy": ("policy", {}),
        "best_of.n": (3, BEST_OF),
        "best_of.by": ("score_of_options:digits", BEST_OF),
        "best_of.verifier": (
            {"name": "length", "at_most": 9, "unit": "characters"},
            {"best_of": {"n": 4}, "best_of.verifier": {"name": "repetition", "n": 1, "unit": "characters"}},
        ),
        "best_of.combine": ("worst", BEST_OF_SEVERAL),
        "best_of.penalty": (50.0, {**BEST_OF_SEVERAL, "best_of.combine": "variance"}),
        "best_of.scaled_on": ("texts.jsonl", {**BEST_OF_SEVERAL, "best_of.combine": "worst"}),
        "completions": (2, {}),
        "seed": (5, {}),
        "limit": (2, {}),
        "data.max_length": (14, {}),
        "data.max_dropped_fraction": (0.0, {}),
        "data.template": ("none", {}),
        "data.encoding": ("utf-16", {}),
        "data.system": ("drop", {"prompts": "talks.jsonl"}),
        "data.criteria": (["warmth_score"], {"prompts": None, "pairs": "warm.jsonl"}),
        "data.ignore": (["weight"], {"prompts": None, "pairs": "weighed.jsonl"}),
        "compute.device": ("cuda", {}),
        "compute.dtype": ("bfloat16", {}),
    },
    "verify": {
        "verifier": ({"name": "gsm8k", "method": "flexible"}, {}),
        "audit": (True, {}),
        "encoding": ("utf-16", {}),
        "ignore": (["score"], {"file": "scored_sums.jsonl"}),
    },
    "feedback collect": {
        "kind": ("thumb", {}),
        "per_prompt": (2, {}),
        "size": (3, {"kind": "rank"}),
        "overlap": (2, {}),
        "seed": (5, {}),
        "criteria": (["empathy"], {"kind": "criteria"}),
        "expand": ("best", {"kind": "rank"}),
        "labels.method": ("majority", {}),
        "labels.rankings": ("bradley_terry", {"kind": "rank", "overlap": 2}),
        "labels.prior": (2.0, {}),
        "labels.ties": ("drop", {"overlap": 2}),
        "labels.by_strength": (True, {}),
        "labels.margin": ("log_odds", {}),
        "labels.largest_margin": (0.1, {"labels.margin": "log_odds"}),
        "labels.min_reliability": (1.0, {"overlap": 2}),
        "choose.policy": ("random", CHOOSE),
        "choose.count": (4, CHOOSE),
        "choose.rewards": (["score_of_options:digits"], CHOOSE),
        "choose.random_fraction": (0.9, CHOOSE),
    },
}
"""By verb and key: another value, and what has to be set in both runs for it to matter."""
NOTHING_TO_SEE = {
    "trainer.micro_batch_tokens": "memory and speed: gradients are the same to rounding (tests/seams)",
    "trainer.checkpoint_every": "marked: what is killed is resumed bit for bit (tests/faults)",
    "reward_shaping.whiten": "of ppo it is changed; grpo and safe-ppo refuse it",
    "shared_trunk": "of ppo it is changed; of grpo it is where a reward's adapter stands: memory, not results",
    "compute.gradient_checkpointing": "marked: the same numbers, computed twice (tests/models/test_place.py)",
    **dict.fromkeys(
        ("critic.model", "reviser.model", "labeller.model"), "in place of by, which is changed; test_critique.py"
    ),
    **dict.fromkeys(("rubric", "judge", "best_of.rubric"), "in place of by; tests/rewards/test_judge.py"),
    "data.criteria": "of prompts and of harm nothing is scored; elsewhere it is changed",
    "data.ignore": "of prompts nothing is judged; elsewhere it is changed",
}
NOTHING_TO_COLLECT = {
    "raters": "marked: how many people are invited, not how many are simulated (test_collect.py)",
    "lang": "marked: of the page that people judge on (tests/feedback/test_collect.py)",
    "port": "marked: where that page is served",
    "open_page": "marked: opens a browser",
    "labels.adjudicated": "simulated people adjudicate nothing (tests/feedback/test_labels.py)",
    "labels.guidelines": "a stage has one guideline (tests/feedback/test_labels.py)",
}
NOTHING_TO_SEE |= NOTHING_TO_COLLECT
INPUTS = {"text", "policy", "demonstrations", "model", "preferences", "thumbs", "prompts", "answers", "by", "file"}
"""What a verb cannot do without: tests/test_inputs.py."""


def leaves(config, prefix=""):
    for name, field in config.model_fields.items():
        blocks = [one for one in union_members(field.annotation) if isinstance(one, type) and issubclass(one, Config)]
        if name == "server":  # tests/rollout/test_remote.py
            continue
        # the options of verifiers are walked by tests/rewards/test_verifiers.py, those of judges by test_judge.py
        if blocks and name not in ("verifier", "rubric", "judge"):
            yield from leaves(blocks[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{field.alias or name}", field


@pytest.mark.parametrize("verb", TESTED)
def test_every_key_is_changed_here_or_has_a_reason(verb):
    known = dict(leaves(VERBS[verb].load()[0]))
    missing = [key for key in known if key not in CHANGES[verb] and key not in NOTHING_TO_SEE and key not in INPUTS]
    assert not missing
    assert [key for key in CHANGES[verb] if key not in known] == []
    marked = [key for key, field in known.items() if field.json_schema_extra == NO_EFFECT]
    assert set(marked) <= NOTHING_TO_SEE.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny models, files of every kind, and rewards and a judge in a module."""
    folder = tmp_path_factory.mktemp("options")
    words = [(word, name) for word in ("hi", "bye", "thanks", "welcome") for name in ("Mina", "Jun", "Sora")]
    pairs = [{"prompt": f"Say {a} to {b}.", "chosen": f"{a}, dear {b}!", "rejected": f"{a}."} for a, b in words]
    rated = [{"kind": 1.0, "true": 0.0}, {"kind": 0.0, "true": 0.5}]
    long = {"prompt": "Say it again. " * 30, "chosen": "No, dear!", "rejected": "no"}  # dropped, which is allowed
    sums = [
        {"prompt": f"{i} + 1?", "completion": said.format(i + 1), "answer": i + 1, "known": True}
        for i in range(5)
        for said in ("#### {}", "It is {}")
    ]
    safety = [
        {"prompt": p["prompt"], "responses": [p["chosen"], p["rejected"]], "unsafe": [0, 1]}
        | {"safety_ranks": [1, 2], "severity": [0, 2]}
        for p in [*pairs, long]
    ]
    files = {
        "pairs": [*pairs, long],
        "more": pairs[:3],
        "thumbs": [
            {"prompt": pair["prompt"], "completion": pair[name], "label": name == "chosen"}
            for pair in [*pairs, long]
            for name in ("chosen", "rejected")
        ],
        "talks": [{"system": "Be kind.", **pair} for pair in pairs],
        "warm": [
            {"prompt": pair["prompt"], "completion": pair[name], "warmth_score": n}
            for pair in pairs
            for n, name in enumerate(("rejected", "chosen"))
        ],
        "weighed": [{**pair, "weight": 0.5} for pair in pairs],
        "scored": [{**pair, "score_chosen": 9, "score_rejected": i} for i, pair in enumerate(pairs)],
        "texts": [{"text": pair["chosen"]} for pair in [*pairs, pairs[0]]],  # one stands there twice, and is dropped
        "prompts": [{"prompt": pair["prompt"]} for pair in [*pairs, long]],
        "answers": [
            {
                "prompt": p["prompt"],
                "responses": [p["chosen"], p["rejected"], "no", "yes!"],
                "kind": p["chosen"],
                "other": "no",
            }
            for p in pairs
        ],
        "safety": safety,
        "more_safety": safety[:3],
        "safety_talks": [{"system": "Be kind.", **row} for row in safety[:-1]],
        "safety_weighed": [{**row, "weight": 0.5} for row in safety[:-1]],
        "sums": sums,
        "scored_sums": [{**row, "score": 0.5} for row in sums],
        "rankings": [
            {"prompt": p["prompt"], "responses": [p["chosen"], p["rejected"], "no"], "ranks": [1, 2, 3]} for p in pairs
        ],
        "rated": [
            {
                "prompt": p["prompt"],
                "responses": [p["chosen"], "no"],
                "scores": rated,
            }
            for p in pairs
        ],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer([" ".join(pair.values()) for pair in pairs], 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    (folder / "mine.yaml").write_text(
        "language: en\nprinciples:\n  - {name: kind, principle: {en: Be kind., ko: 친절하게 답한다.}}\n"
        "  - {name: brief, principle: {en: Be brief., ko: 짧게 답한다.}}\n"
    )
    for seed, name in enumerate(("policy", "other")):
        made = new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=seed)
        save_policy(made, folder / name)
        template.save(folder / name)
    (folder / "score_of_options.py").write_text(
        inspect.getsource(scores)
        + "\nletters, digits, odd, sometimes, sooner, judge, people, chatter, silent = scores()\n"
    )
    return folder


def scores():
    from baro.records import UNKNOWN, OptionScores, Reply, Verdict

    def letters(prompts, completions, **columns):
        return [len(set(text)) / 4 for text in completions]

    def digits(prompts, completions, **columns):
        return [sum(map(ord, text)) % 7 for text in completions]

    def odd(prompts, completions, **columns):
        return [len(text) % 2 for text in completions]

    def sometimes(prompts, completions, **columns):
        return [None if i == 0 else float(len(text)) for i, text in enumerate(completions)]

    calls = iter(range(10**6))

    def sooner(prompts, **columns):
        return [-float(next(calls))] * len(prompts)

    class Judge:
        def compare(self, pairs):
            return [Verdict(1.0 if "!" in first.text or len(first.text) < 3 else 0.0) for first, _ in pairs]

    class People:
        """Three who like what is long, each in their own way; the last one thinks otherwise."""

        count = 3

        def answer(self, who, task):
            texts = [one["text"] for one in task["responses"]]
            order = sorted(range(len(texts)), key=lambda i: (len(texts[i]) * (1 if who == 2 else -1), texts[i]))
            if task["kind"] == "thumb":
                return {"kind": "thumb", "thumbs": [{"good": len(text) > 6} for text in texts]}
            if task["kind"] == "rank":
                return {"kind": "rank", "ranks": [order.index(i) + 1 for i in range(len(texts))]}
            if task["kind"] == "criteria":
                keys = [one["key"] for one in task["criteria"]]
                return {"kind": "criteria", "scores": {key: [1 + len(text) % 5 for text in texts] for key in keys}}
            if who == 1 and len(texts[0]) % 2:
                return {"kind": "pair", "choice": {"outcome": "tie"}}
            return {"kind": "pair", "choice": {"outcome": "win", "position": order[0], "strength": 1 + who}}

    class Chatter:
        """Says how long what it was asked is; a revision is the answer with the critique in it."""

        def __init__(self, name):
            self.name = name

        def chat(self, conversations, n, params, keys):
            both = zip(conversations, keys, strict=True)
            return [[self.say(one, key + k, params) for k in range(n)] for one, key in both]

        def say(self, turns, key, params):
            last = turns[-1].content
            if "(A)" in last:
                return Reply(
                    "(A)"[: params.max_new_tokens] if (key + len(last)) % 3 else "(B)"[: params.max_new_tokens]
                )
            words = " ".join(turn.content for turn in turns[-4:-1])
            return Reply(f"{self.name} {len(last)} {words}", finished=len(last) % 2 == 0)

        def options(self, conversations, options):
            known = [len(one[-1].content.partition("(B)")[0]) % 9 / 9 for one in conversations]
            return [OptionScores((-0.1 - p, -1.1 + p)) if self.name == "chatter" else UNKNOWN for p in known]

    people = People()
    return letters, digits, odd, sometimes, sooner, Judge(), people, Chatter("chatter"), Chatter("silent")


@pytest.fixture(scope="module")
def results(folder):
    """What a run came to, by its values; each is run once."""
    known = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr(coefficients, "RESAMPLES", 20)  # of intervals on an export's card, which no option is about
        patch.setattr(logging.getLogger("baro"), "disabled", True)  # put back: other modules' tests read what is said
        run_verb("reward", LEAST["reward"], folder / "reward")
        weak = run_verb("reward", LEAST["reward"], folder / "weak")
        figure = {"name": "reward_model/accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
        (weak / "figures.json").write_text(json.dumps([figure]))

        def result(verb, values):
            key = json.dumps([verb, values], sort_keys=True)
            if key not in known:
                known[key] = digest(verb, values, folder / f"run-{len(known)}")
            return known[key]

        yield result


def run_verb(verb, values, out):
    """Run it; all rows that it read have an account in its ledger, under the key that names them."""
    config_class, run = VERBS[verb].load()
    config = load_config(config_class, None, values=values)
    path = run(config, out).path
    named = {one.key: one.value for one in inputs_in(config_class, config) if one.kind == "records"}
    if verb == "feedback collect":  # whose prompts go into a store, which has an account of its own
        return path
    named.pop("baseline_pairs", None)  # of which only words are counted; what is unusable is said in the log
    accounts = json.loads((path / "ledger.json").read_text())
    assert {key.partition("/")[0]: account["input"] for key, account in accounts.items()} == named
    return path


def digest(verb, values, out):
    """A hash of weights, records, samples, figures and metrics; the words of a refusal."""
    try:
        run_verb(verb, values, out)
    except BaroError as error:
        return str(error)
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("*model*/*.safetensors", "*model*/*.json", "adapter/*.safetensors", "*.jsonl", "figures.json")
        for path in sorted(out.glob(pattern))
        if path.name not in ("metrics.jsonl", "verified.jsonl")
    ]
    metrics = out / "metrics.jsonl"
    rows = [json.loads(line) for line in (metrics.read_text().splitlines() if metrics.exists() else ())]
    kept = [{name: row[name] for name in row if not name.startswith("perf/") and name != "time"} for row in rows]
    return json.dumps([hashes, kept])


def with_keys(values, changes):
    """Values with dotted keys set; None takes one away."""
    done = json.loads(json.dumps(values))
    for key, value in changes.items():
        *parents, last = key.split(".")
        block = done
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = value
        if value is None:
            del block[last]
    return done


def cases():
    """Every key of every verb. One in six in every run, and the rest slow: of the two verbs that take seconds for each
    key, and of what safe-ppo has from ppo and cost from all."""
    for verb in TESTED:
        for n, key in enumerate(CHANGES[verb]):
            shared = (verb == "safe-ppo" and key in PPO_CHANGES) or (verb == "cost" and key in OFFLINE)
            slow = (shared or verb in ("evaluate", "feedback collect")) and n % 6
            yield pytest.param(verb, key, id=f"{verb}-{key}", marks=[pytest.mark.slow] if slow else [])


def off_by_a_quarter(generate):
    """The sampler says probabilities that are too high or too low by a quarter, by the token."""

    def wrong(self, *given):
        return [
            [replace(one, logprobs=tuple(lp + 0.25 * (-1) ** i for i, lp in zip(one.ids, one.logprobs, strict=True)))
             for one in own]
            for own in generate(self, *given)
        ]  # fmt: skip

    return wrong


@pytest.mark.parametrize(("verb", "key"), list(cases()))
def test_another_value_comes_to_something_else(verb, key, results, monkeypatch):
    if key.startswith("sampler_gate"):  # a CPU's sampler is exact
        monkeypatch.setattr(Engine, "exact", property(lambda self: False))
        monkeypatch.setattr(Engine, "generate", off_by_a_quarter(Engine.generate))
    value, beside = CHANGES[verb][key]
    before = with_keys(LEAST[verb], beside)
    changed = {key: value} | ({"trainer.held_out_fraction": None} if key == "trainer.held_out" else {})
    changed |= {"trainer.steps": None} if key == "trainer.epochs" else {}
    changed |= {"choose.rewards": []} if key == "choose.policy" else {}
    one, other = results(verb, before), results(verb, with_keys(before, changed))
    assert one.startswith("[") or key in (
        "reward_model",
        "cost_model",
        "accept_weak_reward_model",
        "data.criteria",
        "data.ignore",
        "ignore",
    ), one
    assert one != other
