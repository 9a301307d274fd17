"""Proves the path on a GPU in under ten minutes: ``python -m benchmarks.gpu --out gpu.json``.

Needs a CUDA build of torch and transformers; what else is missing may come from a folder of wheels that
``python -m benchmarks.wheels`` gathers on a machine with a network (``--wheels FOLDER``). Nothing is downloaded: all
models have random weights. Each part prints one JSON object as soon as it is there; ``--out`` holds all of them.

layout     rows that share a prompt equal the plain model, one completion a row: fp32 by log-probs, bf16 by
           probabilities
sampling   what the engine says it drew with equals a teacher-forced forward; tokens per second
steps      every method at 135M and 1B parameters, all weights and LoRA, in bf16: seconds, tokens per second, share of
           the measured matrix-product rate (MFU), peak memory and the memory of each role
runs       every method from files to a saved model, by its command; three of them killed in the middle and run again,
           which must end as undisturbed (bit for bit on a CPU; on a GPU equality and largest difference are told)

A part that fails is told with its error, and the command ends with exit code 1. ``--device cpu --sizes tiny`` runs all
of it on small models, which is how it is tested.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

VOCABULARY = 32_000
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    "20M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4},
    "135M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 12},
    "1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 18, "num_attention_heads": 16},
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen3": {"head_dim": 64},
    "Gemma2": {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 48},
    "Mistral": {"sliding_window": 48},
}
METHODS = ("sft", "reward", "dpo", "kto", "ppo", "grpo")
EXACT, BF16_PROBABILITY = 1e-4, 0.01
WARM_UP, TIMED = 2, 5
Found = dict[str, Any]


class Bench:
    """The machine, and what is asked of it."""

    def __init__(self, device: str, sizes: Sequence[str], seconds: float) -> None:
        import torch

        self.device = torch.device(device)
        self.sizes, self.end = sizes, time.monotonic() + seconds
        self.cuda = self.device.type == "cuda"
        self.small = not self.cuda
        self.rate = self.matmul_rate(torch.bfloat16 if self.cuda else torch.float32)

    def matmul_rate(self, dtype: Any) -> float:
        """Floating-point operations per second of one large matrix product, the median of ten."""
        import torch

        size = 8192 if self.cuda else 512
        one, other = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        seconds = []
        for _ in range(13):
            self.wait()
            start = time.perf_counter()
            one @ other
            self.wait()
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / statistics.median(seconds[3:])

    def wait(self) -> None:
        import torch

        if self.cuda:
            torch.cuda.synchronize()

    def clear(self) -> None:
        import torch

        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak_memory(self) -> int | None:
        """Bytes of the device since ``clear``; None on a CPU."""
        import torch

        return torch.cuda.max_memory_allocated() if self.cuda else None

    def environment(self) -> Found:
        import torch

        names = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pydantic")
        found: Found = {"python": platform.python_version(), "versions": {name: _version(name) for name in names}}
        found |= {"device": str(self.device), "matmul_tflops": round(self.rate / 1e12, 2)}
        if self.cuda:
            properties = torch.cuda.get_device_properties(self.device)
            found |= {"gpu": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
            found |= {"cuda": torch.version.cuda, "fp32_tflops": round(self.matmul_rate(torch.float32) / 1e12, 2)}
        return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------------- models and samples


def random_model(bench: Bench, size: str, architecture: str = "Llama", *, seed: int = 0, scalar: bool = False) -> Any:
    """A Hugging Face model of this shape with random fp32 weights, made on the device."""
    import torch
    import transformers

    torch.manual_seed(seed)
    vocabulary = 64 if size == "tiny" else VOCABULARY
    shape = {**SIZES[size], "num_key_value_heads": SIZES[size]["num_attention_heads"], "vocab_size": vocabulary}
    # weights large enough that attention and positions matter in a random model
    settings = {"initializer_range": 1.5 / math.sqrt(shape["hidden_size"]), "tie_word_embeddings": True}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 1}
    own = ARCHITECTURES[architecture] if size != "tiny" else {}
    config = getattr(transformers, f"{architecture}Config")(**shape, **settings, **special, **own)
    kind = "ForSequenceClassification" if scalar else "ForCausalLM"
    with bench.device:
        return getattr(transformers, f"{architecture}{kind}")(config).eval()


def scored(bench: Bench, model: Any, dtype: str) -> Any:
    """The model as Baro trains it."""
    import torch

    from baro.models.forward import ScoredModel

    made = ScoredModel(model).to(bench.device)
    made.autocast_dtype = torch.bfloat16 if dtype == "bf16" else None
    return made


def samples(bench: Bench, size: str, count: int, completions: int, prompt: int, answer: int) -> list[Any]:
    """Prompts with completions of random tokens; lengths vary by half."""
    import torch

    from baro.batch import Sample, branch

    draw = torch.Generator().manual_seed(0)
    vocabulary = 64 if size == "tiny" else VOCABULARY

    def tokens(most: int) -> Any:
        length = int(torch.randint(most // 2, most + 1, (1,), generator=draw))
        return torch.randint(3, vocabulary, (length,), generator=draw)

    return [
        Sample(tokens(prompt), tuple(branch(tokens(answer)) for _ in range(completions)), str(i)) for i in range(count)
    ]


# --------------------------------------------------------------------------------------------------- layout, sampling


def layout(bench: Bench) -> Iterator[Found]:
    """Rows that share a prompt against the plain model."""
    sizes = {"Llama": bench.sizes[0], **dict.fromkeys(list(ARCHITECTURES)[1:], "tiny" if bench.small else "20M")}
    for architecture, size in sizes.items():
        model = random_model(bench, size, architecture)
        rows = samples(bench, size, 6, 4, 40 if bench.small else 160, 24 if bench.small else 96)
        expected = plain_logprobs(bench, model, rows)
        for dtype in ("fp32", "bf16"):
            yield {"architecture": architecture, "size": size, "dtype": dtype} | apart(
                shared_logprobs(bench, scored(bench, model, dtype), rows), expected, dtype
            )
        bench.clear()


def plain_logprobs(bench: Bench, model: Any, rows: Sequence[Any]) -> list[Any]:
    """Log-probs of every completion by the model's own forward, each alone in its row, in fp32."""
    import torch

    found = []
    with torch.no_grad():
        for sample in rows:
            for one in sample.completions:
                ids = torch.cat([sample.prompt_ids, one.ids])[None].to(bench.device)
                logprobs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
                at = range(len(sample.prompt_ids) - 1, ids.shape[1] - 1)
                found.append(logprobs[list(at), one.ids.to(bench.device)].cpu())
    return found


