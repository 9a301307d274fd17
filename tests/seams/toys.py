"""Nine toy methods, each at most 40 lines: the proof that the seams carry what is to come, and how a method is added.

Each toy has an Objective, a Prepare where it needs one, and a ``build`` that gives a ToyRun: the objective, a fresh
source, and prepared samples by term for the layout tests.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import tiny
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from baro.batch import GroupBatch, Sample, branch, flat, with_flat
from baro.data.joined import Joined
from baro.data.partners import WithPartners
from baro.data.source import FileSource
from baro.functional.advantages import gae
from baro.functional.policy import clipped_policy_loss, clipped_value_loss
from baro.functional.preference import dpo_loss, ranking_pairs
from baro.functional.tokens import segment_sum
from baro.models.forward import ScoredModel, forward_samples
from baro.models.roles import role
from baro.online_config import RolloutConfig
from baro.protocols import BatchSource, LocalWorld, LossOutput, World
from baro.records import Completion, Message, Prompt, SamplingParams, Score
from baro.rewards.terms import WeightedReward
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource

Losses = Iterator[LossOutput]
Totals = Mapping[str, float]
BUDGET = 48


@dataclass
class ToyRun:
    objective: "Method"
    source: BatchSource
    samples: dict[str, list[Sample]]  # by term, prepared
    atom: str = "group"
    layouts: tuple[int, ...] = (1, 2, 4)


class Method:
    """What the toy objectives share: their modules, all parameters trained with one learning rate."""

    def __init__(self, **modules: nn.Module) -> None:
        self.of = modules

    def modules(self) -> dict[str, nn.Module]:
        return self.of

    def parameter_groups(self) -> list[dict]:
        return [{"params": [p for m in self.of.values() for p in m.parameters() if p.requires_grad]}]


class NoPrepare:
    atom = "completion"

    def __init__(self, **models: ScoredModel) -> None:
        self.models = models

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        return None


def random_samples(seed: int, count: int, completions: int) -> list[Sample]:
    """Prompts of 1-6 tokens, completions of 1-5; the last token of each completion is its end of turn."""
    rng = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> list[int]:
        return rng.integers(1, tiny.VOCABULARY, rng.integers(low, high)).tolist()

    return [
        Sample(torch.tensor(tokens(1, 7)), tuple(branch(tokens(1, 6)) for _ in range(completions)), key=f"{seed}:{i}")
        for i in range(count)
    ]


def with_fields(samples: list[Sample], make: Callable[[int], dict], units: dict[str, float]) -> list[Sample]:
    """Every completion gets make(its number in the group); the group's first also carries the units."""
    return [
        s.with_completions(
            [b.with_(fields=make(k), units=units if k == 0 else {}) for k, b in enumerate(s.completions)]
        )
        for s in samples
    ]


def computed(model: ScoredModel, output: str, samples: Sequence[Sample], world: World) -> Tensor:
    """One output of every scored token, [N]."""
    found = forward_samples(model, samples, [output], micro_batch_tokens=BUDGET, world=world)[output]
    return torch.cat([part for group in found for part in group] or [torch.zeros(0)])


def file_source(samples: list[Sample], world: World, **options: object) -> FileSource:
    defaults = {"batch_size": 4, "steps": 6, "seed": 0, "micro_batch_tokens": BUDGET, "hidden_size": 16}
    return FileSource(samples, world=world, **(defaults | options))


class FixedSampler:
    """A list of rollouts instead of an engine; log-probs are the given model's own."""

    exact = True

    def __init__(self, model: ScoredModel, adapter: str | None = None) -> None:
        self.model, self.adapter = model, adapter

    def refresh(self) -> None:
        return None

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Completion]]:
        samples = []
        for prompt, key in zip(prompts, keys, strict=True):
            rng = np.random.default_rng(key % 2**32)
            drawn = [branch(rng.integers(1, tiny.VOCABULARY, rng.integers(1, 6)).tolist()) for _ in range(n)]
            samples.append(Sample(torch.tensor(prompt), tuple(drawn)))
        with role(self.model, self.adapter) if self.adapter else nullcontext():
            found = forward_samples(self.model, samples, ["logprobs"], micro_batch_tokens=BUDGET, world=LocalWorld())
        return [
            [
                Completion(tuple(b.ids.tolist()), tuple(lp.tolist()), True)
                for b, lp in zip(s.completions, lps, strict=True)
            ]
            for s, lps in zip(samples, found["logprobs"], strict=True)
        ]


class Lucky:
    """A reward that depends on the tokens alone."""

    def __init__(self, name: str, modulus: int) -> None:
        self.name, self.modulus = name, modulus

    def score(self, rollouts: Sequence) -> list[Score]:
        return [Score(sum(r.completion_ids) % self.modulus / self.modulus) for r in rollouts]


