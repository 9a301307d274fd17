"""Tiny models for tests: made here, seeded, never downloaded."""

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
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

from baro.data.encode import ENCODERS

VOCABULARY = 23
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    return _exact_norms(LlamaForCausalLM(LlamaConfig(**{**SIZES, **HEADS, **changes})).to(dtype).eval())


def llama_scalar(seed: int = 1, dtype: torch.dtype = torch.float64, **changes: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(**{**SIZES, **HEADS, "num_labels": 1, "pad_token_id": 0, **changes})
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


WINDOW = 6
# Large weights: attention and positions must matter, or an error in them would not show.
_STRONG = {**SIZES, **HEADS, "initializer_range": 0.3, "tie_word_embeddings": False}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
_GEMMA = {**_STRONG, **_ALTERNATING, "head_dim": 8, "query_pre_attn_scalar": 8}
_BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
_SSM = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
ARCHITECTURES: dict[str, tuple[str, dict]] = {
    "llama": ("LlamaConfig", _STRONG),
    "mistral": ("MistralConfig", {**_STRONG, "sliding_window": WINDOW}),
    "qwen2": ("Qwen2Config", {**_STRONG, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", {**_STRONG, "head_dim": 8}),
    "phi3": ("Phi3Config", {**_STRONG, "sliding_window": WINDOW, "pad_token_id": 0}),
    "gpt2": ("GPT2Config", {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt_neox": ("GPTNeoXConfig", {**_STRONG, "rotary_pct": 0.5}),
    "opt": ("OPTConfig", {**_STRONG, "ffn_dim": 24, "word_embed_proj_dim": 8, "init_std": 0.3}),
    "gemma2": ("Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3TextConfig", _GEMMA),
    "vaultgemma": ("VaultGemmaConfig", {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "cohere": ("CohereConfig", {**_STRONG, "logit_scale": 0.25}),
    "granite": ("GraniteConfig", {**_STRONG, "logits_scaling": 4.0}),
}
"""Of these completions share a row and slots decode: their config class and what it is made with."""
FALLBACKS: dict[str, tuple[str, dict]] = {
    "bloom": ("BloomConfig", _BLOOM),
    "falcon-alibi": ("FalconConfig", {**SIZES, "num_attention_heads": 4, "alibi": True, "initializer_range": 0.3}),
    "mamba": ("MambaConfig", {**SIZES, "state_size": 4, "initializer_range": 0.3}),
    "bamba": ("BambaConfig", {**_STRONG, **_SSM, "attn_layer_indices": [1]}),
}
"""Of these a completion needs a row of its own, and every token a whole forward."""


def architecture(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> PreTrainedModel:
    """A tiny random causal LM without dropout; in fp64 nothing in it is computed in less."""
    kind, settings = (ARCHITECTURES | FALLBACKS)[name]
    config = getattr(transformers, kind)(**settings)
    for key in [key for key in vars(config) if "dropout" in key or "pdrop" in key]:
        setattr(config, key, 0.0)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too
            parameter.add_(0.1 * torch.randn_like(parameter))
    if dtype == torch.float64:
        _exact_norms(model)
    if "attn_logit_softcapping" in settings:  # sdpa drops it, and the softmax of eager attention is in fp32
        model.set_attn_implementation("baro" if dtype == torch.float64 else "eager")
    return model


def _exact_norms(model: PreTrainedModel) -> PreTrainedModel:
    """Hugging Face's RMSNorm goes through fp32; for comparisons at 1e-9 it must stay in fp64."""
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm") and hasattr(module, "weight"):
            module.forward = (_gemma_norm if "Gemma" in kind else _rms_norm).__get__(module)
        elif kind == "CohereLayerNorm":
            module.forward = _centred_norm.__get__(module)
    return model


def _rms_norm(self: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return self.weight * hidden * torch.rsqrt(variance + self.variance_epsilon)


def _gemma_norm(self: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    return (1 + self.weight) * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)


def _centred_norm(self: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    centred = hidden - hidden.mean(-1, keepdim=True)
    return self.weight * centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def encode_any(loaded, template, max_length, ledger):
    """The samples of whatever kind of record it is."""
    return ENCODERS[loaded.kind](loaded, template, max_length, ledger)
