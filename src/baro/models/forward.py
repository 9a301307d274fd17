"""The one path from a GroupBatch to log-probs, values and scores. Nobody else calls a trunk or a head to train."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from inspect import signature
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from baro.batch import GroupBatch, Sample
from baro.collate import collate, empty_batch
from baro.errors import GuardStop
from baro.functional.tokens import head_logits, token_entropy, token_logprobs
from baro.models.attention import as_model_takes, branching_obstacle, settle_attention, takes_positions, windows
from baro.models.heads import Measured, Scoring, pooled
from baro.protocols import World

log = logging.getLogger("baro")
Output = Literal["logprobs", "entropy", "values", "scores", "criteria"]
Layout = Literal["shared", "separate", "own"]
CHECKED = 4
"""Completions of the first batch whose log-probs are compared with the model's own."""
TOLERANCE = 1e-3
"""Nats by which they may differ in fp32; a wrong mask or position is 0.04 and more (measured on nine architectures)."""
BF16_TOLERANCE = 1e-2
"""Mean difference of probabilities that bf16 may make."""


@dataclass(frozen=True)
class Outputs:
    """What was asked of a ScoredModel; the rest is None."""

    logprobs: Float[Tensor, "N"] | None = None
    entropy: Float[Tensor, "N"] | None = None
    values: Float[Tensor, "N"] | None = None
    scores: Float[Tensor, "C"] | None = None
    criteria: Float[Tensor, "C K"] | None = None


