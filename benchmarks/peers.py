"""Training steps against TRL's trainers on the same rows: ``python -m benchmarks.peers``.

A 6.8M Llama made from a seed, 16 rows a step, fp32, AdamW with the same settings. Both sides run what a user runs, our
``Trainer`` and TRL's, each in a process of its own, and take turns step by step, so that whatever else the machine does
meets both. A step is timed whole: collation, forward, backward, clipping, update. Every step has other rows, the same
on both sides, and the same losses, or the row is void. Memory is the process's peak above its bare imports.

The first variant of each method is TRL as it comes; the others give it its best options for a CPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import peers_grpo

BATCH, WARM_UP, MAX_LENGTH, SAME_LOSS = 16, 2, 1024, 1e-4
VOCABULARY = 8192
SHAPES = {
    "6.8M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4},
    "tiny": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
}
LENGTHS = {
    "hh": {"prompt": (115, 304), "chosen": (40, 120), "rejected": (50, 136)},
    "gsm8k": {"prompt": (58, 99), "completion": (94, 175)},
}
"""Tokens of the files' columns, mean and 95th percentile, for rows that are made when no file is given."""

ROWS_OF = {"sft": "gsm8k", "reward": "hh", "dpo": "hh", "kto": "hh", "grpo": "gsm8k"}
REFERRING = ("dpo", "kto")  # methods with a reference
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Variant:
    """One line: a method, TRL's settings besides the common ones, and what both sides do alike."""

    method: str
    name: str
    peer: dict[str, Any] = field(default_factory=dict)
    cached: bool = False  # reference log-probs before the first step, untimed
    beta: float = 0.0  # of grpo: the weight of the KL in the loss
    tied: bool = False  # of grpo: every other prompt's completions have equal rewards


ACCUMULATED = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": BATCH}
VARIANTS = [
    Variant("sft", "as it comes"),
    Variant("sft", "TRL padding-free", {"padding_free": True, "max_length": None}),
    Variant("sft", "TRL row by row", ACCUMULATED),
    Variant("reward", "as it comes"),
    Variant("reward", "TRL row by row", ACCUMULATED),
    Variant("dpo", "reference in the step"),
    Variant("dpo", "reference cached on both sides", {"precompute_ref_log_probs": True}, cached=True),
    Variant("dpo", "cached, TRL row by row", {"precompute_ref_log_probs": True, **ACCUMULATED}, cached=True),
    Variant("kto", "reference in the step"),
    Variant("kto", "reference cached on both sides", {"precompute_ref_log_probs": True}, cached=True),
    Variant("grpo", "KL in the loss", beta=0.04),
    Variant("grpo", "no KL"),
    Variant("grpo", "no KL, every other prompt tied", tied=True),
    Variant("grpo", "no KL, TRL row by row", ACCUMULATED | {"steps_per_generation": BATCH}),
]

# --------------------------------------------------------------------------------------------------- rows and models


def read_hh(path: Path) -> Rows:
    """Pairs of dialogues that differ in the last answer; Human is renamed, or we would read the text as turns."""
    rows, mark = [], "\n\nAssistant:"
    for line in _lines(path):
        prompt = line["chosen"][: line["chosen"].rindex(mark) + len(mark)]
        chosen, rejected = line["chosen"][len(prompt) :], line["rejected"][len(prompt) :]
        if line["rejected"].startswith(prompt) and chosen.strip() and rejected.strip() and chosen != rejected:
            rows.append({"prompt": prompt.replace("Human:", "User:"), "chosen": chosen, "rejected": rejected})
    return rows


def read_gsm8k(path: Path) -> Rows:
    return [{"prompt": row["question"] + "\n", "completion": row["answer"]} for row in _lines(path)]