def rollout_source(
    policy: ScoredModel, prepare: NoPrepare, world: World, completions: int, adapter: str | None = None
) -> OnPolicySource:
    samples = [Sample(s.prompt_ids, (), s.key) for s in random_samples(5, 8, 0)]
    rollouts = Rollouts(
        [Prompt((Message("user", s.key),)) for s in samples],
        samples,
        sampler=FixedSampler(policy, adapter),
        decode=lambda ids: " ".join(map(str, ids)),
        totals={"score": [WeightedReward(Lucky("reward", 3))], "cost": [WeightedReward(Lucky("cost", 5))]},
        sampling=SamplingParams(max_new_tokens=5),
        config=RolloutConfig(prompts=6, completions=completions, epochs=2, minibatches=2),
        seed=0,
        world=world,
    )
    layout = {"micro_batch_tokens": BUDGET, "hidden_size": 16}
    return OnPolicySource(rollouts, prepare=prepare, count=2, world=world, **layout)


def drawn(source: OnPolicySource) -> list[Sample]:
    """A prepared rollout of one process, as the source would make it first."""
    return source._prepared(source.rollouts.draw(0)).samples


# ------------------------------------------------------------ 1 sft


class Sft(Method):
    """−Σ log π(y) / tokens"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        yield LossOutput(-logprobs.sum() / totals["tokens"], {"nll": (-logprobs.detach().sum(), len(logprobs))})


def sft(world: World) -> ToyRun:
    samples = random_samples(0, 10, 1)
    return ToyRun(Sft(policy=ScoredModel(tiny.llama())), file_source(samples, world), {"main": samples})


# ------------------------------------------------------------ 2 reward K-wise


class KWise(Method):
    """Mean over prompts of the mean over pairs of −log σ(r_better − r_worse)"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        scores = self.of["reward_model"](batch, ["scores"]).scores
        better, worse, weight = ranking_pairs(batch.completion_fields["rank"], batch.group_of)
        loss = -logsigmoid(scores[better] - scores[worse]) * weight
        right = (scores[better] > scores[worse]) * weight
        yield LossOutput(loss.sum() / totals["prompts"], {"accuracy": (right.sum(), weight.sum())})


def reward(world: World) -> ToyRun:
    samples = with_fields(random_samples(1, 10, 4), lambda k: {"rank": (1, 2, 2, 3)[k]}, {"prompts": 1.0})
    return ToyRun(KWise(reward_model=ScoredModel(tiny.llama_scalar())), file_source(samples, world), {"main": samples})


# ------------------------------------------------------------ 3 dpo with SFT term


class RefLogprobs(NoPrepare):
    atom = "group"

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        return with_flat(samples, {"ref": computed(self.models["ref"], "logprobs", samples, world)})


class Dpo(Method):
    """−log σ(β h) per pair, and −log π(chosen) per chosen token: two terms with totals of their own"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        ratios = segment_sum(logprobs - batch.token_fields["ref"], batch.completion_of, len(batch.group_of))
        chosen = batch.completion_fields["chosen"].bool()
        pairs = dpo_loss(ratios[chosen], ratios[~chosen], beta=0.1)
        nll = -logprobs[chosen[batch.completion_of]].sum() / totals["chosen_tokens"]
        yield LossOutput(pairs.sum() / totals["pairs"] + 0.1 * nll)


def dpo(world: World) -> ToyRun:
    policy, prepare = ScoredModel(tiny.llama()), RefLogprobs(ref=ScoredModel(tiny.llama(7)))
    samples = with_fields(random_samples(2, 10, 2), lambda k: {"chosen": 1.0 - k}, {"pairs": 1.0})
    samples = [
        s.with_completions(
            [b.with_(units={"chosen_tokens": float(len(b.ids))} if k == 0 else {}) for k, b in enumerate(s.completions)]
        )
        for s in samples
    ]
    return ToyRun(Dpo(policy=policy), file_source(samples, world, once=prepare), {"main": prepare(samples, world)})


# ------------------------------------------------------------ 4 kto


class Partners(NoPrepare):
    """z from each sample's mismatched partner, which is then removed."""

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        partners = [s.with_completions([b for b in s.completions if b.partner]) for s in samples]
        gap = computed(self.models["policy"], "logprobs", partners, world) - flat(partners, "ref")
        sums = world.sum({"gap": float(gap.sum()), "count": len(partners)})
        z = max(0.0, sums["gap"] / sums["count"])
        return [s.with_completions([b.with_(fields={"z": z}) for b in s.completions if not b.partner]) for s in samples]


