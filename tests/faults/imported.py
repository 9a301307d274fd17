"""What every run of `baro` would import and build, for the process that forks to have it done once."""

import matplotlib.pyplot as plt  # noqa: F401  what reports import when they draw
import transformers.models.llama.modeling_llama
import transformers.models.llama.tokenization_llama  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from baro import cli  # noqa: F401
from baro.evaluate import report  # noqa: F401
from baro.verbs import VERBS

for verb in VERBS.values():
    verb.load()
get_checkpoint_conversion_mapping("llama")  # a table that every loading of a model would build
