"""What ``benchmarks.gpu`` trains: each method's objective and trainer on random models, and whole runs by command."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu import Bench

PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 256, 128  # of one optimiser step
MICRO_BATCH_TOKENS = 8192  # the default
SMALL = 4  # prompts, and tokens of everything, where there is no GPU


@dataclass
class Job:
    """A trainer in memory, with what its figures need."""

    trainer: Any
    source: Any
    trained_models: Mapping[str, Any]
    frozen_models: Mapping[str, Any]
    tokens: float  # columns of one step, prompts included
    operations: float  # floating-point operations of one step
    spent: list[float] = field(default_factory=list)  # seconds of each rollout

    def steps(self, count: int) -> Iterator[Mapping[str, float]]:
        """Metrics of one optimiser step after another; what a source does between rollouts is not a step's."""
        for done in range(count):
            self.trainer.fit(until=done + 1)
            yield self.source.metrics

    @property
    def rollout_seconds(self) -> float | None:
        return round(self.spent[-1], 4) if self.spent else None

    @property
    def parameters(self) -> int:
        return sum(p.numel() for model in self.trained_models.values() for p in model.parameters())

    @property
    def trained(self) -> int:
        return sum(p.numel() for model in self.trained_models.values() for p in model.parameters() if p.requires_grad)

    def memory(self) -> dict[str, int]:
        """Bytes of each role's weights, and of the optimiser's state."""
        found = {
            f"{role}.weights": _bytes(m.parameters()) for role, m in (self.trained_models | self.frozen_models).items()
        }
        state = [t for of in self.trainer.optimizer.state.values() for t in of.values() if hasattr(t, "numel")]
        return found | {"optimizer": _bytes(state)}


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Told:
    """A source that keeps the metrics of the step that was just taken."""

    metrics: Mapping[str, float]

    def __init__(self, source: Any) -> None:
        self.source, self.metrics = source, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source)

    def advance(self, metrics: Mapping[str, float]) -> Any:
        self.metrics = metrics
        return self.source.advance(metrics)


def made(bench: Bench, method: str, size: str, lora: bool) -> Job:
    """The method's trainer on random models of this size."""
    return {"sft": _sft, "reward": _reward, "dpo": _dpo, "kto": _kto, "ppo": _ppo, "grpo": _grpo}[method](
        bench, size, lora
    )


def _policy(bench: Bench, size: str, lora: bool, *, seed: int = 0, scalar: bool = False) -> Any:
    from baro.compute import LoraConfig
    from baro.models.lora import add_adapter
    from benchmarks.gpu import random_model, scored

    model = scored(bench, random_model(bench, size, seed=seed, scalar=scalar), "bf16" if bench.cuda else "fp32")
    if lora:
        add_adapter(model, LoraConfig(), seed=0, role="reward_model" if scalar else "policy")
        model.to(bench.device)
    return model.train()


def _samples(bench: Bench, size: str, completions: int, steps: int) -> tuple[list[Any], int]:
    from benchmarks.gpu import samples

    count, prompt, answer = (SMALL, SMALL, SMALL) if bench.small else (PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS)
    return samples(bench, size, count * steps, completions, prompt, answer), count


def _operations(tokens: float, trained: Sequence[Any], frozen: Sequence[Any] = (), *, lora: bool) -> float:
    """A weight and token cost 6 where weights are trained, 4 where adapters are, and 2 in a forward alone."""
    of = {id(m): sum(p.numel() for p in m.parameters()) for m in (*trained, *frozen)}
    train = (4 if lora else 6) * sum(of[id(m)] for m in trained)
    return tokens * (train + 2 * sum(of[id(m)] for m in frozen))


def _steps() -> int:
    from benchmarks.gpu import TIMED, WARM_UP

    return WARM_UP + TIMED


def _offline(
    bench: Bench,
    size: str,
    completions: int,
    objective: Any,
    models: Mapping[str, Any],
    frozen: Any,
    lora: bool,
    change: Any,
    step: Any = None,
) -> Job:
    from baro.config import TrainerConfig
    from baro.data.source import FileSource
    from baro.trainer import Trainer

    rows, count = _samples(bench, size, completions, _steps())
    rows = change(rows)
    config = TrainerConfig(learning_rate=1e-5, steps=_steps(), batch_size=count)
    layout = {"micro_batch_tokens": config.micro_batch_tokens, "hidden_size": next(iter(models.values())).hidden_size}
    source = Told(FileSource(rows, batch_size=count, steps=_steps(), seed=0, step=step, **layout))
    own, partners = (
        [row.with_completions([one for one in row.completions if one.partner is which]) for row in rows]
        for which in (False, True)
    )
    tokens = _columns(own) / _steps()
    work = _operations(tokens, list(models.values()), lora=lora)
    if step is not None:  # a forward over the partners
        work += _operations(_columns(partners) / _steps(), [], list(models.values()), lora=lora)
    return Job(Trainer(objective, source, config), source, models, frozen, tokens, work)


