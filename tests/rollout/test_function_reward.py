"""Functions as rewards: what they are given, and what becomes of each thing that they may answer."""

import asyncio
import functools
import math
import time
import typing

import numpy as np
import pytest
import torch

from baro.batch import Sample, branch, pack_samples, unpack_samples
from baro.errors import ConfigError
from baro.records import Message, Rollout, Score, said
from baro.rewards.function import FunctionReward
from baro.rewards.terms import WeightedReward, _started


def rollouts(*extras: dict) -> list[Rollout]:
    return [Rollout((Message("user", f"q{i}"),), said(f"a{i}"), (i,), True, extra) for i, extra in enumerate(extras)]


def answering(value, *, late: bool):
    """A function that answers this, at once or when it is awaited."""

    def now(prompts, completions, completion_ids, **columns):
        return value

    async def later(prompts, completions, completion_ids, **columns):
        await asyncio.sleep(0)
        return value

    return FunctionReward(later if late else now, name="mine")


SYNC_AND_ASYNC = pytest.mark.parametrize("late", [False, True], ids=["sync", "async"])


@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    "value",
    [
        [1.0, 2.0],
        (1, 2),
        np.array([1, 2], dtype=np.float32),
        torch.tensor([1.0, 2.0]),
        [torch.tensor(1.0), np.int64(2)],
    ],
    ids=["floats", "a tuple", "numpy", "a tensor", "scalars"],
)
def test_numbers_of_every_kind(value, late):
    assert answering(value, late=late).score(rollouts({}, {})) == [Score(1.0), Score(2.0)]


@SYNC_AND_ASYNC
def test_none_is_no_opinion_and_nan_a_failure(late):
    assert answering([None, math.nan, True], late=late).score(rollouts({}, {}, {})) == [
        Score(None),
        Score(None, "mine returned nan"),
        Score(1.0),
    ]


@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "mine: returned NoneType; a list of numbers is needed, one for each completion"),
        (1.0, "mine: returned float; a list of numbers is needed, one for each completion"),
        ({0: 1.0, 1: 1.0}, "mine: returned dict; a list of numbers is needed, one for each completion"),
        ("12", "mine: returned str; a list of numbers is needed, one for each completion"),
        ((x for x in (1.0, 2.0)), "mine: returned generator; a list of numbers is needed, one for each completion"),
        ([1.0], "mine: returned 1 rewards for 2 completions; one each, in their order"),
        ([1.0, "2"], "mine: returned a str (2) for a completion; a number or None is needed"),
        ([1.0, [2.0]], "mine: returned a list ([2.0]) for a completion; a number or None is needed"),
        (np.ones((2, 1)), "mine: returned a ndarray ([1.]) for a completion; a number or None is needed"),
    ],
)
def test_a_wrong_answer_is_one_sentence(value, sentence, late):
    with pytest.raises(ConfigError) as error:
        answering(value, late=late).score(rollouts({}, {}))
    assert str(error.value) == sentence


@SYNC_AND_ASYNC
def test_an_exception_fails_the_call_and_says_where(late):
    def broken(prompts, completions, completion_ids, **columns):
        raise KeyError("answer")

    async def broken_later(prompts, completions, completion_ids, **columns):
        return broken(prompts, completions, completion_ids)

    scores = FunctionReward(broken_later if late else broken, name="mine").score(rollouts({}, {}))
    assert [one.value for one in scores] == [None, None]
    assert scores[0].error.startswith("mine raised KeyError: 'answer' (")
    assert "test_function_reward.py:" in scores[0].error