class Kto(Method):
    """1 − σ(β(r − z)) for a thumb up, 1 − σ(β(z − r)) for a thumb down"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        ratios = segment_sum(logprobs - batch.token_fields["ref"], batch.completion_of, len(batch.group_of))
        sign = 2 * batch.completion_fields["up"] - 1
        yield LossOutput(
            (1 - torch.sigmoid(0.1 * sign * (ratios - batch.completion_fields["z"]))).sum() / totals["thumbs"]
        )


def kto(world: World) -> ToyRun:
    policy = ScoredModel(tiny.llama())
    ref, partners = RefLogprobs(ref=ScoredModel(tiny.llama(7))), Partners(policy=policy)
    ups, downs = (with_fields(random_samples(3 + k, 5, 1), lambda _, k=k: {"up": k}, {"thumbs": 1.0}) for k in (1, 0))
    samples = WithPartners(ups + downs, [3, 4, 5, 6, 7, 8, 9, 0, 1, 2])
    source = file_source(samples, world, once=ref, step=partners)
    return ToyRun(Kto(policy=policy), source, {"main": partners(ref(samples, world), world)}, atom="completion")


# ------------------------------------------------------------ 5 ppo with ptx


class Gae(NoPrepare):
    """Values from the value model, advantages from GAE, whitened over the whole rollout and all ranks."""

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        values = computed(self.models["value_model"], "values", samples, world)
        raw, returns = self.stream(samples, values)
        everyone = torch.tensor(world.gather(raw.tolist()), dtype=torch.float64)
        advantages = (raw - everyone.mean()) / (everyone.std() + 1e-8)
        return with_flat(samples, {"advantages": advantages, "values": values, "returns": returns})

    def stream(self, samples: Sequence[Sample], values: Tensor, name: str = "score") -> tuple[Tensor, Tensor]:
        branches = [b for s in samples for b in s.completions]
        lengths = torch.tensor([b.scored_tokens for b in branches], dtype=torch.long)
        rewards = torch.zeros_like(values)
        rewards[lengths.cumsum(0) - 1] = torch.tensor([b.fields[name] for b in branches], dtype=values.dtype)
        return gae(rewards, values, lengths, gamma=1.0, gae_lambda=0.95)


class Ppo(Method):
    """The clipped surrogate and the clipped value loss on a rollout; −log π on ptx batches"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        if batch.term == "ptx":
            yield LossOutput(-0.2 * logprobs.sum() / totals["tokens"])
            return
        field = batch.token_fields
        yield LossOutput(self.surrogate(logprobs, field).sum() / totals["tokens"])
        values = self.of["value_model"](batch, ["values"]).values
        loss = clipped_value_loss(values, field["values"], field["returns"], clip_range=0.2)
        yield LossOutput(0.1 * loss.sum() / totals["tokens"])

    def surrogate(self, logprobs: Tensor, field: Mapping[str, Tensor]) -> Tensor:
        old = field["old_logprobs"].to(logprobs.dtype)
        return clipped_policy_loss(logprobs, old, field["advantages"].to(logprobs.dtype), clip_range=0.2)


def ppo(world: World) -> ToyRun:
    policy, value_model = ScoredModel(tiny.llama()), ScoredModel(tiny.llama_scalar())
    rollouts = rollout_source(policy, Gae(value_model=value_model), world, completions=1)
    ptx = random_samples(6, 10, 1)
    source = Joined({"rollout": rollouts, "ptx": file_source(ptx, world, batch_size=3, steps=8, term="ptx")})
    return ToyRun(
        Ppo(policy=policy, value_model=value_model), source, {"rollout": drawn(rollouts), "ptx": ptx}, "completion"
    )


# ------------------------------------------------------------ 6 grpo


class GroupCentred(NoPrepare):
    """Advantages r − mean; completions without any are skipped, their tokens stay in the denominator."""

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        return [s.with_completions([self.one(b, s) for b in s.completions]) for s in samples]

    def one(self, b: object, sample: Sample) -> object:
        advantage = b.fields["score"] - float(np.mean([other.fields["score"] for other in sample.completions]))
        tokens = {"advantages": torch.full((len(b.ids),), advantage, dtype=torch.float64)}
        return b.with_(token_fields=tokens, units={"all_tokens": float(len(b.ids))}, skip=advantage == 0.0)


class Grpo(Method):
    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        field = batch.token_fields
        old, advantages = (field[name].to(logprobs.dtype) for name in ("old_logprobs", "advantages"))
        loss = clipped_policy_loss(logprobs, old, advantages, clip_range=0.2)
        yield LossOutput(loss.sum() / totals["all_tokens"])