def _columns(rows: Sequence[Any]) -> int:
    """Tokens that are computed: each prompt once."""
    return sum(len(row.prompt_ids) + sum(len(one.ids) for one in row.completions) for row in rows)


def _sft(bench: Bench, size: str, lora: bool) -> Job:
    from baro.methods import sft

    policy = _policy(bench, size, lora)
    return _offline(bench, size, 1, sft.Objective(policy), {"policy": policy}, {}, lora, lambda rows: rows)


def _ranked(rows: Sequence[Any]) -> list[Any]:
    """Pairs: the first completion was chosen."""
    plain = {"p_chosen": 1.0, "margin": 0.0}
    return [
        row.with_completions(
            [
                one.with_(
                    fields={**plain, "rank": float(k)},
                    units={"pairs": 1.0, "prompts": 1.0, "chosen_tokens": float(len(one.ids))} if k == 0 else {},
                )
                for k, one in enumerate(row.completions)
            ]
        )
        for row in rows
    ]


def _reward(bench: Bench, size: str, lora: bool) -> Job:
    from baro.methods import reward

    model = _policy(bench, size, lora, scalar=True)
    objective = reward.Objective(model, reward.Config(model="-", preferences="-"))
    return _offline(bench, size, 2, objective, {"reward_model": model}, {}, lora, _ranked)


def _referred(rows: Sequence[Any], ref_policy: Any) -> list[Any]:
    from baro.batch import with_flat
    from baro.methods.reference import logprobs
    from baro.protocols import LocalWorld

    return with_flat(rows, {"ref_logprobs": logprobs(ref_policy, rows, MICRO_BATCH_TOKENS, LocalWorld())})


def _dpo(bench: Bench, size: str, lora: bool) -> Job:
    from baro.methods import dpo
    from baro.models.roles import InRole

    policy = _policy(bench, size, lora)
    ref_policy = InRole(policy, None) if lora else _policy(bench, size, False)
    objective = dpo.Objective(policy, dpo.Config(policy="-", preferences="-"))
    frozen = {} if lora else {"ref_policy": ref_policy}
    change = lambda rows: _referred(_ranked(rows), ref_policy)  # noqa: E731
    return _offline(bench, size, 2, objective, {"policy": policy}, frozen, lora, change)


def _kto(bench: Bench, size: str, lora: bool) -> Job:
    """Thumbs up and down by turns; z from a forward over the partners in every step."""
    from baro.data.partners import with_partners
    from baro.methods import kto
    from baro.models.roles import InRole

    policy = _policy(bench, size, lora)
    ref_policy = InRole(policy, None) if lora else _policy(bench, size, False)

    def thumbs(rows: Sequence[Any]) -> list[Any]:
        labelled = [
            row.with_completions([kto.labelled(one, float(i % 2)) for one in row.completions])
            for i, row in enumerate(rows)
        ]
        return _referred(with_partners(labelled, 4096), ref_policy)

    objective = kto.Objective(policy, kto.Config(policy="-", thumbs="-"))
    frozen, step = {} if lora else {"ref_policy": ref_policy}, kto.Prepare(policy, MICRO_BATCH_TOKENS)
    return _offline(bench, size, 1, objective, {"policy": policy}, frozen, lora, thumbs, step)


def _ppo(bench: Bench, size: str, lora: bool) -> Job:
    """Four models, the reward's and the values' of the policy's size; with LoRA they are roles of one backbone."""
    from baro.methods import ppo
    from baro.models.roles import InRole
    from baro.rewards.learned import LearnedReward

    policy, template = _policy(bench, size, lora), _template(size)
    if lora:
        value_model, reward_model = _roles(bench, policy)
        ref_policy, frozen = InRole(policy, None), {}
    else:
        value_model, reward_model = (_policy(bench, size, False, seed=seed, scalar=True) for seed in (1, 2))
        ref_policy = _policy(bench, size, False)
        frozen = {"reward_model": reward_model.requires_grad_(False), "ref_policy": ref_policy.requires_grad_(False)}
    config = ppo.Config(**_told(bench))
    reward = LearnedReward(reward_model, template, sampler_fingerprint=template.fingerprint)
    prepare = ppo.Prepare(policy, ref_policy, value_model, config)
    objective = ppo.Objective(policy, value_model, config)
    return _online(bench, size, policy, config, reward, prepare, objective, frozen, [policy, value_model], lora)


