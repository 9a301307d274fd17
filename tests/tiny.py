"""Tiny models for tests: made here, seeded, never downloaded."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 23
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    return _exact_norms(LlamaForCausalLM(LlamaConfig(**{**SIZES, **HEADS, **changes})).to(dtype).eval())


def llama_scalar(seed: int = 1, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(**SIZES, **HEADS, num_labels=1, pad_token_id=0)
    return _exact_norms(LlamaForSequenceClassification(config).to(dtype).eval())


def qwen3(seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(seed)
    return _exact_norms(Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS, head_dim=8)).to(dtype).eval())


def gpt2(seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return GPT2LMHeadModel(config).to(dtype).eval()


def bert(seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = BertConfig(**SIZES, num_attention_heads=4, max_position_embeddings=64, hidden_dropout_prob=0.0)
    config.attention_probs_dropout_prob = 0.0
    return BertModel(config, add_pooling_layer=False).to(dtype).eval()


def _exact_norms(model: PreTrainedModel) -> PreTrainedModel:
    """Hugging Face's RMSNorm goes through fp32; for comparisons at 1e-9 it must stay in fp64."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = _rms_norm.__get__(module)
    return model


def _rms_norm(self: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return self.weight * hidden * torch.rsqrt(variance + self.variance_epsilon)