def shared_logprobs(bench: Bench, model: Any, rows: Sequence[Any]) -> list[Any]:
    from baro.models.forward import forward_samples
    from baro.protocols import LocalWorld

    model.layout, model.checked = "shared", True  # what is measured here is the layout itself, not its fallback
    found = forward_samples(model, rows, ["logprobs"], micro_batch_tokens=8192, world=LocalWorld())["logprobs"]
    return [one for group in found for one in group]


def apart(found: Sequence[Any], expected: Sequence[Any], dtype: str) -> Found:
    """How far two lists of log-probs lie apart, and whether that is within the bound of the type."""
    import torch

    one, other = torch.cat(list(found)), torch.cat(list(expected))
    logprob, probability = float((one - other).abs().max()), float((one.exp() - other.exp()).abs().mean())
    ok = logprob <= EXACT if dtype == "fp32" else probability <= BF16_PROBABILITY
    return {"max_logprob": logprob, "mean_probability": probability, "tokens": len(one), "ok": ok}


def sampling(bench: Bench) -> Iterator[Found]:
    """What the engine drew with against a teacher-forced forward of the same tokens."""
    from baro.records import SamplingParams
    from baro.rollout.engine import Engine

    n, prompts, new = (2, 4, 12) if bench.small else (4, 64, 128)
    for size in bench.sizes:
        model = random_model(bench, size)
        rows = samples(bench, size, prompts, 1, 2 * new, new)
        for dtype in ("fp32", "bf16"):
            policy = scored(bench, model, dtype)
            engine = Engine(policy, end_ids=frozenset({2}))
            ids = [row.prompt_ids.tolist() for row in rows]

            def draw() -> list[Any]:
                return engine.generate(ids, n, SamplingParams(max_new_tokens=new), range(prompts))  # noqa: B023

            draw()
            bench.clear()
            start = time.perf_counter()
            groups = draw()
            bench.wait()
            seconds = time.perf_counter() - start
            drawn, said = as_samples(rows, groups)
            tokens = sum(len(one) for one in said)
            yield (
                {"size": size, "dtype": dtype, "tokens_per_second": round(tokens / seconds)}
                | {"peak_memory_gb": giga(bench.peak_memory)}
                | apart(said, shared_logprobs(bench, policy, drawn), dtype)
            )
        del model, policy, engine
        bench.clear()