def _grpo(bench: Bench, size: str, lora: bool) -> Job:
    """The policy and its reference, for the KL in the loss; the reward is a function of the tokens."""
    from baro.grpo_config import Config
    from baro.methods import grpo
    from baro.models.roles import InRole
    from baro.rewards.function import FunctionReward

    def by_tokens(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        return [float(sum(ids) % 7) for ids in completion_ids]

    policy = _policy(bench, size, lora)
    ref_policy = InRole(policy, None) if lora else _policy(bench, size, False).requires_grad_(False)
    config = Config(**_told(bench), preset="grpo")
    prepare, objective = grpo.Prepare(policy, ref_policy, config), grpo.Objective(policy, config)
    frozen = {} if lora else {"ref_policy": ref_policy}
    reward = FunctionReward(by_tokens, name="by_tokens")
    return _online(bench, size, policy, config, reward, prepare, objective, frozen, [policy], lora)


def _told(bench: Bench) -> dict[str, Any]:
    """What both online methods are told: rollouts of four updates."""
    count, new = (SMALL, 8) if bench.small else (PROMPTS, ANSWER_TOKENS)
    return {
        "policy": "-", "prompts": "-", "reward_model": "-",
        "rollout": {"prompts": count, "completions": 4, "epochs": 2, "minibatches": 2},
        "sampling": {"max_new_tokens": new}, "trainer": {"learning_rate": 1e-6, "steps": _steps()},
    }  # fmt: skip


def _roles(bench: Bench, policy: Any) -> tuple[Any, Any]:
    """A value model to train and a reward model that stays, as adapters with heads on the policy's backbone."""
    from torch import nn

    from baro.compute import LoraConfig
    from baro.models.lora import add_adapter
    from baro.models.roles import InRole
    from baro.models.trunk import new_value_role

    value_model = new_value_role(policy, LoraConfig(), seed=1)
    add_adapter(policy, LoraConfig(), seed=2, role="reward_model")
    head = nn.Linear(policy.hidden_size, 1, bias=False)
    reward_model = InRole(policy, "reward_model", head=head)
    for name, parameter in policy.named_parameters():
        if ".reward_model" in name:
            parameter.requires_grad_(False)
    policy.to(bench.device)
    return value_model, reward_model


def _online(
    bench: Bench,
    size: str,
    policy: Any,
    config: Any,
    reward: Any,
    prepare: Any,
    objective: Any,
    frozen: Mapping[str, Any],
    passes: Sequence[Any],
    lora: bool,
) -> Job:
    """The trainer on rollouts of the policy; ``passes``: what each step computes with gradient."""
    from baro.records import Message, Prompt
    from baro.rewards.terms import WeightedReward
    from baro.rollout.engine import Engine
    from baro.rollout.fresh import OldLogprobs
    from baro.rollout.rollouts import Rollouts
    from baro.rollout.source import OnPolicySource
    from baro.trainer import Trainer

    rows, count = _samples(bench, size, 1, 1)
    template, budget = _template(size), config.trainer.micro_batch_tokens
    prompts = [Prompt((Message("user", template.decode(row.prompt_ids.tolist())),)) for row in rows]
    timed = Timed(Engine(policy, end_ids=frozenset()))
    source = Told(
        OnPolicySource(
            Rollouts(
                prompts,
                rows,
                sampler=timed,
                decode=template.decode,
                totals={"score": [WeightedReward(reward)]},
                sampling=config.sampling.params(),
                config=config.rollout,
                seed=0,
            ),
            prepare=prepare,
            old_logprobs=OldLogprobs(policy, timed, micro_batch_tokens=budget),
            count=-(-_steps() // 4),
            micro_batch_tokens=budget,
            hidden_size=policy.hidden_size,
        )
    )
    # a minibatch has half of the completions, of most prompts
    tokens = sum(len(row.prompt_ids) for row in rows) + 2 * count * config.sampling.max_new_tokens
    work = _operations(tokens, passes, lora=lora)
    trainer = Trainer(objective, source, config.trainer)
    return Job(trainer, source, objective.modules(), frozen, tokens, work, timed.spent)


class Timed:
    """A sampler whose seconds are kept."""

    def __init__(self, sampler: Any) -> None:
        self.sampler, self.spent, self.exact = sampler, [], sampler.exact

    def refresh(self) -> None:
        self.sampler.refresh()

    def generate(self, *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        found = self.sampler.generate(*arguments, **named)
        self.spent.append(time.perf_counter() - start)
        return found


def _template(size: str) -> Any:
    """One token for every number."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from baro.data.template import Template
    from benchmarks.gpu import VOCABULARY

    words = ["<pad>", "<bos>", "<eos>", *map(str, range(3, 64 if size == "tiny" else VOCABULARY))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return Template(PreTrainedTokenizerFast(tokenizer_object=backend, **special), "none")


# --------------------------------------------------------------------------------------------------------- whole runs

RESUMED = ("sft", "reward-ensemble", "dpo-lora", "kto", "ppo", "safe-ppo", "grpo")
WORDS = ("red", "green", "blue", "black", "white", "brown", "grey", "pink")


def write_project(folder: Path) -> None:
    """A base model and rows for every method."""
    rows = [(f"Name the colour {word}, number {i}.", f"It is {word}.") for i in range(8) for word in WORDS]
    pairs = [{"prompt": p, "chosen": c, "rejected": "I do not know any colours at all."} for p, c in rows]
    files = {
        "text.jsonl": [{"text": f"User: {p}\nAssistant: {c} {i}"} for i, (p, c) in enumerate(rows)],
        "demonstrations.jsonl": [{"prompt": p, "completion": c} for p, c in rows],
        "preferences.jsonl": pairs,
        "prompts.jsonl": [{"prompt": p} for p, _ in rows],
    }
    for name, content in files.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content))


def commands(device: str) -> dict[str, list[str]]:
    """Every method's command, in an order in which each finds what it needs."""
    steps = ["trainer.steps=6", "trainer.checkpoint_every=2", f"compute.device={device}"]
    shape = ["architecture.vocabulary=300", "architecture.hidden_size=64", "architecture.max_positions=128"]
    worst = "rewards=[{by: whole/reward-ensemble, combine: worst}]"
    policy, ppo = "policy=whole/base", ["rollout.prompts=8", "rollout.epochs=1", "rollout.minibatches=2"]
    grpo = ["rollout.prompts=4", "rollout.completions=4", "rollout.minibatches=2", "preset=grpo"]
    safe = ["reward_model=whole/reward", "cost_model=whole/reward", "constraint.limit=0"]
    given = {
        "base": ["text=text.jsonl", *shape, *steps],
        "sft": [policy, "demonstrations=demonstrations.jsonl", *steps],
        "sft-lora": [policy, "demonstrations=demonstrations.jsonl", "lora.r=4", *steps],
        "reward": ["model=whole/base", "preferences=preferences.jsonl", *steps],
        "reward-ensemble": ["model=whole/base", "preferences=preferences.jsonl", "members=2", "lora.r=4", *steps],
        "dpo": [policy, "preferences=preferences.jsonl", *steps],
        "dpo-lora": [policy, "preferences=preferences.jsonl", "lora.r=4", *steps],
        "kto": [policy, "thumbs=preferences.jsonl", *steps],
        "ppo": [policy, "prompts=prompts.jsonl", "reward_model=whole/reward", *ppo, *steps],
        "ppo-ensemble": [policy, "prompts=prompts.jsonl", worst, *ppo, *steps],
        "ppo-lora": [policy, "prompts=prompts.jsonl", "reward_model=whole/reward", "lora.r=4", *ppo, *steps],
        "safe-ppo": [policy, "prompts=prompts.jsonl", *safe, *ppo, *steps],
        "safe-ppo-lora": [policy, "prompts=prompts.jsonl", "lora.r=4", *safe, *ppo, *steps],
        "grpo": [policy, "prompts=prompts.jsonl", "reward_model=whole/reward", *grpo, *steps],
        "grpo-lora": [policy, "prompts=prompts.jsonl", "reward_model=whole/reward", "lora.r=4", *grpo, *steps],
    }
    verb = {name: "safe-ppo" if name.startswith("safe-ppo") else name.split("-")[0] for name in given}
    return {name: [verb[name], *(w for one in keys for w in ("--set", one))] for name, keys in given.items()}
