"""The two sides of ``benchmarks.peers`` for GRPO: a step on completions that were drawn before, the same on both.

Two prompts of a step have eight completions each; the reward is made of their tokens. What is timed is everything but
sampling: rewards, advantages, collation, forward, backward, clipping, update. Log-probs under the policy that sampled
come with the sampling here, and TRL takes them from the forward of the step, so that neither pays for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers import Job, Pace

GENERATIONS = 8


def rewards_of(completions: Sequence[Sequence[int]], tied: bool) -> list[float]:
    """Of a step's completions; ``tied``: every other prompt's are all equal."""
    odd = [tied and k // GENERATIONS % 2 == 1 for k in range(len(completions))]
    return [1.0 if same else float(sum(ids) % 7) for same, ids in zip(odd, completions, strict=True)]


def steps_of(job: Job) -> list[tuple[list[str], list[list[int]], list[list[int]]]]:
    """For each step its prompts, their tokens, and those of all completions, prompt after prompt."""
    from transformers import PreTrainedTokenizerFast

    from benchmarks.peers import BATCH, _lines

    tokenizer, rows = PreTrainedTokenizerFast.from_pretrained(job.folder), _lines(job.rows)
    found = []
    for step in range(job.steps):
        own = rows[step * BATCH : (step + 1) * BATCH]
        prompts = [row["prompt"] for row in own[::GENERATIONS]]
        ids = [tokenizer(text)["input_ids"] for text in prompts]
        found.append((prompts, ids, [tokenizer(row["completion"])["input_ids"] for row in own]))
    return found


def ours(job: Job, pace: Pace) -> None:
    import torch

    from baro.batch import GroupBatch, Sample, branch, with_flat
    from baro.collate import collate
    from baro.grpo_config import Config
    from baro.methods import grpo
    from baro.models.forward import ScoredModel, flat_forward
    from baro.protocols import LocalWorld, Metrics, Next
    from baro.trainer import Trainer
    from benchmarks.peers import new_model, peak_memory

    pace.tell(floor=peak_memory())
    config = Config.model_validate({
        "policy": "-", "prompts": "-", "reward_model": "-", "kl": {"coef": job.variant.beta},
        "rollout": {"completions": GENERATIONS}, "trainer": {"learning_rate": 1e-5, "steps": job.steps},
    })  # fmt: skip
    policy = ScoredModel(new_model(job.size, 0))
    reference = ScoredModel(new_model(job.size, 1)) if job.variant.beta else policy
    prepare, budget = grpo.Prepare(policy, reference, config), config.trainer.micro_batch_tokens

    class Source:
        """The step's completions, scored and prepared when they are asked for."""

        rollout: list[Sample]
        position = 0

        def __len__(self) -> int:
            return job.steps

        def __iter__(self) -> Iterator[list[GroupBatch]]:
            while self.position < job.steps:
                ids = [one.ids.tolist() for sample in self.rollout for one in sample.completions]
                scores = iter(rewards_of(ids, job.variant.tied))
                scored = [
                    s.with_completions(
                        [b.with_(fields={"score": next(scores), "finished": 1.0}) for b in s.completions]
                    )
                    for s in self.rollout
                ]
                prepared = prepare(scored, LocalWorld())
                layout = {"micro_batch_tokens": budget, "hidden_size": policy.hidden_size}
                yield collate(prepared, atom="completion", term="rollout", **layout)

        def advance(self, metrics: Metrics) -> Next:
            self.position, self.loss = self.position + 1, metrics["loss"]
            return Next.CONTINUE

    source = Source()
    trainer = Trainer(grpo.Objective(policy, config), source, config.trainer)
    for step, (_, prompts, completions) in enumerate(steps_of(job)):
        groups = [completions[k : k + GENERATIONS] for k in range(0, len(completions), GENERATIONS)]
        samples = [
            Sample(torch.tensor(prompt), tuple(branch(ids) for ids in group))
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        drawn_with = flat_forward(policy, samples, "logprobs", micro_batch_tokens=budget, world=LocalWorld())
        source.rollout = with_flat(samples, {"old_logprobs": drawn_with})
        pace.wait()
        trainer.fit(until=step + 1)
        pace.step(source.loss)


def theirs(job: Job, pace: Pace) -> None:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer import grpo_trainer

    from benchmarks.peers import BATCH, new_model, peak_memory

    pace.tell(floor=peak_memory())
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    same = {"learning_rate": 1e-5, "max_steps": job.steps, "per_device_train_batch_size": BATCH}
    order = {"shuffle_dataset": False, "num_generations": GENERATIONS, "beta": job.variant.beta}
    settings = {"output_dir": str(job.folder), **plain, **quiet, **same, **order, **job.variant.peer}
    steps, taken, losses = steps_of(job), iter(steps_of(job)), []

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        own, ids, completions = next(taken)
        assert list(prompts) == [text for text in own for _ in range(GENERATIONS)]
        repeated = [one for one in ids for _ in range(GENERATIONS)]
        return {
            "prompt_ids": repeated,
            "completion_ids": completions,
            "logprobs": [[0.0] * len(c) for c in completions],
        }

    def reward(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return rewards_of(completion_ids, job.variant.tied)

    class Paced(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            pace.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pace.step(sum(losses))
            losses.clear()
            pace.wait()

    class Told(GRPOTrainer):  # type: ignore[misc]
        """TRL's trainer; each loss is written down on its way."""

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            losses.append(float(loss))
            return loss

    grpo_trainer.create_model_from_path = lambda *_, **__: new_model(job.size, 1)  # the reference, not from the hub
    trainer = Told(
        new_model(job.size, 0),
        reward_funcs=[reward],
        args=GRPOConfig(**settings),
        train_dataset=Dataset.from_list([{"prompt": text} for prompts, _, _ in steps for text in prompts]),
        processing_class=PreTrainedTokenizerFast.from_pretrained(job.folder),
        callbacks=[Paced()],
        rollout_func=rollout,
    )
    trainer.train()
