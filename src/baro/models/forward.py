"""The one path from a GroupBatch to log-probs, values and scores. Nobody else calls a trunk or a head to train."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from baro.batch import GroupBatch, Sample
from baro.collate import collate, empty_batch
from baro.functional.tokens import token_entropy, token_logprobs
from baro.protocols import World

Output = Literal["logprobs", "entropy", "values", "scores"]


@dataclass(frozen=True)
class Outputs:
    """What was asked of a ScoredModel; the rest is None."""

    logprobs: Float[Tensor, "N"] | None = None
    entropy: Float[Tensor, "N"] | None = None
    values: Float[Tensor, "N"] | None = None
    scores: Float[Tensor, "C"] | None = None


class ScoredModel(nn.Module):
    """A Hugging Face model seen through GroupBatches: its trunk once per row, its heads on the scored positions only.

    ``model`` is a causal LM (log-probs, entropy), or any backbone with a scalar head (values at every scored position,
    scores at each completion's last token): the model's own ``score``, as sequence-classification models have, or
    ``head``. ``score_bias`` is added to scores and values. ``bidirectional`` models (encoders) see their whole row.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        head: nn.Module | None = None,
        score_bias: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.model = model
        self.extra_head = head
        self.register_buffer("score_bias", torch.tensor(float(score_bias), dtype=torch.float64))

    @property
    def trunk(self) -> nn.Module:
        return self.model.base_model

    @property
    def scalar_head(self) -> nn.Module:
        return self.extra_head if self.extra_head is not None else self.model.score

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(self, batch: GroupBatch, outputs: Collection[Output], *, temperature: float = 1.0) -> Outputs:
        """Run the trunk over the rows and the asked heads over the gathered positions.

        Log-probs and entropy are those of softmax(logits / temperature), in nats, at least in fp32.
        """
        hidden = self._hidden(batch)  # [R * T, H]
        scored = hidden[batch.scored_at] if {"logprobs", "entropy", "values"} & set(outputs) else None  # [N, H]
        logprobs = entropy = values = scores = None
        if "logprobs" in outputs:
            logprobs = token_logprobs(scored, **self._head(), targets=batch.targets, temperature=temperature)
        if "entropy" in outputs:
            entropy = token_entropy(scored.detach(), **self._head(), temperature=temperature)
        if "values" in outputs:
            values = self._scalar(scored)
        if "scores" in outputs:
            scores = self._scalar(hidden[batch.last_at])
        return Outputs(logprobs, entropy, values, scores)

    def logits(self, hidden: Float[Tensor, "... H"]) -> Float[Tensor, "... V"]:
        """The language-model head with the model's own bias, scale and soft cap: for decoding."""
        head = self._head()
        logits = nn.functional.linear(hidden, head["weight"], head["bias"]) * head["logit_scale"]
        return logits if head["soft_cap"] is None else head["soft_cap"] * torch.tanh(logits / head["soft_cap"])

    def _hidden(self, batch: GroupBatch) -> Float[Tensor, "RT H"]:
        if self.bidirectional:
            return self._encoder_hidden(batch)
        mask = self._additive_mask(batch) if batch.branched else None
        states = self.trunk(
            input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return states.flatten(0, 1)

    def _encoder_hidden(self, batch: GroupBatch) -> Float[Tensor, "RT H"]:
        """Encoders see the whole row: one completion each, and the model's own positions."""
        assert not batch.branched, "an encoder takes one completion per row"
        kinds = (batch.branch > 0).long().clamp(max=getattr(self.model.config, "type_vocab_size", 1) - 1)
        states = self.trunk(
            input_ids=batch.input_ids, attention_mask=(batch.group >= 0).long(), token_type_ids=kinds
        ).last_hidden_state
        return states.flatten(0, 1)

    def _additive_mask(self, batch: GroupBatch) -> Float[Tensor, "R 1 T T"]:
        # The dtype's minimum rather than -inf: a row of -inf gives NaN. Float rather than bool: on CPU a bool mask is
        # converted again in every layer.
        dtype = self.model.dtype
        mask = torch.zeros(batch.branch.shape + batch.branch.shape[-1:], dtype=dtype, device=batch.branch.device)
        return mask.masked_fill_(~batch.visible(), torch.finfo(dtype).min)[:, None]

    def _head(self) -> dict:
        config = self.model.config.get_text_config()
        linear = self.model.get_output_embeddings()
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        return {
            "weight": linear.weight,
            "bias": getattr(linear, "bias", None),
            "soft_cap": getattr(config, "final_logit_softcapping", None),
            "logit_scale": float(scale),
        }

    def _scalar(self, hidden: Float[Tensor, "M H"]) -> Float[Tensor, "M"]:
        scores = self.scalar_head(hidden).squeeze(-1)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return scores + self.score_bias.to(scores.dtype)

    @contextmanager
    def role(self, name: str | None) -> Iterator[None]:
        """Switch the adapter ``name`` on and all others off; None switches every adapter off (the reference).

        peft's set_adapter turns requires_grad of the other adapters off, and autograd then drops their gradients
        without a word; what was trainable stays trainable here.
        """
        layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        before = [(layer.active_adapters, layer.disable_adapters) for layer in layers]
        trainable = {p: p.requires_grad for p in self.model.parameters()}
        try:
            for layer in layers:
                layer.enable_adapters(name is not None)
                if name is not None:
                    layer.set_adapter(name)
            _restore(trainable)
            yield
        finally:
            for layer, (active, disabled) in zip(layers, before, strict=True):
                layer.set_adapter(active)
                layer.enable_adapters(not disabled)
            _restore(trainable)


def _restore(trainable: dict[nn.Parameter, bool]) -> None:
    for parameter, flag in trainable.items():
        parameter.requires_grad_(flag)


@torch.no_grad()
def forward_samples(
    model: ScoredModel,
    samples: Sequence[Sample],
    outputs: Collection[Output],
    *,
    micro_batch_tokens: int,
    world: World,
    temperature: float = 1.0,
    per_row: int | None = None,
) -> dict[str, list[list[Tensor]]]:
    """Outputs of every completion without gradient: result[output][sample][completion] is a tensor on the CPU.

    Log-probs, entropy and values have one entry per scored token, scores none ([]-shaped). All ranks enter together
    and run equally many micro-batches, since a sharded model's forward is a collective.
    """
    tagged = [_tag(sample, i) for i, sample in enumerate(samples)]
    batches = collate(tagged, micro_batch_tokens=micro_batch_tokens, hidden_size=model.hidden_size, per_row=per_row)
    batches += [empty_batch("prepare")] * (int(world.max(len(batches))) - len(batches))
    found: dict[str, list[list[Tensor]]] = {
        name: [[torch.zeros(0)] * len(sample.completions) for sample in samples] for name in outputs
    }
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            result = model(batch.to(model.device), outputs, temperature=temperature)
            _scatter(batch, result, found)
    finally:
        model.train(was_training)
    return found


def _tag(sample: Sample, index: int) -> Sample:
    """Only ids and marks, and each completion's own address."""
    bare = [replace(one, token_fields={}, units={}, fields={}) for one in sample.completions]
    return sample.with_completions([one.with_(fields={"sample": index, "completion": k}) for k, one in enumerate(bare)])


def _scatter(batch: GroupBatch, result: Outputs, found: dict[str, list[list[Tensor]]]) -> None:
    if not len(batch.group_of):
        return
    lengths = batch.lengths.tolist()
    addresses = list(
        zip(
            batch.completion_fields["sample"].long().tolist(),
            batch.completion_fields["completion"].long().tolist(),
            strict=True,
        )
    )
    for name, slots in found.items():
        flat = getattr(result, name).cpu()
        parts = flat.unbind() if name == "scores" else flat.split(lengths)
        for (sample, completion), part in zip(addresses, parts, strict=True):
            slots[sample][completion] = part.clone()