def as_samples(rows: Sequence[Any], groups: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What was drawn as samples, and the log-probs that the engine says it drew with."""
    import torch

    from baro.batch import branch

    drawn = [row.with_completions([branch(list(one.ids)) for one in g]) for row, g in zip(rows, groups, strict=True)]
    return drawn, [torch.as_tensor(one.logprobs).float().cpu() for group in groups for one in group]


def giga(amount: int | None) -> float | None:
    return None if amount is None else round(amount / 1e9, 2)


# -------------------------------------------------------------------------------------------------------------- steps


def steps(bench: Bench) -> Iterator[Found]:
    """Every method's step; what does not fit into the memory is told as that."""
    for size in bench.sizes:
        for lora in (False, True):
            for method in METHODS:
                if time.monotonic() > bench.end:
                    yield {"method": method, "size": size, "lora": lora, "skipped": "out of time", "ok": False}
                    continue
                told = {"method": method, "size": size, "lora": lora, "dtype": "bf16" if bench.cuda else "fp32"}
                try:
                    yield told | step(bench, method, size, lora)
                except Exception as error:
                    yield told | failure(error)
                bench.clear()


def step(bench: Bench, method: str, size: str, lora: bool) -> Found:
    """Median seconds of the timed steps of a trainer in memory, and where its memory goes."""
    from benchmarks.gpu_methods import made

    bench.clear()
    job = made(bench, method, size, lora)
    start = time.perf_counter()
    seconds, losses = [], []
    for metrics in job.steps(WARM_UP + TIMED):
        bench.wait()
        seconds.append(time.perf_counter() - start)
        losses.append(metrics["loss"])
        start = time.perf_counter()
    median = statistics.median(seconds[WARM_UP:])
    found = {"seconds": round(median, 4), "rollout_seconds": job.rollout_seconds, "parameters": job.parameters}
    found |= {"trained": job.trained, "tokens": round(job.tokens), "tokens_per_second": round(job.tokens / median)}
    found |= {"mfu": round(job.operations / median / bench.rate, 3), "first_loss": losses[0], "last_loss": losses[-1]}
    roles = {role: giga(amount) if bench.cuda else amount for role, amount in job.memory().items()}
    found |= {"peak_memory_gb": giga(bench.peak_memory), "memory_by_role": roles}
    return found | {"ok": all(math.isfinite(loss) for loss in losses)}


def failure(error: Exception) -> Found:
    last = "".join(traceback.format_exception(error)[-3:])
    return {"ok": False, "error": f"{type(error).__name__}: {str(error)[:500]}", "traceback": last[-2000:]}


# --------------------------------------------------------------------------------------------------------------- runs


def runs(bench: Bench) -> Iterator[Found]:
    """Every method from files to a saved model, and some of them killed in the middle and gone on."""
    from benchmarks.gpu_methods import RESUMED, commands, write_project

    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        write_project(project)
        for name, arguments in commands(bench.device.type).items():
            start = time.perf_counter()
            told: Found = {"run": name}
            try:
                baro(project, [*arguments, "--out", f"whole/{name}"], ends_with=0)
                told["ok"] = True
                if name in RESUMED:
                    told |= resumed(bench, project, name, arguments)
            except Exception as error:
                told |= failure(error)
            yield told | {"seconds": round(time.perf_counter() - start, 1)}


def resumed(bench: Bench, project: Path, name: str, arguments: Sequence[str]) -> Found:
    """The same command killed between two files of its second checkpoint, then run again to its end."""
    again = [*arguments, "--out", f"killed/{name}"]
    baro(project, again, ends_with=-signal.SIGKILL, fault="between-files:4")
    baro(project, again, ends_with=0)
    same, difference = compared(project / "whole" / name, project / "killed" / name)
    ok = difference < 1e-2 if bench.cuda else same
    return {"resume_bit_equal": same, "resume_difference": difference, "ok": ok}


def baro(project: Path, arguments: Sequence[str], *, ends_with: int, fault: str = "") -> None:
    """One command in a process of its own; an error if it ends otherwise."""
    paths = os.pathsep.join(str(Path(one).resolve()) for one in sys.path if one)
    environment = {**os.environ, "PYTHONPATH": paths, "BARO_FAULT": fault, "BARO_CACHE": str(project / "cache")}
    environment |= {"HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-c", "from baro.cli import main; main()", *arguments]
    done = subprocess.run(program, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != ends_with:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}, not {ends_with}: {done.stderr[-1500:]}"
        )


