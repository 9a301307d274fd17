"""A small BERT with random weights that reads the tokens of another model: a backbone for a reward model.

There is no pretrained encoder to be had here; the stage shows the machinery, and what it costs to start from nothing.
"""

import torch
from pydantic import Field
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from baro import config as blocks
from baro.declared import Model
from baro.inputs import load_template, open_run
from baro.methods import stage


class Config(blocks.Config):
    """``do: examples.hh_rlhf.encoder:run``."""

    tokens_of: Model = Field(description="the model whose tokenizer it reads: a run or a folder")
    hidden_size: int = Field(128, ge=8, description="width of the residual stream")
    layers: int = Field(4, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they divide hidden_size")
    max_positions: int = Field(1024, ge=8, description="longest sequence that the model can read, in tokens")
    seed: int = Field(0, ge=0, description="seed of the weights")


def run(config, out=None):
    """Write ``model/``."""
    run = open_run("encoder", config, out)
    if not run.finished:
        template = load_template(config.tokens_of)
        torch.manual_seed(config.seed)
        shape = BertConfig(
            vocab_size=template.vocabulary,
            hidden_size=config.hidden_size,
            intermediate_size=4 * config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_positions,
            pad_token_id=template.special["pad"],
        )
        stage.save_model(run, template, BertModel(shape).save_pretrained)
        mark_pairs(template.tokenizer).save_pretrained(run.path / "model")
        run.finish()
    return run


def mark_pairs(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Two texts as an encoder reads them, ``[CLS] prompt [SEP] completion [SEP]``, with BOS and EOS as the marks."""
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    ids = [(bos, tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)]
    pair = f"{bos} $A {eos} $B:1 {eos}:1"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {eos}", pair=pair, special_tokens=ids
    )
    tokenizer.chat_template = None
    return tokenizer
