"""How well policies still predict given texts: the price of alignment in fluency.

    P/loss       mean over the texts of −(1/|y|) Σ_t log π(y_t | x, y_<t)      nats per token, at temperature 1

The texts are answers (of the model that all started from, say) or demonstrations, the same for every policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from baro.batch import Sample
from baro.data.encode import encode_demonstrations
from baro.data.formats import Loaded
from baro.data.ledger import Ledger
from baro.data.template import Template
from baro.evaluate.config import Config
from baro.evaluate.metrics import mean_over_prompts
from baro.evaluate.versus import sequence_logprobs
from baro.functional.statistics import Interval
from baro.inputs import load_template, resolve
from baro.methods import stage
from baro.models.load import load_policy
from baro.records import Answers, Demonstration, Message
from baro.runs import RunDir


def measure(run: RunDir, config: Config) -> dict[str, Interval | float]:
    """``P/loss`` of every policy and of ``against`` on the texts of ``config.loss_on``, bootstrap over texts."""
    figures: dict[str, Interval | float] = {}
    known: dict[str, Interval] = {}
    texts: dict[str, Sequence[Sample]] = {}  # by the template's fingerprint
    length = stage.longest_row(config.data, *(player.value for player in config.players))  # the same tokens for all
    for player in config.players:
        if player.value not in known:
            template = load_template(player.value, config.data.template)
            if template.fingerprint not in texts:
                reader = stage.Reader(run, template, config.data, (Answers, Demonstration), encode_each, length)
                _, texts[template.fingerprint] = reader.read(f"loss_on/{player.name}", str(config.loss_on))
            samples = texts[template.fingerprint]
            policy = load_policy(resolve(player.value, "model"), compute=config.compute)
            tokens = [one.scored_tokens for sample in samples for one in sample.completions]
            losses = -sequence_logprobs(policy, samples) / np.array(tokens)
            known[player.value] = mean_over_prompts(losses, np.arange(len(losses)), seed=config.seed)
        if not player.second:  # it would be the same number again
            figures[f"{player.name}/loss"] = known[player.value]
    return figures


def encode_each(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> list[Sample]:
    """Every answer of every row as a text of its own."""
    return list(encode_demonstrations(loaded.holding(_each(loaded), Demonstration), template, max_length, ledger))


def _each(loaded: Loaded) -> Iterator[tuple[str, Demonstration]]:
    for key, record in zip(loaded.keys, loaded.records, strict=True):
        if isinstance(record, Demonstration):
            yield key, record
        else:
            assert isinstance(record, Answers)  # of the kinds that were asked for
            for k, text in enumerate(record.completions, start=1):
                answer = Demonstration(record.prompt, (Message("assistant", text),), record.extra)
                yield f"{key} answer {k}", answer
