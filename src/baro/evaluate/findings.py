"""What the figures say, in words: a policy is called better only where the whole interval lies above one half."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Literal, NamedTuple

from baro.evaluate.markup import number, numbers, shares
from baro.evaluate.stages import Figure, Stage, parents_of
from baro.evaluate.words import Words
from baro.functional.statistics import Interval
from baro.rewards.gate import weaknesses

Standing = Literal["better", "worse", "same", "unknown"]
_COMPARED = re.compile(
    r"(?P<policy>.+?)/(?P<kind>win_rate_length_controlled|win_rate|kl|kl_bound|reward|tokens|finished_fraction|distinct_2|"
    r"loss|accuracy|pass_at_\d+|maj_at_\d+|unsolved_fraction)(?:/(?P<of>.+))?"
)
_SOLVED = re.compile(r"accuracy|unsolved_fraction|(?:pass|maj)_at_\d+")
"""Kinds that are always by a reward; without one such a name is another's, as reward_model/accuracy."""
_SHARE = re.compile(r"win_rate|accuracy|finished_fraction|pass_at_|maj_at_|unsolved_fraction|^baseline/")
_ABBREVIATIONS = {"sft", "dpo", "ppo", "kto", "grpo", "orpo", "ipo", "simpo"}


class Finding(NamedTuple):
    """A sentence of the summary, and what kind of statement it is."""

    standing: Standing | Literal["warning", "note"]
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """The policies that one evaluation compared, and what it measured of each."""

    stage: Stage
    stages: Sequence[Stage] = ()

    @cached_property
    def measured(self) -> dict[tuple[str, str, str], Figure]:
        """Figures by policy, kind, and the judge or reward where there are several."""
        matches = ((_COMPARED.fullmatch(figure.name), figure) for figure in self.stage.figures)
        known = [(m, figure) for m, figure in matches if m and (m["of"] or not _SOLVED.fullmatch(m["kind"]))]
        return {(m["policy"], m["kind"], m["of"] or ""): figure for m, figure in known}

    @property
    def policies(self) -> list[str]:
        return list(dict.fromkeys(policy for policy, _, _ in self.measured))

    @property
    def judges(self) -> list[str]:
        """Those with a length-controlled win rate first: the first judge is the one that the summary quotes."""
        kinds = ("win_rate_length_controlled", "win_rate")
        return list(dict.fromkeys(of for wanted in kinds for _, kind, of in self.measured if kind == wanted))

    @property
    def rewards(self) -> list[str]:
        return list(dict.fromkeys(of for _, kind, of in self.measured if kind == "reward"))

    @property
    def verifiers(self) -> list[str]:
        """The rewards that say right or wrong."""
        return list(dict.fromkeys(of for _, kind, of in self.measured if kind == "accuracy"))

    def ks(self, kind: Literal["pass", "maj"], reward: str) -> list[int]:
        """The k of pass@k, or of maj@k, by a reward."""
        found = {kind_k for _, kind_k, of in self.measured if of == reward and kind_k.startswith(f"{kind}_at_")}
        return sorted(int(one.rpartition("_")[2]) for one in found)

    @cached_property
    def against(self) -> str | None:
        """The policy that all others were compared with, under the name it has in the figures."""
        value, named = self.stage.config.get("against"), self.stage.config.get("policies")
        wanted = [name for name, where in named.items() if where == value] if isinstance(named, Mapping) else []
        wanted += [stage.name for stage in self.stages if str(stage.path) == str(value)]
        wanted += [str(value), PurePath(str(value)).name] if value else []
        wanted.append("sft")
        everyone = {*self.policies, *(p for row in self.stage.comparisons[:1] for p in row["answers"])}
        return next((name for name in wanted if name in everyone), wanted[0] if value else None)

    def get(self, policy: str, kind: str, of: str = "") -> Figure | None:
        return self.measured.get((policy, kind, of))

    def win_rate(self, policy: str, judge: str) -> Figure | None:
        """The length-controlled win rate where there is one, else the plain one."""
        return self.get(policy, "win_rate_length_controlled", judge) or self.get(policy, "win_rate", judge)

    def kl(self, policy: str) -> Figure | None:
        """KL as it was measured, else its upper bound."""
        return self.get(policy, "kl") or self.get(policy, "kl_bound")

    def control(self, policy: str) -> str | None:
        """Which control a policy is, by its name: its win rate is known beforehand."""
        name = re.sub(r"[\s-]", "_", policy.lower())
        itself = policy == self.against and any(self.win_rate(policy, judge) for judge in self.judges)
        if itself or re.search(r"(^|_)(self|itself|again)$", name):
            return "self"
        hints = {"best_of": r"best_?of", "random": r"random", "kl_off": r"kl_off|no_kl|without_kl"}
        hints["length"] = r"(^|_)length"
        return next((control for control, hint in hints.items() if re.search(hint, name)), None)


