"""What each of two gloo ranks does for test_two_ranks.py, one thing after another; rank 0 writes down what it found."""

import os
import shutil
import signal
import sys
from pathlib import Path

import tiny
import torch
import torch.distributed as dist
import toys
from safetensors.torch import save_file
from torch import nn
from torch.distributed.fsdp import fully_shard

from baro.compute import LoraConfig
from baro.config import TrainerConfig
from baro.data.partners import with_partners
from baro.functional.policy import clipped_policy_loss
from baro.methods import grpo, kto, ppo
from baro.methods.reference import ReferenceLogprobs
from baro.models.forward import ScoredModel, forward_samples
from baro.models.lora import add_adapter
from baro.models.roles import InRole
from baro.online_config import RolloutConfig
from baro.protocols import LossOutput, World
from baro.records import Message, Prompt, SamplingParams, Score
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource
from baro.runs import RunDir
from baro.trainer import Trainer

CONFIG = TrainerConfig(learning_rate=0.01, seed=3, warmup_steps=2, schedule="linear", checkpoint_every=3)


class Online(toys.Method):
    """The clipped surrogate on group-centred scores, held to the reference by the square of the log-ratio."""

    def losses(self, batch, totals):
        field = batch.token_fields
        logprobs = self.of["policy"](batch, ["logprobs"]).logprobs
        surrogate = clipped_policy_loss(logprobs, field["old_logprobs"], field["advantages"], clip_range=0.2)
        loss = (surrogate + 0.1 * (logprobs - field["ref"]) ** 2).sum() / totals["all_tokens"]
        yield LossOutput(loss, {"nll": (-logprobs.detach().sum(), len(logprobs))})


class Referred(toys.GroupCentred):
    """Group-centred scores, the reference's log-probs, and a state that moves with all ranks' scores."""

    def __init__(self, reference: ScoredModel) -> None:
        super().__init__()
        self.reference, self.seen = reference, 0.0

    def __call__(self, samples, world):
        ref = forward_samples(self.reference, samples, ["logprobs"], micro_batch_tokens=48, world=world)["logprobs"]
        self.seen += world.sum({"score": sum(b.fields["score"] for s in samples for b in s.completions)})["score"]
        return [
            s.with_completions([b.with_(token_fields={"ref": lp}) for b, lp in zip(s.completions, lps, strict=True)])
            for s, lps in zip(super().__call__(samples, world), ref, strict=True)
        ]

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def online(world: World, run: RunDir | None) -> Trainer:
    """LoRA on a policy that samples by the engine: two rollouts of four updates."""
    policy = ScoredModel(tiny.llama())
    policy.requires_grad_(False)
    add_adapter(policy, LoraConfig(r=2), seed=0, role="policy")
    policy.double()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:  # zero as made: then the reference would be the policy
                parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    samples = [toys.Sample(s.prompt_ids, (), s.key) for s in toys.random_samples(5, 7, 0)]
    rollouts = Rollouts(
        [Prompt((Message("user", s.key),)) for s in samples],
        samples,
        sampler=Engine(policy, end_ids=frozenset({0, 1}), slots=4, world=world),
        decode=lambda ids: " ".join(map(str, ids)),
        totals={"score": [WeightedReward(toys.Lucky("reward", 3))]},
        sampling=SamplingParams(max_new_tokens=5),
        config=RolloutConfig(prompts=5, completions=2, epochs=2, minibatches=2),
        seed=0,
        world=world,
    )
    source = OnPolicySource(
        rollouts,
        prepare=Referred(InRole(policy, None)),
        count=2,
        micro_batch_tokens=48,
        hidden_size=16,
        world=world,
        store=None if run is None else run.path / "rollout.state",
        on_rollout=lambda draw: tell(run, draw.number, rollouts.texts(draw)),
    )
    return Trainer(Online(policy=policy), source, CONFIG, run=run, world=world)


def tell(run: RunDir | None, number: int, rollouts: list) -> None:
    for one in rollouts if run is not None else []:
        run.samples.append({"rollout": number, "completion": one.text})


def open_run(path: Path, world: World) -> RunDir | None:
    return RunDir.open(path, verb="grpo", config=CONFIG, inputs={}) if world.rank == 0 else None


def narrow(world: World) -> toys.ToyRun:
    """sft in fp32, which gloo sums in another way than fp64."""
    samples = toys.random_samples(0, 10, 1)
    policy = ScoredModel(tiny.llama(dtype=torch.float32))
    return toys.ToyRun(toys.Sft(policy=policy), toys.file_source(samples, world), {"main": samples})


def blocks(world: World) -> toys.ToyRun:
    """sft with each layer sharded by itself: what is set on the root does not reach it."""
    made = toys.sft(world)
    if world.size > 1:
        for layer in made.objective.of["policy"].trunk.layers:
            fully_shard(layer, mesh=world.mesh)
    return made


def thumbs(world: World) -> toys.ToyRun:
    """kto itself: the reference once, z over both ranks in every step, the last one of which has a row for one rank."""
    rows = [
        s.with_completions([kto.labelled(b, float(i % 3 > 0)) for b in s.completions])
        for i, s in enumerate(toys.random_samples(3, 13, 1))
    ]
    policy = ScoredModel(tiny.llama(7))
    once, step = ReferenceLogprobs(ScoredModel(tiny.llama(0)), "zero", 48), kto.Prepare(policy, 48)
    source = toys.file_source(with_partners(rows, 20), world, once=once, step=step, batch_size=3)
    return toys.ToyRun(kto.Objective(policy, kto.Config(policy="p", thumbs="t")), source, {})


