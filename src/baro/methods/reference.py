"""The frozen model that a policy is held to, and its log-probs of a file's samples, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
import transformers
from torch import Tensor

from baro import collate
from baro.batch import Sample, pack_samples, with_flat
from baro.checkpoints import read_state, write_state
from baro.code_hash import hash_files
from baro.compute import ComputeConfig, LoraConfig
from baro.config import OptimiserConfig
from baro.data.stored import cache_folder, into_cache
from baro.errors import GuardStop
from baro.functional import tokens
from baro.inputs import hash_input, resolve
from baro.models import attention, forward
from baro.models.forward import BF16_TOLERANCE, ScoredModel, flat_forward
from baro.models.load import load_policy
from baro.models.roles import InRole
from baro.protocols import LocalWorld, State, World
from baro.records import content_hash


class Referring(Protocol):
    """What a config says of a policy and of its reference: the policy as it starts unless ``ref_policy`` is given."""

    @property
    def policy(self) -> str: ...
    @property
    def ref_policy(self) -> str | None: ...
    @property
    def trainer(self) -> OptimiserConfig: ...
    @property
    def lora(self) -> LoraConfig | None: ...
    @property
    def compute(self) -> ComputeConfig: ...


def reference(config: Referring, policy: ScoredModel) -> ScoredModel:
    """The reference: as told, else the policy as it starts, which with adapters is the policy without them."""
    if config.lora is not None and config.ref_policy is None:
        return InRole(policy, None)
    return load_policy(resolve(config.ref_policy or config.policy, "model"), compute=config.compute)


def reference_logprobs(config: Referring, policy: ScoredModel, train: Sequence[Sample]) -> ReferenceLogprobs:
    """The Prepare of a file's samples. Where the reference is the starting policy, log-ratios must start at 0."""
    budget = config.trainer.micro_batch_tokens
    found = hash_input(config.ref_policy or config.policy, "model")
    prepare = ReferenceLogprobs(reference(config, policy), found, budget)
    if config.ref_policy is None:
        check_start(policy, prepare(train[:8], LocalWorld()), budget)
    return prepare


class ReferenceLogprobs:
    """Reference log-probs per scored token, once; kept in a file for the next run on the same samples.

    The file's name holds all that the bits depend on: the reference's content, the tokens, attention, device, GPU and
    dtype, threads, the versions of torch and transformers, the code that lays rows out and computes them, and
    ``micro_batch_tokens``. The last because the matrix products of another layout
    round differently (measured: 5e-7 nats a token in fp32), and a resumed run must be the same run.
    """

    atom: Literal["group"] = "group"

    def __init__(self, ref_policy: ScoredModel, ref_hash: str, micro_batch_tokens: int) -> None:
        self.ref_policy, self.ref_hash, self.micro_batch_tokens = ref_policy, ref_hash, micro_batch_tokens

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        bare = pack_samples(samples)
        names = ("prompt_ids", "prompt_lengths", "completions", "ids", "lengths", "scored")
        columns = {name: bare[name].tolist() for name in names}
        cached = cache_folder() / f"ref-logprobs-{content_hash([self.ref_hash, columns, self._arithmetic()])}.state"
        if not world.any(not cached.exists()):  # all ranks have theirs, or all compute: that is a collective
            return with_flat(samples, {"ref_logprobs": read_state(cached)["ref_logprobs"]})
        values = self._compute(samples, world)
        with into_cache():
            write_state(cached, {"ref_logprobs": values})
        return with_flat(samples, {"ref_logprobs": values})

    def _arithmetic(self) -> list[str | int]:
        """What decides the last bits of a forward besides weights and tokens."""
        device, model = self.ref_policy.device, self.ref_policy.model
        numbers = [str(self.ref_policy.compute_dtype), model.config._attn_implementation, self.micro_batch_tokens]
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        versions = [torch.__version__, transformers.__version__, str(torch.version.cuda)]
        code = hash_files({Path(str(module.__file__)) for module in (attention, collate, forward, tokens)})
        return [*numbers, *versions, where, torch.get_num_threads(), code]

    def _compute(self, samples: Sequence[Sample], world: World) -> Tensor:
        return logprobs(self.ref_policy, samples, self.micro_batch_tokens, world)

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        return None


def logprobs(model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int, world: World) -> Tensor:
    """log π of every scored token without gradient, flat [N], in nats; all ranks enter together."""
    return flat_forward(model, samples, "logprobs", micro_batch_tokens=micro_batch_tokens, world=world)


def check_start(policy: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int) -> None:
    """With the starting policy as reference every log-ratio must be 0 before the first step.

    Both were computed in the same layout, so that only a forward that is not deterministic differs: by less than 1e-3
    nats a completion in fp32, and in bf16 by a mean difference of probabilities below ``BF16_TOLERANCE``.
    """
    exact = policy.compute_dtype.itemsize >= 4
    now = with_flat(samples, {"logprobs": logprobs(policy, samples, micro_batch_tokens, LocalWorld())})
    for sample in now:
        for one in sample.completions:
            found, ref = one.token_fields["logprobs"], one.token_fields["ref_logprobs"]
            gap = float((found - ref).sum().abs() if exact else (found.exp() - ref.exp()).abs().mean())
            if not gap <= (1e-3 if exact else BF16_TOLERANCE):
                unit = "nats" if exact else "in the mean of their probabilities"
                raise GuardStop(
                    f"{sample.key}: the policy and its reference differ by {gap:.4f} {unit} before the first step, "
                    "though they are the same model; its forward is not deterministic, or the cache is stale"
                )