def evaluations(stages: Sequence[Stage]) -> list[Evaluation]:
    """The stages that compared policies."""
    found = [Evaluation(stage, stages) for stage in stages]
    return [evaluation for evaluation in found if evaluation.measured]


def standing(win_rate: Figure) -> Standing:
    """What a win rate allows to be said; an interval that reaches 0.5 allows nothing."""
    if win_rate.interval is None:
        return "unknown"
    _, low, high = win_rate.interval
    if low > 0.5:
        return "better"
    return "worse" if high < 0.5 else "same"


def policy_name(policy: str, words: Words, against: str | None = None) -> str:
    """A policy as a reader knows it: methods in capitals, controls in words."""
    plain = re.sub(r"[\s-]", "_", policy.lower())
    if plain in _ABBREVIATIONS:
        return policy.upper()
    best_of = re.fullmatch(r"best_?of_?(\d+)", plain)
    if best_of:
        return words["control_best_of"].format(n=best_of[1])
    known = {"length_only": "control_length", "random_reward": "control_random", "kl_off": "control_kl_off"}
    if plain in known:
        return words[known[plain]]
    if plain.removesuffix("_self") in _ABBREVIATIONS:
        return words["control_self"].format(policy=plain.removesuffix("_self").upper())
    return policy


def spelled(figure: Figure | None) -> tuple[str, str]:
    """A figure's value and its interval, ``0.78`` and ``[0.74, 0.82]``; a dash and nothing for what is not there."""
    if figure is None:
        return numbers(None)[0], ""
    shown = shares if _SHARE.search(figure.name) else numbers
    if figure.interval is None:
        return shown(figure.value)[0], ""
    value, low, high = shown(*figure.interval)
    return value, f"[{low}, {high}]"


def with_interval(figure: Figure | None) -> str:
    """``0.78 [0.74, 0.82]``."""
    return " ".join(part for part in spelled(figure) if part)


def counted(figure: Figure) -> str:
    """The interval, and how many units it rests on."""
    return with_interval(figure) + (f", n={number(figure.n)}" if figure.n is not None else "")


def summary(stages: Sequence[Stage], words: Words) -> list[Finding]:
    """The report's first sentences."""
    found = evaluations(stages)
    findings = [finding for evaluation in found for finding in _compared(evaluation, words, several=len(found) > 1)]
    findings = findings or [Finding("note", words["no_comparison"])]
    findings += [finding for evaluation in found for finding in _solved(evaluation, words)]
    reward = reward_model(stages)
    findings += [Finding("note", _about_reward(*reward, words))] if reward else []
    return [*findings, *_weak_rewards(stages, words)]


def _weak_rewards(stages: Sequence[Stage], words: Words) -> Iterator[Finding]:
    """Reward models that their own figures call weak, and the policies that were trained on them all the same."""
    weak = {}
    for stage in stages:
        figures = {f.name: f.value if f.interval is None else Interval(*f.interval, f.n or 0) for f in stage.figures}
        if found := weaknesses(figures):
            weak[stage.name] = found
            reasons = [words[f"weak_{one.kind}"].format(value=number(one.value), limit=one.limit) for one in found]
            model = "weak_cost" if stage.verb == "cost" else "weak_reward"
            yield Finding("warning", words[model].format(stage=stage.name, reasons="; ".join(reasons)))
    for stage in stages:
        trained_on = {p.name for p in parents_of(stage, stages) if isinstance(p, Stage)} & weak.keys()
        if stage.config.get("accept_weak_reward_model") and trained_on:
            known = {"stage": stage.name, "reward": ", ".join(sorted(trained_on))}
            yield Finding("warning", words["trained_on_weak"].format(**known))


