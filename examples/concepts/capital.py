"""One question through every step of RLHF, with the numbers: python examples/concepts/capital.py 2>/dev/null

A model of about 75,000 parameters learns from scratch to answer eight questions of the demo's world, mostly rightly.
Its answers are judged by the demo's simulated raters; a reward model and DPO learn from the judgments. Everything is a
function of the seed. docs/concepts.md explains what is printed here.
"""

import os

# No GPU, one thread, no kernel chosen by what the processor can do: the rounding, and so what is sampled, stays.
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"}
os.environ |= {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}

import json
import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baro import BaseConfig, DPOConfig, GenerateConfig, LabelConfig, RewardConfig, base, dpo, generate, label, reward
from baro.batch import Sample, branch
from baro.data.template import Template
from baro.demo import world
from baro.demo.grammar import requests
from baro.functional.preference import bradley_terry_loss, dpo_loss
from baro.models.forward import forward_samples
from baro.models.load import load_policy, load_scalar_model
from baro.protocols import LocalWorld
from baro.records import Message, Rollout, said
from baro.rewards.learned import LearnedReward

SEED = 0
SAMPLING_SEED = 0  # of seeds 0 to 4 the one whose four answers differ most, in tone and in what they say
BETA = 0.1
QUESTION = "What is the capital of France?"
SHAPE = {"vocabulary": 400, "hidden_size": 64, "intermediate_size": 172, "layers": 1, "heads": 4, "max_positions": 96}
# People who know most capitals, in every tone of the demo, and who come to the point.
HABITS = replace(world.DEMONSTRATORS, ordinary={"right": 0.9, "wrong": 0.1}, rambles={0: 1.0}, unfinished=0.0)


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(run) -> list[dict]:
    return [json.loads(line) for line in run.records.read_text().splitlines()]


def logprobs(policy, template: Template, answers: list[str]) -> Tensor:
    """log π(y|x) of each answer to the question: the sum over its tokens, the end token included, in nats."""
    prompt = (Message("user", QUESTION),)
    encoded = [template.encode(prompt, (Message("assistant", text),)) for text in answers]
    sample = Sample(torch.tensor(encoded[0].prompt_ids), tuple(branch(one.completion_ids) for one in encoded))
    found = forward_samples(policy, [sample], ["logprobs"], micro_batch_tokens=8192, world=LocalWorld())
    return torch.stack([tokens.sum() for tokens in found["logprobs"][0]])


def show_dpo(when: str, log_ratios: Tensor) -> None:
    chosen, rejected = log_ratios.round(decimals=1) + 0.0  # what is printed adds up; −0 becomes 0
    loss = float(dpo_loss(chosen[None], rejected[None], beta=BETA))
    print(
        f"  {when}: log π/π_ref is {chosen:.1f} for chosen and {rejected:.1f} for rejected; h = {chosen - rejected:.1f}"
    )
    print(f"    loss −log σ({BETA} · {chosen - rejected:.1f}) = {loss:.2f}")


def main(folder: Path) -> None:
    rng = np.random.default_rng(SEED)
    questions = [f"What is the capital of {dict(one.slots)['subject']}?" for one in requests("capital", "en")]
    written = {(q, world.sample_answer(q, HABITS, rng)): None for _ in range(100) for q in questions}  # each once
    text = write(folder / "text.jsonl", [{"prompt": q, "completion": a} for q, a in written])
    prompts = write(folder / "prompts.jsonl", [{"prompt": q} for q in questions])
    short = {"max_length": 96}

    trainer = {"learning_rate": 1e-2, "steps": 200, "batch_size": 16, "warmup_steps": 10, "schedule": "cosine"}
    start = base(BaseConfig(text=text, architecture=SHAPE, trainer=trainer, data=short), folder / "policy")
    template, policy = Template.load(start.model), load_policy(start.model)

    conversation = (Message("user", QUESTION),)
    ids = template.encode_prompt(conversation)
    print("1. The prompt, which is the state before the first action")
    print(f"  {template.rendering.prompt(conversation)!r}")
    print(f"  {len(ids)} tokens: {' | '.join(repr(template.visible([i]))[1:-1] for i in ids)}")

    sampling = {"max_new_tokens": 48, "temperature": 1.0}
    config = GenerateConfig(policy=str(start.path), prompts=prompts, n=8, sampling=sampling, seed=SAMPLING_SEED)
    answered = generate(config, folder / "answers")
    (answers,) = [row["responses"][:4] for row in read(answered) if row["prompt"] == QUESTION]
    print("2. Four answers sampled from the policy; log π in nats, and what the gold judge thinks of each (0 to 1)")
    for name, answer, logprob in zip("ABCD", answers, logprobs(policy, template, answers), strict=True):
        print(f"  {name}  log π = {logprob:5.1f}  gold {world.gold.utility(QUESTION, answer):.2f}  {answer}")

    print(
        "3. The judgments: is the first answer better? gold judge; how many of 12 raters say yes; one of them by chance"
    )
    rollouts = {name: Rollout(conversation, said(answer)) for name, answer in zip("ABCD", answers, strict=True)}
    for pair in combinations(rollouts.values(), 2):
        (gold,), (label_of_one,) = world.gold.compare([pair]), world.raters.compare([pair])
        texts = [one.text for one in pair]
        votes = sum(world.raters.prefers_left(QUESTION, *texts, rater) for rater in range(world.raters.count))
        names = " > ".join(name for name, one in rollouts.items() if one in pair)
        print(f"  {names}?  gold {gold.p_first:.0f}  raters {votes:2} of 12  label {label_of_one.p_first:.0f}")

    by = {"by": "baro.demo.world:raters", "as": "pairs", "pairs_per_prompt": 28}
    labelled = label(LabelConfig(answers=str(answered.path), seed=SEED, **by), folder / "pairs")
    record = next(row for row in read(labelled) if {row["chosen"], row["rejected"]} == {answers[0], answers[3]})
    pair = [record["chosen"], record["rejected"]]
    print("4. A and D as the pair that baro label writes")
    print(f"  {json.dumps(record, ensure_ascii=False)}")

    trainer = {"learning_rate": 3e-3, "epochs": 8, "batch_size": 16}
    pairs = str(labelled.path)
    scored = reward(RewardConfig(model=str(start.path), preferences=pairs, trainer=trainer, data=short), folder / "rm")
    source = LearnedReward(load_scalar_model(scored.model), Template.load(scored.model))
    better, worse = (
        round(one.value, 2) for one in source.score([Rollout(conversation, said(answer)) for answer in pair])
    )
    loss = float(bradley_terry_loss(torch.tensor([better]), torch.tensor([worse])))
    print(f"5. The reward model after training on {len(read(labelled))} such pairs")
    print(f"  r(chosen) = {better:.2f}, r(rejected) = {worse:.2f}")
    print(f"  Bradley-Terry: p(chosen is better) = σ({better - worse:.2f}) = {np.exp(-loss):.2f}; loss {loss:.2f}")

    print("6. DPO on the same pairs, without the reward model")
    before = logprobs(policy, template, pair)
    show_dpo("before training", before - logprobs(load_policy(start.model), template, pair))
    trainer = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 16}
    config = DPOConfig(policy=str(start.path), preferences=pairs, beta=BETA, trainer=trainer, data=short)
    tuned = dpo(config, folder / "dpo")
    show_dpo("after training", logprobs(load_policy(tuned.model), template, pair) - before)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