@pytest.mark.parametrize("extras", [[{"a": 1}, {"b": 2}], [{}, {"a": 1, "b": 2}], [{"b": 2}, {}, {"a": 1}]])
def test_columns_are_those_of_all_rows_in_any_order(extras):
    seen = {}

    def look(prompts, completions, completion_ids, **columns):
        seen.update(columns, prompts=prompts, completions=completions, completion_ids=completion_ids)
        return [0.0] * len(prompts)

    FunctionReward(look, name="mine").score(rollouts(*extras))
    assert seen["a"] == [one.get("a") for one in extras]
    assert seen["b"] == [one.get("b") for one in extras]
    assert (seen["prompts"][0], seen["completions"][0], seen["completion_ids"][0]) == ("q0", "a0", [0])


@pytest.mark.parametrize("name", ["prompts", "completions", "completion_ids"])
def test_a_column_with_the_name_of_an_argument_is_refused(name):
    with pytest.raises(ConfigError, match=f"mine: gets an argument '{name}' already; rename that column"):
        answering([0.0], late=False).score(rollouts({name: "x"}))


def test_async_functions_run_beside_each_other():
    async def slow(prompts, completions, completion_ids, **columns):
        await asyncio.sleep(0.3)
        return [1.0] * len(prompts)

    sources = [FunctionReward(slow, name=str(i)) for i in range(4)]
    began = time.monotonic()
    started = [_started(one, rollouts({})) for one in sources]
    assert [finish() for finish in started] == [[Score(1.0)]] * 4
    assert time.monotonic() - began < 0.9  # one after the other: 1.2


def test_an_object_that_only_scores_is_asked():
    class Plain:
        name = "plain"

        def score(self, rollouts):
            return [Score(3.0)] * len(rollouts)

    assert _started(WeightedReward(Plain()).source, rollouts({}))() == [Score(3.0)]


def test_no_opinion_survives_storing():
    sample = Sample(torch.tensor([1]), (branch([2]).with_(fields={"score/x": math.nan, "score/y": 1.0}),), "k")
    (again,) = unpack_samples(pack_samples([sample]))
    fields = again.completions[0].fields
    assert math.isnan(fields["score/x"])
    assert fields["score/y"] == 1.0


def as_in_trl(completions: list[list[dict[str, str]]], **kwargs) -> list[float]:
    return [len(one[0]["content"]) for one in completions]


def as_text(completions: "list[List[dict]]", prompts: "Sequence[Sequence[dict]]", **kwargs):
    return [len(p[0]["content"]) + len(c[0]["content"]) for p, c in zip(prompts, completions, strict=True)]


class AsObject:
    def __call__(self, prompts, completions: typing.Sequence[list[dict]], **columns):
        return [len(c[-1]["content"]) + len(p) for p, c in zip(prompts, completions, strict=True)]


def as_strings(prompts: list[str], completions: list[str], **columns):
    return [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]


def as_either(prompts, completions: list[str | list[dict]], **columns):
    return [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]


@pytest.mark.parametrize(
    ("function", "score"),
    [
        (as_in_trl, 3), (functools.partial(as_in_trl, unused=1), 3), (as_text, 9), (AsObject(), 9), (as_strings, 9),
        (as_either, 9),
    ],
)  # fmt: skip
def test_completions_are_messages_where_the_function_asks_for_them(function, score):
    """By its annotation, which is how TRL's own reward functions say it."""
    rollout = Rollout((Message("user", "Reply!"),), (Message("assistant", "yes"),))
    assert FunctionReward(function, name="mine").score([rollout]) == [Score(score)]


def test_the_rewards_of_trl_that_need_no_more_work_as_they_are():
    from trl.rewards import get_soft_overlong_punishment, think_format_reward

    texts = ["<think>a</think>b", "b"]
    rollouts = [Rollout((), (Message("assistant", text),), completion_ids=(1,) * 12) for text in texts]
    assert [one.value for one in FunctionReward(think_format_reward, name="t").score(rollouts)] == [1, 0]
    overlong = get_soft_overlong_punishment(max_completion_len=16, soft_punish_cache=8)
    assert [one.value for one in FunctionReward(overlong, name="o").score(rollouts)] == [-0.5, -0.5]
