"""How cheerful a continuation is: VADER's compound score, a rule-based sentiment in [−1, 1].

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text"; package
vaderSentiment (MIT). In the pipeline it stands where people would: it labels answers, and it measures the outcome. No
model is trained on it directly.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


@cache
def analyzer() -> SentimentIntensityAnalyzer:
    """The lexicon, read once."""
    return SentimentIntensityAnalyzer()


def vader(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """The compound score of each completion, without its prompt."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [analyzer().polarity_scores(text)["compound"] for text in texts]