def _lines(path: Path) -> list[dict[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def made_rows(kind: str, count: int, longest: int) -> Rows:
    """Words of one token each, as many as a log-normal with the file's mean and 95th percentile gives."""
    draw = random.Random(0)
    rows = []
    while len(rows) < count:
        lengths = {name: round(draw.lognormvariate(*log_normal(*those))) for name, those in LENGTHS[kind].items()}
        if all(lengths.values()) and sum(lengths.values()) < longest:
            rows.append(
                {name: "".join(f" {draw.randrange(3, VOCABULARY)}" for _ in range(n)) for name, n in lengths.items()}
            )
    return rows


def log_normal(mean: float, p95: float) -> tuple[float, float]:
    """µ and σ: mean = exp(µ + σ²/2), and 1.645 σ above µ lies the 95th percentile."""
    z = 1.645
    sigma = z - math.sqrt(z * z - 2 * math.log(p95 / mean))
    return math.log(mean) - sigma**2 / 2, sigma


def new_tokenizer(texts: list[str] | None) -> Any:
    """A byte-level BPE of these texts; without texts, one token for every number."""
    from baro.data.new_tokenizer import BOS, EOS, PAD, train_tokenizer

    if texts is not None:
        return train_tokenizer(texts, VOCABULARY)
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate([PAD, BOS, EOS, *map(str, range(3, VOCABULARY))])}
    backend = Tokenizer(models.WordLevel(words, unk_token=PAD))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def write_rows(folder: Path, kind: str, path: Path | None, count: int, longest: int) -> None:
    """rows.jsonl with ``count`` rows shorter than ``longest`` tokens, their tokenizer, and pairs as thumbs.jsonl."""
    rows = made_rows(kind, count, longest) if path is None else (read_hh if kind == "hh" else read_gsm8k)(path)
    tokenizer = new_tokenizer(None if path is None else ["".join(row.values()) for row in rows])
    random.Random(0).shuffle(rows)
    rows = [row for row in rows if len(tokenizer("".join(row.values()))["input_ids"]) < longest][:count]
    if len(rows) < count:
        raise SystemExit(f"{path}: {len(rows)} rows fit, and {count} are needed; take fewer --repeats")
    tokenizer.save_pretrained(folder)
    files = {"rows": rows}
    if kind == "hh":  # of each pair one side, by turns
        sides = [("chosen", "rejected")[i % 2] for i in range(count)]
        files["thumbs"] = [
            {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
            for row, side in zip(rows, sides, strict=True)
        ]
    for name, written in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def new_model(size: str, seed: int, *, scalar: bool = False) -> Any:
    """Random weights, large enough that a loss tells which tokens it was taken over."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(seed)
    settings = {"vocab_size": VOCABULARY, "tie_word_embeddings": True, "initializer_range": 0.1, "num_labels": 1}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(**SHAPES[size], **settings, **special, max_position_embeddings=2048)
    return (LlamaForSequenceClassification if scalar else LlamaForCausalLM)(config)


# ----------------------------------------------------------------------------------------------------- the two sides


@dataclass(frozen=True)
class Job:
    """What a process is to do."""

    side: str
    variant: Variant
    folder: Path
    size: str
    steps: int

    @property
    def rows(self) -> Path:
        return self.folder / ("thumbs.jsonl" if self.variant.method == "kto" else "rows.jsonl")


class Pace:
    """One step for every line on stdin; its seconds and loss go to stdout."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever the libraries print
        self.start = self.cpu_start = 0.0

    def wait(self) -> None:
        sys.stdin.readline()
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def tell(self, **found: float) -> None:
        print(json.dumps(found), file=self.out, flush=True)

    def step(self, loss: float) -> None:
        cpu = time.process_time() - self.cpu_start
        self.tell(seconds=time.perf_counter() - self.start, cpu=cpu, loss=loss, peak=peak_memory())


def peak_memory() -> int:
    """Bytes; not getrusage's ru_maxrss, which a process takes over from the one that started it."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def ours(job: Job, pace: Pace) -> None:
    from transformers import PreTrainedTokenizerFast

    from baro.batch import GroupBatch, Sample, with_flat
    from baro.collate import collate
    from baro.config import TrainerConfig
    from baro.data.encode import encode_comparisons, encode_demonstrations
    from baro.data.formats import read_records
    from baro.data.ledger import Ledger
    from baro.data.partners import WithPartners
    from baro.data.template import Template
    from baro.methods import dpo, kto, reward, sft
    from baro.methods.reference import logprobs
    from baro.models.forward import ScoredModel
    from baro.protocols import LocalWorld, Metrics, Next
    from baro.records import Demonstration, Preference, Thumb
    from baro.trainer import Trainer

    pace.tell(floor=peak_memory())
    config = TrainerConfig(learning_rate=1e-5, steps=job.steps, batch_size=BATCH)
    policy = ScoredModel(new_model(job.size, 0, scalar=job.variant.method == "reward"))
    objective, want, encode = {
        "sft": lambda: (sft.Objective(policy), Demonstration, encode_demonstrations),
        "reward": lambda: (
            reward.Objective(policy, reward.Config(model="-", preferences="-")),
            Preference,
            encode_comparisons,
        ),
        "dpo": lambda: (dpo.Objective(policy, dpo.Config(policy="-", preferences="-")), Preference, encode_comparisons),
        "kto": lambda: (kto.Objective(policy, kto.Config(policy="-", thumbs="-")), Thumb, kto.encode),
    }[job.variant.method]()
    template = Template(PreTrainedTokenizerFast.from_pretrained(job.folder), "none")
    samples = list(encode(read_records(job.rows, want), template, MAX_LENGTH, Ledger("rows")))
    assert len(samples) == job.steps * BATCH
    reference = ScoredModel(new_model(job.size, 1)) if job.variant.method in REFERRING else None
    at_each_step = None
    if job.variant.method == "kto":  # the pairs that TRL makes of each batch
        before = [i - 1 if i % BATCH else i + BATCH - 1 for i in range(len(samples))]
        samples, at_each_step = list(WithPartners(samples, before)), kto.Prepare(policy, config.micro_batch_tokens)
    layout = {"micro_batch_tokens": config.micro_batch_tokens}

    def referred(rows: Sequence[Sample]) -> list[Sample]:
        """As ``ReferenceLogprobs``, without its file."""
        return with_flat(rows, {"ref_logprobs": logprobs(reference, rows, config.micro_batch_tokens, LocalWorld())})

    class Source:
        """16 samples a step, in the file's order."""

        position = 0

        def __len__(self) -> int:
            return job.steps

        def __iter__(self) -> Iterator[list[GroupBatch]]:
            while self.position < job.steps:
                rows = samples[self.position * BATCH : (self.position + 1) * BATCH]
                rows = referred(rows) if reference and not job.variant.cached else rows
                rows = at_each_step(rows, LocalWorld()) if at_each_step else rows
                yield collate(rows, hidden_size=policy.hidden_size, **layout)

        def advance(self, metrics: Metrics) -> Next:
            self.position, self.loss = self.position + 1, metrics["loss"]
            return Next.CONTINUE

    if reference and job.variant.cached:
        samples = referred(samples)
    source = Source()
    trainer = Trainer(objective, source, config)
    for step in range(job.steps):
        pace.wait()
        trainer.fit(until=step + 1)
        pace.step(source.loss)


def theirs(job: Job, pace: Pace) -> None:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    pace.tell(floor=peak_memory())
    method = job.variant.method
    config, kind = {
        "sft": (SFTConfig, SFTTrainer),
        "reward": (RewardConfig, RewardTrainer),
        "dpo": (DPOConfig, DPOTrainer),
        "kto": (KTOConfig, KTOTrainer),
    }[method]
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    same = {"learning_rate": 1e-5, "max_length": MAX_LENGTH, "max_steps": job.steps}
    order = {"train_sampling_strategy": "sequential", "per_device_train_batch_size": BATCH}
    settings = {"output_dir": str(job.folder), **plain, **quiet, **same, **order, **job.variant.peer}
    losses: list[float] = []

    class Paced(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            pace.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pace.step(sum(losses))
            losses.clear()
            pace.wait()

    class Told(kind):  # type: ignore[misc, valid-type]
        """TRL's trainer; each loss is written down on its way."""

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            losses.append(float(loss))
            return loss

    Told(
        new_model(job.size, 0, scalar=method == "reward"),
        args=config(**settings),
        train_dataset=Dataset.from_list(_lines(job.rows)),
        processing_class=PreTrainedTokenizerFast.from_pretrained(job.folder),
        callbacks=[Paced()],
        **({"ref_model": new_model(job.size, 1)} if method in REFERRING else {}),
    ).train()


SIDES: dict[str, Callable[[Job, Pace], None]] = {"ours": ours, "theirs": theirs}
GRPO_SIDES: dict[str, Callable[[Job, Pace], None]] = {"ours": peers_grpo.ours, "theirs": peers_grpo.theirs}

# ------------------------------------------------------------------------------------------------------ taking turns


class Worker:
    """A process of one side, spoken to line by line."""

    def __init__(self, job: Job, threads: int) -> None:
        folder = Path(tempfile.mkdtemp(dir=job.folder))
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment = {**os.environ, **offline, "HF_HOME": str(folder), "BARO_CACHE": str(folder)}
        environment |= {"OMP_NUM_THREADS": str(threads)}
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers", "--job", json.dumps(asdict(job), default=str)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=Path(__file__).parents[1],
            )
        self.floor = self._hear()["floor"]
        self.told: list[dict[str, float]] = []

    def step(self) -> None:
        print(file=self.process.stdin, flush=True)
        self.told.append(self._hear())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _hear(self) -> dict[str, float]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"a side ended early:\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    @property
    def seconds(self) -> list[float]:
        return [one["seconds"] for one in self.told[WARM_UP:]]

    @property
    def cpu_seconds(self) -> float:
        """Processor time of a step, which other work on the machine hardly changes; the median."""
        return statistics.median(one["cpu"] for one in self.told[WARM_UP:])

    @property
    def losses(self) -> list[float]:
        return [one["loss"] for one in self.told]

    @property
    def memory(self) -> float:
        """Bytes at the peak above the bare imports."""
        return self.told[-1]["peak"] - self.floor


def compare(variant: Variant, folder: Path, size: str, repeats: int, threads: int) -> dict[str, Any]:
    """Both sides step by step; medians of the steps after the warm-up."""
    steps = repeats + WARM_UP
    with ExitStack() as stack:
        jobs = [Job(side, variant, folder, size, steps) for side in SIDES]
        workers = [stack.enter_context(closing(Worker(job, threads))) for job in jobs]
        for step in range(steps):
            for worker in workers if step % 2 else workers[::-1]:
                worker.step()
    mine, peer = workers
    ratios = [theirs / ours for ours, theirs in zip(mine.seconds, peer.seconds, strict=True)]
    gaps = [abs(ours - theirs) for ours, theirs in zip(mine.losses, peer.losses, strict=True)]
    return {
        "method": variant.method,
        "variant": variant.name,
        "peer": f"trl {version('trl')}",
        "speed_ratio": round(statistics.median(peer.seconds) / statistics.median(mine.seconds), 2),
        "memory_ratio": round(mine.memory / peer.memory, 3),
        "same_loss": gaps[0] <= SAME_LOSS,
        "ours_seconds": round(statistics.median(mine.seconds), 3),
        "peer_seconds": round(statistics.median(peer.seconds), 3),
        "speed_ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],  # step by step
        "cpu_ratio": round(peer.cpu_seconds / mine.cpu_seconds, 2),
        "ours_cpu_seconds": round(mine.cpu_seconds, 3),
        "peer_cpu_seconds": round(peer.cpu_seconds, 3),
        "ours_memory_mb": round(mine.memory / 1e6),
        "peer_memory_mb": round(peer.memory / 1e6),
        "ours_imports_mb": round(mine.floor / 1e6),
        "peer_imports_mb": round(peer.floor / 1e6),
        "first_loss": mine.losses[0],
        "largest_loss_gap": max(gaps),
        "n": repeats,
        "batch": BATCH,
        "model": size,
        "threads": threads,
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = sorted({one.method for one in VARIANTS})
    parser.add_argument(
        "--methods", default="sft,reward,dpo,kto,grpo", help=f"of {', '.join(methods)}, with commas between"
    )
    parser.add_argument("--first", action="store_true", help="only the first variant of each method")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--hh", type=Path, help="pairs of dialogues, chosen and rejected (.jsonl or .jsonl.gz)")
    parser.add_argument("--gsm8k", type=Path, help="rows with question and answer (.jsonl or .jsonl.gz)")
    parser.add_argument("--size", choices=SHAPES, default="6.8M")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, as soon as it is there")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job = Job(**json.loads(arguments.job, object_hook=_typed))
        (GRPO_SIDES if job.variant.method == "grpo" else SIDES)[job.side](job, Pace())
    elif arguments.json:
        for found in compare_all(arguments):
            print(json.dumps(found), flush=True)
    else:
        show(list(compare_all(arguments)))


def _typed(given: dict[str, Any]) -> Any:
    """A Job's parts from JSON."""
    if "folder" in given:
        return given | {"variant": Variant(**given["variant"]), "folder": Path(given["folder"])}
    return given


def compare_all(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line for each wanted variant."""
    wanted = [one for one in VARIANTS if one.method in arguments.methods.split(",")]
    if arguments.first:
        wanted = [one for i, one in enumerate(wanted) if one.method not in {before.method for before in wanted[:i]}]
    longest = MAX_LENGTH if arguments.size != "tiny" else 64
    count = (arguments.repeats + WARM_UP) * BATCH
    with tempfile.TemporaryDirectory() as folder:
        for kind in sorted({ROWS_OF[one.method] for one in wanted}):
            (Path(folder) / kind).mkdir()
            write_rows(Path(folder) / kind, kind, getattr(arguments, kind), count, longest)
        for one in wanted:
            rows = Path(folder) / ROWS_OF[one.method]
            given = getattr(arguments, ROWS_OF[one.method])
            found = compare(one, rows, arguments.size, arguments.repeats, arguments.threads)
            yield found | {"rows": "made" if given is None else given.name}


def show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = ["ours_seconds", "peer_seconds", "speed_ratio", "ours_memory_mb", "peer_memory_mb", "memory_ratio"]
    table = Table("method", "variant", *(name.replace("_", " ") for name in names), "same loss")
    for one in found:
        table.add_row(one["method"], one["variant"], *(str(one[name]) for name in names), str(one["same_loss"]))
    Console(width=150).print(table)
    Console().print(f"{found[0]['threads']} threads, medians of {found[0]['n']} steps; {found[0]['versions']}")


if __name__ == "__main__":
    main()