class ScoredModel(nn.Module):
    """A Hugging Face model seen through GroupBatches: its trunk once per row, its heads on the scored positions only.

    ``model`` is a causal LM (log-probs, entropy), or any backbone with a scalar head: the model's own ``score``, as
    sequence-classification models have, or ``head``. Values are read at every scored position; ``scoring`` says how
    each completion's criteria and score are. ``score_bias`` is added to scores and values. ``bidirectional`` models
    (encoders) see their whole row.

    ``layout`` says how rows are computed: "shared", completions side by side behind their prompt; "separate", one per
    row, for architectures that cannot branch; "own", one per row by the model's own forward, logits and all.
    ``autocast_dtype`` is the type of the matrix products where it is not the weights' own. ``heads`` are those of roles
    that share its trunk (models/roles.py), by their names: its own head is not among them.
    """

    model: PreTrainedModel
    score_bias: Float[Tensor, ""]
    criterion_weights: Float[Tensor, "K"]

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        head: nn.Module | None = None,
        score_bias: float = 0.0,
        bidirectional: bool = False,
        scoring: Scoring | None = None,
    ) -> None:
        super().__init__()
        settle_attention(model)
        self.bidirectional = bidirectional
        self.model = model
        self.layout: Layout = "separate" if bidirectional else "shared"
        self.autocast_dtype: torch.dtype | None = None
        self.checked = False
        obstacle = None if bidirectional else branching_obstacle(model)
        if obstacle is not None:
            self.layout = "separate"
            log.warning(
                "%s: %s, so every completion is computed in a row of its own, prompt included",
                type(model).__name__,
                obstacle,
            )
        self.extra_head, self.heads = head, nn.ModuleDict()
        self.scoring = scoring or Scoring()
        self.measured: Measured | None = None  # of a reward model, once it is trained
        self.register_buffer("score_bias", torch.tensor(float(score_bias), dtype=torch.float64))
        weights = torch.tensor(list(self.scoring.criteria.values()), dtype=torch.float64)
        self.register_buffer("criterion_weights", weights, persistent=False)

    @property
    def trunk(self) -> PreTrainedModel:
        trunk = self.model.base_model
        assert isinstance(trunk, PreTrainedModel)
        return trunk

    @property
    def scalar_head(self) -> nn.Module:
        head = self.extra_head if self.extra_head is not None else self.model.score
        assert isinstance(head, nn.Module)
        return head

    @property
    def is_scalar(self) -> bool:
        """Whether it has no language-model head, so that it gives values and scores alone."""
        return self.model.get_output_embeddings() is None

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def holder(self) -> ScoredModel:
        """The module that holds the weights, whole or in shards; of a role the model that it is a role of."""
        return self

    def forward(
        self,
        batch: GroupBatch,
        outputs: Collection[Output],
        *,
        temperature: float = 1.0,
        read_by: ScoredModel | None = None,
    ) -> Outputs:
        """Run the trunk over the rows and the asked heads over the gathered positions.

        Log-probs and entropy are those of softmax(logits / temperature), in nats, at least in fp32. ``read_by``: whose
        head and scoring make values and scores, where not its own.
        """
        if self.layout != "shared" and len(batch.group_of) > len(batch.input_ids):  # an empty completion is one too
            batch = batch.unbranched()
        wanted, found = set(outputs), {}
        with self.autocast():
            if self.layout == "own" and wanted & {"logprobs", "entropy"}:
                found = self._own(batch, wanted, temperature)
            if wanted - found.keys():
                hidden, left = self._hidden(batch), wanted - found.keys()
                found |= self._heads(hidden, batch, left, temperature, read_by or self)
        return Outputs(**found)

    def _heads(
        self, hidden: Float[Tensor, "RT H"], batch: GroupBatch, wanted: set[Output], temperature: float, by: ScoredModel
    ) -> dict[str, Tensor]:
        """What was asked for, from the trunk's hidden states."""
        found: dict[str, Tensor] = {}
        scored = hidden[batch.scored_at] if {"logprobs", "entropy", "values"} & wanted else hidden[:0]  # [N, H]
        if "logprobs" in wanted:
            found["logprobs"] = token_logprobs(scored, **self._head(), targets=batch.targets, temperature=temperature)
        if "entropy" in wanted:
            found["entropy"] = token_entropy(scored.detach(), **self._head(), temperature=temperature)
        if "values" in wanted:
            found["values"] = by._weighted(by._criteria(scored))
        if {"scores", "criteria"} & wanted:
            found["criteria"] = by._criteria(pooled(hidden, batch, by.scoring.pooling))  # [C, K]
            found["scores"] = by._weighted(found["criteria"])
        return found

    def autocast(self) -> torch.autocast:
        """The context of every forward: bf16 matrix products where that was chosen, nothing elsewhere."""
        return torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None)

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type of queries, keys and masks."""
        return self.autocast_dtype or self.model.dtype

    def states(
        self, input_ids: Int[Tensor, "R T"], position_ids: Int[Tensor, "R T"], mask: Tensor | dict[str, Tensor] | None
    ) -> Float[Tensor, "R T H"]:
        """The trunk's last hidden states."""
        positions = {"position_ids": position_ids} if takes_positions(self.model) else {}
        found = self.trunk(input_ids=input_ids, attention_mask=mask, use_cache=False, **positions)
        hidden: Tensor = found.last_hidden_state
        return hidden

    def _own(self, batch: GroupBatch, wanted: set[Output], temperature: float) -> dict[str, Tensor]:
        """Log-probs and entropy from the logits that Hugging Face's own forward gives."""
        logits = self.own_logits(batch.input_ids).flatten(0, 1)[batch.scored_at]
        logprobs = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)  # [N, V]
        found = {"logprobs": logprobs.gather(-1, batch.targets[:, None])[:, 0]}
        found["entropy"] = -(logprobs.exp() * logprobs).sum(-1).detach()
        return {name: value for name, value in found.items() if name in wanted}

    def own_logits(self, input_ids: Int[Tensor, "R T"]) -> Float[Tensor, "R T V"]:
        """The logits of the model's own forward; only its head's product is ours, so that they are fp32 at least."""
        linear = self.model.get_output_embeddings()
        linear.forward = lambda hidden: head_logits(hidden, linear.weight, bias=getattr(linear, "bias", None))
        try:
            logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
            return logits
        finally:
            del linear.forward  # the class's again

    def logits(self, hidden: Float[Tensor, "... H"]) -> Float[Tensor, "... V"]:
        """The language-model head with the model's own bias, scale and soft cap: for decoding."""
        return head_logits(hidden, **self._head())

    def _hidden(self, batch: GroupBatch) -> Float[Tensor, "RT H"]:
        if self.bidirectional:
            return self._encoder_hidden(batch)
        mask = self._additive_mask(batch) if batch.branched else None
        return self.states(batch.input_ids, batch.position_ids, mask).flatten(0, 1)

    def _encoder_hidden(self, batch: GroupBatch) -> Float[Tensor, "RT H"]:
        """Encoders see the whole row: one completion each, and the model's own positions; the prompt is of type 0."""
        assert not batch.branched, "an encoder takes one completion per row"
        kinds = {}
        if "token_type_ids" in signature(self.trunk.forward).parameters:
            highest = getattr(self.model.config, "type_vocab_size", 2) - 1
            kinds = {"token_type_ids": (batch.branch > 0).long().clamp(max=highest)}
        mask = (batch.group >= 0).long()
        hidden: Tensor = self.trunk(input_ids=batch.input_ids, attention_mask=mask, **kinds).last_hidden_state
        return hidden.flatten(0, 1)

    def _additive_mask(self, batch: GroupBatch) -> Tensor | dict[str, Tensor]:
        """Who sees whom, [R, 1, T, T], for each kind of layer."""

        # The dtype's minimum rather than -inf: a row of -inf gives NaN. Float rather than bool: on CPU a bool mask is
        # converted again in every layer.
        def additive(window: int | None) -> Float[Tensor, "R 1 T T"]:
            seen = batch.visible(window)[:, None]
            mask = torch.zeros(seen.shape, dtype=self.compute_dtype, device=seen.device)
            return mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)

        return as_model_takes({k: additive(w) for k, w in windows(self.model.config.get_text_config()).items()})

    def _head(self) -> LanguageHead:
        config = self.model.config.get_text_config()
        linear = self.model.get_output_embeddings()
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        return {
            "weight": linear.weight,
            "bias": getattr(linear, "bias", None),
            "soft_cap": getattr(config, "final_logit_softcapping", None),
            "logit_scale": float(scale),
        }

    def _criteria(self, hidden: Float[Tensor, "M H"]) -> Float[Tensor, "M K"]:
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 would make one score of many near ones
            found: Tensor = self.scalar_head(hidden.to(torch.promote_types(hidden.dtype, torch.float32)))
        return found.sigmoid() if self.scoring.sigmoid else found

    def _weighted(self, criteria: Float[Tensor, "M K"]) -> Float[Tensor, "M"]:
        return (criteria * self.criterion_weights.to(criteria.dtype)).sum(-1) + self.score_bias.to(criteria.dtype)

    def in_role(self) -> AbstractContextManager[None]:
        """The context in which the model's parts may be called by themselves, as the sampler does."""
        return nullcontext()