def grpo(world: World) -> ToyRun:
    policy = ScoredModel(tiny.llama())
    source = rollout_source(policy, GroupCentred(), world, completions=4)
    return ToyRun(Grpo(policy=policy), source, {"rollout": drawn(source)}, atom="completion")


# ------------------------------------------------------------ 7 safe ppo with two critics


class TwoStreams(Gae):
    """(A_r − λ A_c) / (1 + λ) with a critic for each stream; λ is state and moves with the mean cost."""

    lagrange = 1.0

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        v, c = (computed(self.models[name], "values", samples, world) for name in ("value_model", "cost_value_model"))
        sums = world.sum(
            {
                "cost": sum(b.fields["cost"] for s in samples for b in s.completions),
                "count": sum(len(s.completions) for s in samples),
            }
        )
        (reward, returns), (cost, cost_returns) = self.stream(samples, v), self.stream(samples, c, "cost")
        mixed = (reward - self.lagrange * cost) / (1 + self.lagrange)
        self.lagrange *= float(np.exp(0.1 * (sums["cost"] / sums["count"] - 0.3)))
        found = {"advantages": mixed, "values": v, "returns": returns, "cost_values": c, "cost_returns": cost_returns}
        return with_flat(samples, found)

    def state_dict(self) -> dict:
        return {"lagrange": self.lagrange}

    def load_state_dict(self, state: dict) -> None:
        self.lagrange = state["lagrange"]


class SafePpo(Ppo):
    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        yield from super().losses(batch, totals)
        field, costs = batch.token_fields, self.of["cost_value_model"](batch, ["values"]).values
        loss = clipped_value_loss(costs, field["cost_values"], field["cost_returns"], clip_range=0.2)
        yield LossOutput(0.1 * loss.sum() / totals["tokens"])


def safe_ppo(world: World) -> ToyRun:
    critics = {
        name: ScoredModel(tiny.llama_scalar(seed)) for name, seed in (("value_model", 1), ("cost_value_model", 2))
    }
    policy = ScoredModel(tiny.llama())
    source = rollout_source(policy, TwoStreams(**critics), world, completions=1)
    return ToyRun(SafePpo(policy=policy, **critics), source, {"rollout": drawn(source)}, atom="completion")


# ------------------------------------------------------------ 8 encoder reward


def encoder_reward(world: World) -> ToyRun:
    torch.manual_seed(3)
    model = ScoredModel(tiny.bert(), head=nn.Linear(16, 1, dtype=torch.float64), bidirectional=True)
    samples = with_fields(random_samples(1, 10, 3), lambda k: {"rank": k + 1}, {"prompts": 1.0})
    # an encoder scores no tokens; it reads its first column
    samples = [
        s.with_completions(
            [branch(b.ids, scored=[False] * len(b.ids)).with_(fields=b.fields, units=b.units) for b in s.completions]
        )
        for s in samples
    ]
    return ToyRun(KWise(reward_model=model), file_source(samples, world, per_row=1), {"main": samples}, layouts=(1,))


# ------------------------------------------------------------ 9 policy and value on one trunk, adapters


class SharedTrunk(Ppo):
    """One backbone: the policy's adapter with the LM head, the value adapter with the value head"""

    def losses(self, batch: GroupBatch, totals: Totals) -> Losses:
        model, field = self.of["policy"], batch.token_fields
        with role(model, "policy"):
            yield LossOutput(self.surrogate(model(batch, ["logprobs"]).logprobs, field).sum() / totals["tokens"])
        with role(model, "value"):
            values = model(batch, ["values"]).values
            loss = clipped_value_loss(values, field["values"], field["returns"], clip_range=0.2)
            yield LossOutput(0.1 * loss.sum() / totals["tokens"])


class SharedGae(Gae):
    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        with role(self.models["value_model"], "value"):
            return super().__call__(samples, world)


def shared_trunk(world: World) -> ToyRun:
    torch.manual_seed(4)
    backbone = tiny.llama()
    backbone.requires_grad_(False)
    for name in ("policy", "value"):
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        with warnings.catch_warnings(action="ignore"):  # peft warns of a second adapter, which is what we want
            inject_adapter_in_model(lora, backbone, adapter_name=name)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model = ScoredModel(backbone.double(), head=nn.Linear(16, 1, dtype=torch.float64))
    source = rollout_source(model, SharedGae(value_model=model), world, completions=1, adapter="policy")
    return ToyRun(SharedTrunk(policy=model), source, {"rollout": drawn(source)}, atom="completion")


TOYS = (sft, reward, dpo, kto, ppo, grpo, safe_ppo, encoder_reward, shared_trunk)
