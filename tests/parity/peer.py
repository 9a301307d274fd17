"""What a comparison with TRL needs: the same rows as text, the same random weights, and gradients side by side.

TRL runs its own code from the text on: its tokenisation, its collator, its loss. So do we.
"""

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from baro.batch import Sample
from baro.collate import collate
from baro.data.formats import read_records
from baro.data.ledger import Ledger
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.protocols import Objective

with warnings.catch_warnings(action="ignore"):
    import trl
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

__all__ = ["CPOConfig", "CPOTrainer", "ORPOConfig", "ORPOTrainer", "trl"]

ROWS = [
    {"prompt": "What is red?", "chosen": " A ripe apple, most days.", "rejected": " Blue."},
    {"prompt": "Say something kind to my neighbour, please.", "chosen": " You are kind.", "rejected": " No, why me?"},
    {"prompt": "2 + 2", "chosen": " is 4", "rejected": " is 5, and then some more, since nobody checks"},
    {"prompt": "빨간 것은?", "chosen": " 사과입니다.", "rejected": " 몰라요"},
]
MARGINS = [0.0, 0.5, 1.0, 0.3]
TOLERANCE = {"loss": 5e-6, "gradient": 1e-5}
"""Relative, in fp32; a gradient's is ‖Δ‖/‖g‖ of each tensor."""


def tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(row.values()) for row in ROWS], 280)


def shape(vocabulary: int) -> dict[str, int]:
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    return sizes | heads | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def policy(seed: int, vocabulary: int) -> PreTrainedModel:
    """Random weights large enough that log-ratios between two seeds are some nats."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**shape(vocabulary), initializer_range=0.15)).eval()


def scorer(seed: int, vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(**shape(vocabulary), num_labels=1, initializer_range=0.15)
    return LlamaForSequenceClassification(config).eval()


def settings(folder: Path) -> dict[str, object]:
    """Every TRL trainer on this CPU: fp32, no tricks, no network."""
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
    return plain | {"output_dir": str(folder), "per_device_train_batch_size": len(ROWS), "max_length": 128}


def rows(**columns: list[float]) -> Dataset:
    return Dataset.from_list(
        [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(ROWS)]
    )


def samples(folder: Path, encode, tokens: Tokenizer, want: type, given: Iterable[dict] = ROWS) -> list[Sample]:
    """The same rows by our own reading and tokenisation; TRL puts no template around plain text."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given))
    return list(encode(read_records(path, want), Template(tokens, "none"), 128, Ledger("rows")))


def ours(objective: Objective, given: list[Sample], *, micro_batch_tokens: int = 200) -> tuple[float, dict]:
    """Loss and gradients of one step, in several micro-batches."""
    batches = collate(given, micro_batch_tokens=micro_batch_tokens, hidden_size=32)
    assert len(batches) > 1
    totals: dict[str, float] = {}
    for batch in batches:
        for unit, amount in batch.units.items():
            totals[unit] = totals.get(unit, 0.0) + amount
    loss = 0.0
    for batch in batches:
        for output in objective.losses(batch, totals):
            output.loss.backward()
            loss += float(output.loss.detach())
    (model,) = objective.modules().values()
    return loss, gradients(model.model)


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}


def theirs(loss: torch.Tensor, model: PreTrainedModel) -> tuple[float, dict]:
    loss.backward()
    return float(loss.detach()), gradients(model)


def assert_same(one: tuple[float, dict], other: tuple[float, dict]) -> None:
    assert abs(one[0] - other[0]) <= TOLERANCE["loss"] * max(abs(other[0]), 1e-3), (one[0], other[0])
    assert one[1].keys() == other[1].keys()
    assert any(float(grad.norm()) > 1e-4 for grad in other[1].values())
    for name, grad in other[1].items():
        difference = float((one[1][name] - grad).norm())
        assert difference <= TOLERANCE["gradient"] * float(grad.norm()) + 1e-8, (name, difference, float(grad.norm()))