@torch.no_grad()
def check_layout(model: ScoredModel, batch: GroupBatch, world: World) -> None:
    """Once per model: the log-probs of a few completions must be those of the model's own forward, alone in its row.

    A layout that fails is named in the log, and the next plainer one takes its place. In bf16 the mean difference of
    the probabilities counts, which rounding leaves below ``BF16_TOLERANCE``. All ranks call this together.
    """
    if model.checked or model.bidirectional:
        return
    model.checked = True
    output: Output = "values" if model.is_scalar else "logprobs"
    batch, was_training = batch.to(model.device), model.training
    few = batch.unbranched(CHECKED)
    model.eval()
    chosen, model.layout = model.layout, "own"
    expected = getattr(model(few, [output]), output)
    for layout in _LAYOUTS[_LAYOUTS.index(chosen) :]:
        model.layout = layout
        found = getattr(model(batch, [output]), output)[: len(expected)]
        difference = world.max(_difference(found, expected, exact=model.compute_dtype.itemsize >= 4))
        if difference <= 1.0:
            break
        if layout == "own":
            raise GuardStop(
                f"{type(model.model).__name__}: its {output} are not finite, or change with what is computed beside "
                "them; check its weights, or train another model"
            )
        log.warning(
            "%s: with rows laid out '%s' its %s differ from its own forward's by %.3g times what rounding explains, so "
            "they are laid out '%s' from here on, which is slower",
            type(model.model).__name__,
            layout,
            output,
            difference,
            _LAYOUTS[_LAYOUTS.index(layout) + 1],
        )
    model.train(was_training)


_LAYOUTS: list[Layout] = ["shared", "separate", "own"]


def layouts(modules: Mapping[str, nn.Module]) -> dict[str, Layout]:
    """The layouts that were checked, to be saved beside the weights."""
    return {name: m.layout for name, m in modules.items() if isinstance(m, ScoredModel) and m.checked}


def restore_layouts(modules: Mapping[str, nn.Module], state: Mapping[str, Layout]) -> None:
    """Take back what ``layouts`` gave: a resumed run decides nothing anew."""
    for name, layout in state.items():
        module = modules[name]
        assert isinstance(module, ScoredModel)
        module.layout, module.checked = layout, True


def _difference(found: Tensor, expected: Tensor, *, exact: bool) -> float:
    """In units of what is allowed; NaN counts as infinite."""
    if not len(expected):
        return 0.0
    if exact:
        difference = ((found - expected).abs() / expected.abs().clamp(min=1.0)).max() / TOLERANCE
    elif bool((expected <= 0).all()):  # log-probs
        difference = (found.exp() - expected.exp()).abs().mean() / BF16_TOLERANCE
    else:
        difference = (found - expected).abs().mean() / expected.abs().mean().clamp(min=1.0) / BF16_TOLERANCE
    return float(difference.nan_to_num(nan=float("inf")))


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
    if batches:
        check_layout(model, batches[-1], world)
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


def flat_forward(
    model: ScoredModel,
    samples: Sequence[Sample],
    output: Literal["logprobs", "entropy", "values"],
    *,
    micro_batch_tokens: int,
    world: World,
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """One output of every scored token, without gradient, joined in the order of the completions."""
    found = forward_samples(
        model, samples, [output], micro_batch_tokens=micro_batch_tokens, world=world, temperature=temperature
    )
    return torch.cat([part for group in found[output] for part in group] or [torch.zeros(0)])


def _tag(sample: Sample, index: int) -> Sample:
    """Only ids and marks, and each completion's own address; here a partner is a completion like any other."""
    bare = [replace(one, token_fields={}, units={}, fields={}, partner=False) for one in sample.completions]
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