def trunk(world: World) -> toys.ToyRun:
    """ppo itself on one backbone: the reference, the value model and a reward model are roles of the policy."""
    lora = LoraConfig(r=2)
    policy = ScoredModel(tiny.llama())
    policy.requires_grad_(False)
    for name in ("policy", "reward_model", "value_model"):
        add_adapter(policy, lora, seed=0, role=name)
    heads = [nn.Linear(16, 1, bias=False, dtype=torch.float64) for _ in range(2)]
    for head in heads:
        nn.init.constant_(head.weight, 0.1)
    value_model = InRole(policy, "value_model", head=heads[0])
    reward_model = InRole(policy, "reward_model", head=heads[1].requires_grad_(False), score_bias=0.5)
    policy.double()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.linspace(-0.2, 0.3, parameter.numel()).view_as(parameter))
            if ".reward_model." in name:
                parameter.requires_grad_(False)
    samples = [toys.Sample(s.prompt_ids, (), s.key) for s in toys.random_samples(5, 7, 0)]
    config = ppo.Config(
        policy="p", prompts="x", reward_model="r", lora=lora, trainer={"micro_batch_tokens": 48, "steps": 8}
    )
    prepare = ppo.Prepare(policy, InRole(policy, None), value_model, config)
    rollouts = Rollouts(
        [Prompt((Message("user", s.key),)) for s in samples],
        samples,
        sampler=Engine(policy, end_ids=frozenset({0, 1}), slots=4, world=world),
        decode=lambda ids: " ".join(map(str, ids)),
        totals={"score": [WeightedReward(OnTrunk(reward_model, world))]},
        sampling=SamplingParams(max_new_tokens=5),
        config=RolloutConfig(prompts=5, completions=2, epochs=2, minibatches=2),
        seed=0,
        world=world,
    )
    source = OnPolicySource(
        rollouts, prepare=prepare, count=2, micro_batch_tokens=48, hidden_size=16, world=world, store=None
    )
    return toys.ToyRun(ppo.Objective(policy, value_model, config), source, {})


class Computed(grpo.Prepare):
    """Nothing is skipped."""

    def _taught(self, *given):
        return super()._taught(*given).with_(skip=False)


def grouped(world: World) -> toys.ToyRun:
    """grpo itself, whose tied prompts two ranks skip and one computes."""
    policy = ScoredModel(tiny.llama())
    samples = [toys.Sample(s.prompt_ids, (), s.key) for s in toys.random_samples(5, 7, 0)]
    config = grpo.Config(
        policy="p", prompts="x", reward_model="r", preset="dr_grpo", trainer={"micro_batch_tokens": 48, "steps": 8}
    )
    rollouts = Rollouts(
        [Prompt((Message("user", s.key),)) for s in samples],
        samples,
        sampler=Engine(policy, end_ids=frozenset({0, 1}), slots=4, world=world),
        decode=lambda ids: " ".join(map(str, ids)),
        totals={"score": [WeightedReward(toys.Lucky("reward", 2))]},
        sampling=SamplingParams(max_new_tokens=5),
        config=RolloutConfig(prompts=5, completions=3, epochs=2, minibatches=2),
        seed=0,
        world=world,
    )
    prepare = (grpo.Prepare if world.size > 1 else Computed)(policy, policy, config)
    source = OnPolicySource(
        rollouts, prepare=prepare, count=2, micro_batch_tokens=48, hidden_size=16, world=world, store=None
    )
    return toys.ToyRun(grpo.Objective(policy, config), source, {})


class OnTrunk:
    """A reward model that is a role of the policy, on the tokens that were drawn."""

    name = "reward"

    def __init__(self, model: ScoredModel, world: World) -> None:
        self.model, self.world = model, world

    def score(self, rollouts):
        ids = [list(one.completion_ids) for one in rollouts]
        samples = [toys.Sample(torch.tensor([1, 2]), (toys.branch(one),)) for one in ids]
        found = forward_samples(self.model, samples, ["scores"], micro_batch_tokens=48, world=self.world)["scores"]
        return [Score(float(one)) for (one,) in found]


def weights(trainer: Trainer, world: World) -> dict[str, torch.Tensor]:
    """All that is trained, whole; every rank must ask."""
    states = trainer.state_dict()["modules"]
    return {f"{role}.{name}": world.whole(t).clone() for role, of in states.items() for name, t in of.items()}


class Stopped(toys.Lucky):
    """A reward that asks its own process to end, in the second rollout."""

    def score(self, rollouts):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().score(rollouts)


def main(folder: Path) -> None:
    from baro.distributed.world import TorchWorld

    dist.init_process_group("gloo")
    world = TorchWorld()

    def keep(name: str, trainer: Trainer) -> None:
        found = weights(trainer, world)
        if world.rank == 0:
            save_file(found, folder / f"{name}.safetensors")

    for build in (toys.sft, toys.ppo, narrow, blocks, thumbs, trunk, grouped):
        made = build(world)
        trainer = Trainer(made.objective, made.source, CONFIG, world=world)
        trainer.fit()
        keep(build.__name__, trainer)

    run = open_run(folder / "two", world)
    online(world, run).fit(until=3)
    if run is not None:
        run.close()
        shutil.copytree(folder / "two", folder / "one")
        run = open_run(folder / "two", world)
    dist.barrier()
    trainer = online(world, run)
    trainer.fit()
    keep("online", trainer)

    run = open_run(folder / "ended", world)
    trainer = online(world, run)
    if world.rank == 1:  # which has no run of its own
        trainer.source.rollouts.totals = {"score": [WeightedReward(Stopped("reward", 3))]}
    try:
        trainer.fit()
    except SystemExit as end:
        (folder / f"code-{world.rank}").write_text(f"{end.code} {trainer.step}")
    dist.barrier()  # one that leaves first takes the store with it, and the other may abort while it leaves
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