def _compared(evaluation: Evaluation, words: Words, *, several: bool) -> Iterator[Finding]:
    if not evaluation.judges:
        yield Finding("note", words["no_comparison"])
        return
    judge = evaluation.judges[0]
    against = policy_name(evaluation.against or words["baseline_policy"], words)
    for policy in evaluation.policies:
        rate, control = evaluation.win_rate(policy, judge), evaluation.control(policy)
        if rate is None or rate.value is None:
            continue
        if control == "self" and standing(rate) in ("better", "worse"):
            yield Finding("warning", words["self_broken"].format(against=against, value=counted(rate)))
        if control is None:
            facts = _facts(evaluation, policy, rate, words, judge=judge if len(evaluation.judges) > 1 else None)
            sentence = words[standing(rate)].format(policy=policy_name(policy, words), against=against, facts=facts)
            yield Finding(standing(rate), f"{evaluation.stage.name}: {sentence}" if several else sentence)


def _facts(evaluation: Evaluation, policy: str, rate: Figure, words: Words, *, judge: str | None) -> str:
    controlled = "/win_rate_length_controlled" in rate.name
    facts = [words["fact_controlled" if controlled else "fact_plain"].format(value=counted(rate))]
    if judge:
        facts.append(words["fact_judge"].format(judge=judge))
    kl = evaluation.get(policy, "kl")
    if kl is not None and kl.value is not None:
        facts.append(words["fact_kl"].format(value=f"{kl.value:.2g}" if abs(kl.value) < 1 else f"{kl.value:.1f}"))
    return ", ".join(facts)


def _solved(evaluation: Evaluation, words: Words) -> Iterator[Finding]:
    """How many answers are right; a warning where no answer is, and so nothing to learn from by reward."""
    for reward in evaluation.verifiers:
        k = max(evaluation.ks("pass", reward), default=1)
        for policy in evaluation.policies:
            one, several = (evaluation.get(policy, kind, reward) for kind in ("accuracy", f"pass_at_{k}"))
            if one is None or one.value is None:
                continue
            told = {"policy": policy_name(policy, words), "reward": reward, "value": counted(one), "k": k}
            if several is not None and several.value == 0:
                yield Finding("warning", words["nothing_solved"].format(n=number(several.n), **told))
            elif several is not None:
                yield Finding("note", words["right_of_several"].format(several=with_interval(several), **told))
            else:
                yield Finding("note", words["right_of_one"].format(**told))


def accuracies(stage: Stage) -> list[Figure]:
    """A stage's accuracies on held-out pairs, the baselines last."""
    compared = Evaluation(stage).measured.values()
    found = [f for f in stage.figures if f.name.split("/")[-1] in ("accuracy", "pair_accuracy") and f not in compared]
    return found + [f for f in stage.figures if f.name.startswith("baseline/") and f not in found]


def reward_model(stages: Sequence[Stage]) -> tuple[Figure, list[Figure]] | None:
    """The reward model's accuracy and what stands beside it: an evaluation's before the reward stage's own."""
    measured = [(stage, accuracies(stage)) for stage in stages]
    for wanted in (_measured_reward, lambda stage, rate: rate.name == "reward_model/accuracy"):
        for stage, rates in measured:
            found = [rate for rate in rates if rate.value is not None and wanted(stage, rate)]
            if found:
                return found[0], rates
    return None


def _measured_reward(stage: Stage, rate: Figure) -> bool:
    """Whether a figure of an evaluation is the accuracy of one of its rewards."""
    rewards = stage.config.get("rewards")
    names = {"reward_model", *(rewards if isinstance(rewards, Mapping) else ())}
    return rate.name.removesuffix("/pair_accuracy") in names


def _about_reward(rate: Figure, rates: Sequence[Figure], words: Words) -> str:
    baselines = [b.value if b.high is None else b.high for b in rates if b.name.startswith("baseline/")]
    known = [value for value in baselines if value is not None]
    clear = rate.low is not None and rate.low > max([0.5, *known])
    key = "reward_alone" if not known else "reward_above" if clear else "reward_not_above"
    return words[key].format(value=counted(rate))
