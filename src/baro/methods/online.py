"""What online methods share: prompts with their ledger, rollouts from the live policy, one call of Trainer.fit, models.

An online method is a Prepare, an Objective and ``Online``, which does the rest in the order of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from baro.batch import GroupBatch, Sample
from baro.data.encode import encode_demonstrations, encode_prompts
from baro.data.joined import Joined
from baro.data.source import FileSource
from baro.declared import inputs_in, is_object
from baro.errors import ConfigError
from baro.inputs import check_same_tokens, hash_input, load_template, open_run, resolve, training_world
from baro.measure import Measure
from baro.methods import stage
from baro.models.forward import ScoredModel
from baro.models.load import load_policy, save_policy
from baro.models.trunk import Trunk
from baro.online_config import OnlineConfig
from baro.protocols import BatchSource, LossOutput, Metrics, Objective, Prepare, Sampler
from baro.records import Demonstration, Prompt
from baro.reward_config import RewardTerm
from baro.rewards.gate import refuse_weak
from baro.rewards.own_data import try_on_own_data
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.fresh import OldLogprobs
from baro.rollout.held_out import HeldOutAnswers
from baro.rollout.rollouts import Draw, Rollouts
from baro.rollout.source import OnPolicySource
from baro.scorers import load_judge, load_rewards
from baro.trainer import Trainer

KEY_OF = {"score": "rewards", "cost": "costs"}
"""The key of the config under which the terms of a total stand."""


class Online:
    """A run that trains a policy on rollouts: open, ``read``, ``fit``, ``save``."""

    def __init__(self, verb: str, config: OnlineConfig, out: Path | str | None) -> None:
        self.config = config
        self.world = training_world()
        self.run = open_run(verb, config, out)
        self.finished = self.run.finished
        self.trunk: Trunk | None = None  # of the policy, for what may stand on its backbone

    def read(self, *others: str) -> None:
        """The prompts, short enough for the policy, every model of the config, and ``others`` that read its tokens."""
        config = self.config
        if not config.accept_weak_reward_model:
            refuse_weak([one for term in config.every_term for one in term.sources])
        self._refuse_what_is_trained_on()
        models = {one.key: one.value for one in inputs_in(type(config), config) if one.kind == "model"}
        check_same_tokens(config, *(key for key in models if key != "policy"))
        self.template = load_template(config.policy, config.data.template)
        room = stage.prompt_room(config.data, config.sampling, *dict.fromkeys([*models.values(), *others]))
        reader = stage.Reader(self.run, self.template, config.data, Prompt, encode_prompts, room)
        loaded, self.samples = reader.read("prompts", config.prompts)
        self.prompts = loaded.at((sample.key for sample in self.samples), Prompt)
        for terms in config.totals.values():
            self._try_verifiers(terms, self.prompts, self.samples)
        if config.ptx.demonstrations is not None:
            longest = stage.longest_row(config.data, config.policy)
            imitated = stage.Reader(self.run, self.template, config.data, Demonstration, encode_demonstrations, longest)
            _, self.ptx = imitated.read("ptx.demonstrations", config.ptx.demonstrations)
        if config.evaluation.prompts is not None:
            loaded, self.held_out_samples = reader.read("evaluation.prompts", config.evaluation.prompts)
            self.held_out = loaded.at((sample.key for sample in self.held_out_samples), Prompt)
            self._try_verifiers(config.evaluation.rewards, self.held_out, self.held_out_samples)

    def policy(self) -> ScoredModel:
        """The model to train, with new adapters where the config has some."""
        config = self.config
        folder = resolve(config.policy, "model")
        policy = load_policy(folder, compute=config.compute, lora=config.lora, seed=config.trainer.seed)
        if config.on_one_trunk:
            self.trunk = Trunk(policy, self.run.manifest["inputs"]["policy"])
        return policy

    def fit(
        self,
        policy: ScoredModel,
        ref_policy: ScoredModel,
        objective: Objective,
        prepare: Prepare,
        early_stop: Callable[[Metrics], bool] = lambda metrics: False,
    ) -> None:
        """Train on rollouts of the policy; held-out prompts are answered along the way."""
        sampler = self._sampler(policy)
        source: BatchSource = self._source(policy, sampler, prepare, early_stop)
        if self.config.ptx.demonstrations is not None:
            source = Joined({"rollout": source, "ptx": self._ptx(policy, len(source))})
        measure = self._measure(sampler, self._sampler(ref_policy)) if self.config.evaluation.prompts else None
        trainer = Trainer(objective, source, self.config.trainer, run=self.run, measure=measure, world=self.world)
        stage.fit(self.run, trainer)

    def save(self, policy: ScoredModel, **others: Callable[[Path], None]) -> None:
        """Write each of the other models by its own function, ``model/`` with the policy, and finish the run."""
        for name, save in others.items():
            stage.save_model(self.run, self.template, save, name=name)
        stage.save_trained(self.run, self.template, policy, save_policy)
        self.run.finish("finished")

    def _source(
        self, policy: ScoredModel, sampler: Sampler, prepare: Prepare, early_stop: Callable[[Metrics], bool]
    ) -> OnPolicySource:
        config, budget = self.config, self.config.trainer.micro_batch_tokens
        temperature = config.sampling.temperature
        rollouts = Rollouts(
            self.prompts,
            self.samples,
            sampler=sampler,
            decode=self.template.decode,
            totals={name: self._rewards(terms, KEY_OF[name]) for name, terms in config.totals.items()},
            sampling=config.sampling.params(),
            config=config.rollout,
            seed=config.trainer.seed,
            world=self.world,
        )
        return OnPolicySource(
            rollouts,
            prepare=prepare,
            old_logprobs=OldLogprobs(policy, sampler, micro_batch_tokens=budget, temperature=temperature),
            count=rollout_count(config, len(self.prompts)),
            steps=config.trainer.steps,
            micro_batch_tokens=budget,
            hidden_size=policy.hidden_size,
            world=self.world,
            store=self.run.path / "rollout.state",
            same_bits=policy.device.type == "cpu",
            early_stop=early_stop,
            on_rollout=lambda draw: self._tell(rollouts, draw),
        )

    def _ptx(self, policy: ScoredModel, steps: int) -> FileSource:
        trainer = self.config.trainer
        return FileSource(
            self.ptx,
            batch_size=self.config.ptx.batch_size,
            steps=steps,
            seed=trainer.seed,
            micro_batch_tokens=trainer.micro_batch_tokens,
            hidden_size=policy.hidden_size,
            world=self.world,
            term="ptx",
        )

    def _measure(self, sampler: Sampler, reference: Sampler) -> Measure:
        config, told = self.config, self.config.evaluation
        answers = HeldOutAnswers(
            self.held_out,
            self.held_out_samples,
            sampler=sampler,
            reference=reference,
            decode=self.template.decode,
            rewards=self._rewards(told.rewards, "evaluation.rewards"),
            judge=None if told.judge is None else load_judge(told.judge, compute=config.compute, run=self.run),
            sampling=config.sampling.params(),
            completions=told.completions,
            seed=config.trainer.seed,
            max_error_fraction=config.rollout.max_error_fraction,
            world=self.world,
        )
        keep = told.keep if told.kept_by is None else f"score/{told.keep}"
        return Measure(answers, every=told.every, keep=keep, higher=True)

    def _sampler(self, model: ScoredModel) -> Engine:
        return Engine(model, end_ids=self.template.end_ids, world=self.world)

    def _rewards(self, terms: Sequence[RewardTerm], key: str) -> list[WeightedReward]:
        same, compute = self.template.fingerprint, self.config.compute
        return load_rewards(terms, key, sampler_fingerprint=same, compute=compute, run=self.run, trunk=self.trunk)

    def _try_verifiers(self, terms: Sequence[RewardTerm], prompts: Sequence[Prompt], samples: Sequence[Sample]) -> None:
        limit = self.config.rollout.max_error_fraction
        try_on_own_data({term.called: term for term in terms}, prompts, [sample.key for sample in samples], limit)

    def _refuse_what_is_trained_on(self) -> None:
        """The validator compares names; here a copy of the training reward under another name is found."""
        kept_by = self.config.evaluation.kept_by
        if kept_by is None:
            return
        models = [one for term in self.config.every_term for one in term.sources if not is_object(one)]
        trained = {hash_input(one, "scorer") for one in models}
        for one in kept_by.sources:
            if not is_object(one) and hash_input(one, "scorer") in trained:
                raise ConfigError(f"evaluation.keep: {one} is the reward that is trained on; keep by another one")

    def _tell(self, rollouts: Rollouts, draw: Draw) -> None:
        stage.write_samples(self.run, draw.number, rollouts.texts(draw), draw.samples)


def rollout_count(config: OnlineConfig, prompts: int) -> int:
    """How many rollouts ``trainer.steps`` or ``trainer.epochs`` (passes over the prompts) need."""
    updates = config.rollout.epochs * config.rollout.minibatches
    if config.trainer.steps is not None:
        return math.ceil(config.trainer.steps / updates)
    assert config.trainer.epochs is not None  # the config has one of the two
    return math.ceil(config.trainer.epochs * prompts / config.rollout.prompts)


def ptx_loss(policy: ScoredModel, batch: GroupBatch, totals: Mapping[str, float], *, coef: float) -> LossOutput:
    """Imitation beside the reward: L = −γ · (1/N) Σ_n log π(y_n), N the tokens of the step's demonstrations.

    Ouyang et al. 2022, arXiv:2203.02155, eq. 2, on demonstrations or texts; at temperature 1.
    """
    logprobs = policy(batch, ["logprobs"]).logprobs
    metrics = {"loss/ptx": (-logprobs.detach().sum(), len(logprobs))}
    return LossOutput(-coef * logprobs.sum() / totals["tokens"], metrics)


@torch.no_grad()
def policy_metrics(
    batch: GroupBatch, logprobs: Tensor, entropy: Tensor, loss: Tensor, *, clipped: Tensor
) -> dict[str, tuple[Tensor | float, Tensor | float]]:
    """What is told of the policy's step: loss, ratios and entropy a token, and what its completions carry.

    clipped: [N], the tokens whose ratio lies beyond the loss's bound.
    Fields of completions are means over those that have one: of a reward term without an opinion they are NaN. Skipped
    completions count in them, and as tokens of loss 0; ratios and entropy are of what is computed.
    """
    tokens, carried = len(logprobs), _carried(batch)
    log_ratio = logprobs - batch.token_fields["old_logprobs"]
    found: dict[str, tuple[Tensor | float, Tensor | float]] = {
        "loss/policy": (loss.sum(), tokens + batch.skipped_fields.get("length", loss[:0]).sum()),
        "policy/approx_kl": (0.5 * (log_ratio**2).sum(), tokens),
        "policy/clip_fraction": (clipped.sum(), tokens),
        "policy/ratio": (log_ratio.exp().sum(), tokens),
        "policy/entropy": (entropy.sum(), tokens),
    }
    for name, values in carried.items():
        if name in _OVER_TOKENS:
            found[_OVER_TOKENS[name]] = (values.sum(), carried["length"].sum())
            continue
        known = ~values.isnan() if "/" in name else torch.ones_like(values, dtype=torch.bool)
        found[_LOGGED.get(name, f"objective/{name}")] = (values[known].sum(), known.sum())
    return found


def _carried(batch: GroupBatch) -> dict[str, Tensor]:
    """The fields of all completions of a micro-batch, computed or skipped."""
    own, skipped = batch.completion_fields, batch.skipped_fields
    return {name: torch.cat([one[name] for one in (own, skipped) if name in one]) for name in {**own, **skipped}}


_OVER_TOKENS = {
    "skipped_tokens": "objective/skipped_fraction",
    "gated_tokens": "sampler/gated_fraction",
    "sampler_gap": "sampler/gap",
}
"""Fields that are sums over the tokens of a completion, told as means over tokens."""
_LOGGED = {
    "score": "objective/scores",
    "cost": "objective/costs",
    "multiplier": "constraint/lambda",
    "mean_cost": "constraint/mean_cost",
    "cost_low": "constraint/cost_low",
    "cost_high": "constraint/cost_high",
    "over_limit": "constraint/over_limit_fraction",
    "finished": "objective/finished_fraction",
    "length": "objective/completion_tokens",
    "tied": "objective/tied_fraction",
    "learned": "objective/learned_fraction",
    "rollout": "rollout",
}
