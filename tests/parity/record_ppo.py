"""Record what TRL 1.12's PPOTrainer computes in one update, as ppo_trl_1_12.json beside this file.

TRL has no PPO after 1.12, so this runs in an environment of its own, with Baro's dependencies beside it:

    pip install torch==2.13.0 && pip install trl==1.12.0 'transformers<5.20' .
    PYTHONPATH=src:tests:tests/parity python tests/parity/record_ppo.py

The trainer runs itself, from its own generation to its own backward pass. Replaced are three things alone: the drawn
tokens are literal ones (its probabilities are its own), prompts come in order, and between rollout and update the
weights move as ``ppo_models`` says. What it computes is read where it calls its helpers, from its local variables.
"""

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import ppo_models
import tiny
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

END, PAD, WIDTH = 2, 0, 6
PROMPTS = [[3, 7, 11], [5], [9, 4, 6, 13, 8], [10, 12]]
"""Each is answered twice."""
FULL = [
    [[14, 5, 9, 17, 3, END], [6, 19, 20, 3, 8, END]],
    [[7, 7, 4, 12, 20, END], [17, 9, 4, 16, 10, 13]],
    [[21, 3, 15, 7, 5, 22], [12, 18, 6, 9, 1, END]],
    [[8, 16, 11, 5, 19, END], [4, 4, 18, 10, 21, END]],
]
"""Every completion fills the width; two did not end."""
RAGGED = [
    [[14, 5, END], [6, 19, 20, 3, 8, END]],
    [[END], [17, 9, 4, END]],
    [[21, 3, 15, 7, 5, 22], [12, END]],
    [[8, 16, 11, 5, END], [4, 4, 18, END]],
]
"""One did not end, one ends where the width ends, one ends at once."""
COMPLETIONS = {"full": FULL, "ragged": RAGGED}
SETTINGS = {
    "kl_coef": 0.2, "kl_estimator": "k1", "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.1, "gamma": 1.0,
    "lam": 0.95, "whiten_rewards": False, "temperature": 0.7, "missing_eos_penalty": 0.7,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "full": {"completions": "full"},
    "full, unmoved": {"completions": "full", "moved": False},
    "full, gamma 0.99": {"completions": "full", "gamma": 0.99},
    "full, whitened rewards": {"completions": "full", "gamma": 0.99, "whiten_rewards": True},
    "full, k3": {"completions": "full", "kl_estimator": "k3"},
    "ragged": {"completions": "ragged"},
    "ragged, gamma 0.99": {"completions": "ragged", "gamma": 0.99},
    "ragged, lambda 1": {"completions": "ragged", "lam": 1.0},
    "ragged, whitened rewards": {"completions": "ragged", "gamma": 0.99, "whiten_rewards": True},
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<s>": 1, "</s>": END} | {f"w{i}": i for i in range(3, tiny.VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )


def trainer(given: dict[str, Any], settings: dict[str, Any], folder: str) -> PPOTrainer:
    given["policy"].generation_config.pad_token_id = PAD
    rows = Dataset.from_list([{"input_ids": prompt} for prompt in PROMPTS for _ in range(2)])
    config = PPOConfig(
        output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", disable_tqdm=True,
        per_device_train_batch_size=len(rows), gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=1,
        total_episodes=len(rows), response_length=WIDTH, stop_token="eos", num_sample_generations=0,
        save_strategy="no", logging_strategy="no", **settings,
    )  # fmt: skip
    made = PPOTrainer(
        config, tokenizer(), given["policy"], given["ref_policy"], given["reward_model"], rows, given["value_model"],
        eval_dataset=rows,
    )  # fmt: skip
    in_order = DataLoader(rows, batch_size=len(rows), collate_fn=made.data_collator)
    made.dataloader = made.accelerator.prepare(in_order)
    return made


class Recorder:
    """Looks on while a trainer trains: its local variables at the end of the rollout and at the backward pass."""

    def __init__(self, made: PPOTrainer, given: dict[str, Any], drawn: list[list[int]], moved: bool) -> None:
        self.models, self.drawn, self.moved, self.found = given, drawn, moved, {}
        self.columns = iter(torch.tensor([row + [PAD] * (WIDTH - len(row)) for row in drawn]).T)
        self.raw_scores: list[torch.Tensor] = []
        self.get_reward_of_theirs, self.backward_of_theirs = ppo_trainer.get_reward, made.accelerator.backward
        made.accelerator.backward, made.log = self.backward, self.log

    def draw(self, probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        tokens = next(self.columns)
        assert bool((probabilities.gather(1, tokens[:, None]) > 0).all())
        return tokens[:, None]

    def get_reward(self, model: torch.nn.Module, *args: object) -> tuple[torch.Tensor, ...]:
        found = self.get_reward_of_theirs(model, *args)
        if model is self.models["reward_model"]:
            self.raw_scores.append(found[1].clone())
        return found

    def empty_cache(self) -> None:
        """TRL calls it in many places; the first where there are advantages is the end of the rollout."""
        seen = sys._getframe(1).f_locals
        if "advantages" not in seen or "rollout" in self.found:
            return
        own = (~seen["padding_mask"]).sum(1).tolist()
        longer = (~seen["padding_mask_p1"]).sum(1).tolist()
        assert cut(seen["responses"], own) == self.drawn
        self.found["rollout"] = {
            "lengths": own, "value_lengths": longer,
            "raw_scores": torch.cat(self.raw_scores).tolist(), "scores": seen["scores"].tolist(),
            **{name: cut(seen[name], own) for name in ("logprobs", "ref_logprobs", "kl", "advantages")},
            **{name: cut(seen[name], longer) for name in ("values", "rewards", "returns")},
        }  # fmt: skip
        if self.moved:
            ppo_models.take_an_update(self.models["policy"], self.models["value_model"])

    def backward(self, loss: torch.Tensor, **kwargs: object) -> None:
        seen = sys._getframe(1).f_locals
        back = torch.tensor(seen["micro_batch_inds"]).argsort()  # TRL shuffles the rows of an update
        own, longer = (self.found["rollout"][name] for name in ("lengths", "value_lengths"))
        self.found["update"] = {
            "loss": loss.item(), "policy_loss": seen["pg_loss"].item(), "value_loss": seen["vf_loss"].item(),
            "value_clip_fraction": seen["vf_clipfrac"].item(),
            "logprobs": cut(seen["new_logprobs"][back], own), "ratio": cut(seen["ratio"][back], own),
            "values": cut(seen["vpred"][back], longer),
        }  # fmt: skip
        self.backward_of_theirs(loss, **kwargs)
        for name in ("policy", "value_model"):
            found = ppo_models.sketch(ppo_models.gradients(self.models[name]))
            self.found["update"][f"{name}_gradients"] = found

    def log(self, metrics: dict[str, float], *args: object) -> None:
        named = ("objective/", "policy/", "val/", "loss/")
        self.found["logged"] = {name: value for name, value in metrics.items() if name.startswith(named)}


def cut(table: torch.Tensor, lengths: list[int]) -> list[list[float]]:
    return [row[:length].tolist() for row, length in zip(table, lengths, strict=True)]


def record(case: dict[str, Any], folder: str) -> dict[str, Any]:
    settings = SETTINGS | {name: value for name, value in case.items() if name in SETTINGS}
    drawn = [row for rows in COMPLETIONS[case["completions"]] for row in rows]
    given, moved = ppo_models.rollout_models(), case.get("moved", True)
    made = trainer(given, settings, folder)
    recorder = Recorder(made, given, drawn, moved)
    with (
        patch.object(torch, "multinomial", recorder.draw),
        patch.object(ppo_trainer, "get_reward", recorder.get_reward),
        patch.object(ppo_trainer, "empty_cache", recorder.empty_cache),
    ):
        made.train()
    return {"completions": case["completions"], "moved": moved, "settings": settings, **recorder.found}


def short(value: Any) -> Any:
    """Ten digits are a thousand times finer than what is compared."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {name: short(one) for name, one in value.items()}
    return [short(one) for one in value] if isinstance(value, list) else value


def written(value: Any, depth: int = 0) -> str:
    """JSON with a line for each name, and lists in one line."""
    if not isinstance(value, dict) or depth == 4:
        return json.dumps(value)
    lines = [f"{' ' * (depth + 1)}{json.dumps(name)}: {written(one, depth + 1)}" for name, one in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


def main() -> None:
    assert trl.__version__ == "1.12.0", trl.__version__
    fresh, trained = ppo_models.rollout_models(), ppo_models.rollout_models()
    ppo_models.take_an_update(trained["policy"], trained["value_model"])
    recorded = {
        "by": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
        "weights": {name: ppo_models.fingerprint(one) for name, one in fresh.items()}
        | {f"moved {name}": ppo_models.fingerprint(trained[name]) for name in ("policy", "value_model")},
        "end": END,
        "pad": PAD,
        "prompts": PROMPTS,
        "completions": COMPLETIONS,
        "cases": {},
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        recorded["cases"] = {name: record(case, folder) for name, case in CASES.items()}
    path = Path(__file__).with_name("ppo_trl_1_12.json")
    path.write_text(written(short(recorded)) + "\n")


if __name__ == "__main__":
    main()