def compared(one: Path, other: Path) -> tuple[bool, float]:
    """Whether two runs' saved models are the same bits, and the largest difference of a weight."""
    from safetensors.torch import load_file

    def weights(model: Path) -> dict[str, Any]:
        inside = sorted(model.rglob("*.safetensors"))
        return {f"{p.relative_to(model)} {name}": t for p in inside for name, t in load_file(p).items()}

    a, b = (weights(path / "model") for path in (one, other))
    assert a.keys() == b.keys()
    same = all(bool((a[name] == b[name]).all()) for name in a)
    return same, max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


# --------------------------------------------------------------------------------------------------------------- main

PARTS: dict[str, Callable[[Bench], Iterator[Found]]] = {
    "layout": layout,
    "sampling": sampling,
    "steps": steps,
    "runs": runs,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", default="135M,1B", help=f"of {', '.join(SIZES)}, with commas between")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between")
    parser.add_argument(
        "--seconds", type=float, default=540, help="steps that would begin later are left out, and told"
    )
    parser.add_argument("--wheels", type=Path, help="a folder of benchmarks.wheels, for what is not installed")
    parser.add_argument("--out", type=Path, help="a file for all that was found")
    arguments = parser.parse_args()
    if arguments.wheels:
        from benchmarks.wheels import use

        use(arguments.wheels)
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; install a CUDA build of torch, or try --device cpu --sizes tiny")
    started = time.monotonic()
    bench = Bench(arguments.device, arguments.sizes.split(","), arguments.seconds)
    whole: Found = {"environment": bench.environment()}
    print(json.dumps(whole["environment"]), flush=True)
    for part in arguments.parts.split(","):
        whole[part] = []
        for found in _told(PARTS[part], bench):
            whole[part].append(found)
            print(json.dumps({"part": part} | found), flush=True)
            _write(arguments.out, whole)
    whole["seconds"] = round(time.monotonic() - started)
    whole["ok"] = all(found["ok"] for part in arguments.parts.split(",") for found in whole[part])
    _write(arguments.out, whole)
    print(json.dumps({"ok": whole["ok"], "seconds": whole["seconds"]}))
    return 0 if whole["ok"] else 1


def _told(part: Callable[[Bench], Iterator[Found]], bench: Bench) -> Iterator[Found]:
    """What a part finds; what it raises is its last finding."""
    try:
        yield from part(bench)
    except Exception as error:
        yield failure(error)


def _write(path: Path | None, whole: Found) -> None:
    if path is not None:
        path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
