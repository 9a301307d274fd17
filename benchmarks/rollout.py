"""Tokens per second of the rollout engine against Hugging Face generate: ``python -m benchmarks.rollout``.

Random Llamas, prompts of 64 tokens, at most 96 new tokens, temperature 1. In the rows "full" nothing ends early, so no
time can be saved by refilling; in the rows "ends" one token in 48 ends its sequence, 4 completions share a prompt, and
the engine gets half as many slots as there are sequences. Only tokens up to the end count. The two take turns; the
medians of the rounds are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from baro.models.forward import ScoredModel
from baro.records import SamplingParams
from baro.rollout.engine import Engine

SIZES = {
    "1M": {"vocab_size": 2048, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4},
    "6.8M": {"vocab_size": 8192, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6},
}
PROMPT_TOKENS, NEW_TOKENS, END_EVERY, SIBLINGS = 64, 96, 48, 4

Run = Callable[[], int]  # gives the number of tokens that it drew


def random_llama(size: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES[size], num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True)
    return LlamaForCausalLM(config).eval()


def engine_run(model: LlamaForCausalLM, prompts: Tensor, n: int, ends: range, slots: int) -> Run:
    engine = Engine(ScoredModel(model), end_ids=frozenset(ends), slots=slots)
    params = SamplingParams(max_new_tokens=NEW_TOKENS)

    def run() -> int:
        groups = engine.generate(prompts.tolist(), n, params, range(len(prompts)))
        return sum(len(one.ids) for group in groups for one in group)

    return run


def generate_run(model: LlamaForCausalLM, prompts: Tensor, n: int, ends: range) -> Run:
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": True, "top_k": 0, "pad_token_id": 0}
    # Without ends the token asked for does not exist.
    eos = list(ends) or [model.config.vocab_size]

    def run() -> int:
        ids = prompts.repeat_interleave(n, 0)
        drawn = model.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=eos, **settings)
        ended = torch.isin(drawn[:, PROMPT_TOKENS:], torch.tensor(eos)).long()
        return int((ended.cumsum(-1) - ended == 0).sum())

    return run


def rate(run: Run) -> float:
    start = time.perf_counter()
    tokens = run()
    return tokens / (time.perf_counter() - start)


def compare(size: str, kind: str, count: int, rounds: int) -> str:
    model = random_llama(size)
    n = 1 if kind == "full" else SIBLINGS
    ends = range(0) if kind == "full" else range(model.config.vocab_size // END_EVERY)
    prompts = torch.randint(model.config.vocab_size, (count // n, PROMPT_TOKENS))
    runs = generate_run(model, prompts, n, ends), engine_run(model, prompts, n, ends, count // (1 if n == 1 else 2))
    for run in runs:
        run()
    rates = [[rate(run) for run in runs] for _ in range(rounds)]
    theirs, ours = (statistics.median(column) for column in zip(*rates, strict=True))
    return f"{size:>6} {kind:>5} {count:>9} {theirs:>9.0f} {ours:>9.0f} {ours / theirs:>6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sequences", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; tokens per second, medians")
    print(f"{'model':>6} {'rows':>5} {'sequences':>9} {'generate':>9} {'engine':>9} {'ratio':>6}")
    for size in arguments.sizes:
        for kind in ("full", "ends"):
            for count in arguments.sequences:
                print(compare(size, kind, count, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
