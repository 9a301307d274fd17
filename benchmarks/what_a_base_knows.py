"""What the demo's base model knows, and how its reward model judges: ``python -m benchmarks.what_a_base_knows OUT``.

Trains base, sft and reward of the embedded task for one seed, with settings changed by ``--set STAGE.KEY=VALUE``
(``texts=N`` for the number of texts), and prints one JSON line:

    facts_known      of --facts prompts that no training saw and that ask for a fact: of how many the base model finds
                     the sentence with the right value likelier than each with a wrong one
    answers_right    of SFT's answers to such prompts (four each, at temperature 0.7): how many are right
    reward, gold     of the people's held-out pairs: with how many the reward model agrees, and the gold judge
    base_seconds     processor seconds of the base stage

``--until base`` trains and asks the base model alone. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from baro.data.formats import read_records
from baro.demo import run as demo
from baro.demo import world
from baro.demo.grammar import all_prompts, contents, wrong_values
from baro.demo.judge import criteria, text_of
from baro.pipeline import run_pipeline
from baro.records import Answers

STAGES = ("base", "sft", "answers", "shown", "judged", "judged_held_out", "reward", "labels_of_gold")
BATCH = 64  # sentences that are read at once
POOL = 1_800  # held-out prompts, of which about 1,200 ask for a fact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE")
    parser.add_argument("--until", choices=STAGES, default="labels_of_gold")
    parser.add_argument("--facts", type=int, default=1000)
    given = parser.parse_args()
    print(json.dumps(asked(given.out, given.seed, given.set, given.until, given.facts)), flush=True)


def asked(out: Path, seed: int, settings: Sequence[str], until: str, facts: int) -> dict[str, Any]:
    """Train the stages, each once, and ask them."""
    texts = [setting.partition("=")[2] for setting in settings if setting.startswith("texts=")]
    sizes = {**demo.SIZES, "text": int(texts[-1]) if texts else demo.SIZES["text"]}
    demo.write_data(out / "data", seed, sizes)
    outline = demo.pipeline(out / "data", seed, with_controls=False)
    stages = {name: outline["stages"][name] for name in STAGES[: STAGES.index(until) + 1]}
    if "labels_of_gold" in stages:
        stages["labels_of_gold"].pop("policies")
        stages["labels_of_gold"].pop("ref_policy")
    for setting in settings:
        change(stages, *setting.split("=", 1))
    found: dict[str, Any] = {"seed": seed, "set": list(settings)}
    started = time.process_time()
    base = run_pipeline({"stages": {"base": stages["base"]}, "seed": seed}, out=out)["base"]
    found["base_seconds"] = round(time.process_time() - started, 1)
    found["held_out_loss"] = held_out_loss(base.path / "metrics.jsonl")
    found["facts_known"] = round(facts_known(base.model, facts), 4)
    if until == "base":
        return found
    runs = run_pipeline({"stages": stages, "seed": seed}, out=out)
    if "answers" in runs:
        found["answers_right"] = round(answers_right(runs["answers"].path / "records.jsonl"), 4)
    if "labels_of_gold" in runs:
        figures = json.loads((runs["labels_of_gold"].path / "figures.json").read_text())
        found |= {
            f["name"].split("/")[0]: round(f["value"], 4) for f in figures if f["name"].endswith("/pair_accuracy")
        }
    return found


def change(stages: dict[str, Any], key: str, value: str) -> None:
    """Put one value into the stages; the value is read as YAML."""
    if key == "texts":
        return
    *path, last = key.split(".")
    block = stages
    for name in path:
        block = block.setdefault(name, {})
    block[last] = yaml.safe_load(value)


def held_out_loss(metrics: Path) -> float:
    """The last held-out loss of the base stage, in nats a token."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return round(next(row["eval/loss"] for row in reversed(rows) if "eval/loss" in row), 4)


def asking(prompts: Sequence[str]) -> list[str]:
    """The prompts that ask for a fact: not what is answered by a referral or an emergency number."""
    return [prompt for prompt in prompts if all_prompts()[prompt].kind in world.FACT_KINDS]


def facts_known(folder: Path, count: int) -> float:
    """The share of facts whose right sentence is likelier than every wrong one, as the first answer to a prompt."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pool = [row["prompt"] for row in world.prompts(0, POOL, "held_out")]
    prompts = asking(pool)[:count]
    sentences, first = list[str](), list[int]()
    for prompt in prompts:
        request = all_prompts()[prompt]
        first.append(len(sentences))
        sentences += [
            f"User: {prompt}\nAssistant: {contents(request, value, 'full')[0]}"
            for value in (request.value, *wrong_values(request))
        ]
    likely = log_likelihoods(model, [tokenizer(text)["input_ids"] for text in sentences])
    ends = [*first[1:], len(sentences)]
    return sum(likely[a] > max(likely[a + 1 : b]) for a, b in zip(first, ends, strict=True)) / len(first)


@torch.no_grad()
def log_likelihoods(model: torch.nn.Module, texts: Sequence[Sequence[int]]) -> list[float]:
    """log p of each row of tokens after its first, in nats."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [0.0] * len(texts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        longest = max(len(texts[i]) for i in rows)
        ids = torch.tensor([[*texts[i], *[0] * (longest - len(texts[i]))] for i in rows])
        real = torch.tensor([[1] * len(texts[i]) + [0] * (longest - len(texts[i])) for i in rows])
        logprobs = model(input_ids=ids, attention_mask=real).logits[:, :-1].log_softmax(-1)
        each = logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1) * real[:, 1:]
        for i, value in zip(rows, each.sum(-1).tolist(), strict=True):
            found[i] = value
    return found


def answers_right(records: Path) -> float:
    """The share of answers, to prompts that ask for a fact, that the gold judge finds right."""
    right, of = 0, 0
    for record in read_records(records, Answers).records:
        prompt = record.prompt[-1].content
        if asking([prompt]):
            found = [criteria(prompt, text_of(completion))["correct"] for completion in record.completions]
            right, of = right + found.count(1.0), of + len(found)
    return right / of


if __name__ == "__main__":
    main()
