"""From noisy human judgments to labels: how sure a label is, and who judges well. NumPy only.

Shapes: n judgments, each naming its item and its rater by index from 0. A label is a probability, never a bare
majority. Everything is deterministic. Several answers compared with each other: rankings.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from baro.functional.statistics import sigmoid
from baro.functional.undefined import Undefined

POOL_SKILL, POOL_SPREAD = 2.0, 1.0
"""Prior of the pool's skill: two raters of skill 2 agree on 70 % of pairs, the middle of the 60 to 77 % that human
preferences show, and each names the better answer in 78 %."""
SKILL_SPREAD = 0.75
"""Prior standard deviation of a rater's skill about the pool's: one who clicks at random is two of them away."""
HABIT_SPREAD = 0.3
"""Prior standard deviation of a rater's overall habit, the log-odds of choosing left: one of them does in 57 %."""
CONFUSION_PRIOR = (4.0, 2.0)
"""Beta prior of sensitivity and specificity: as if a rater had already judged 4 items of each class, 3 rightly."""


def smoothed_vote(
    wins: Num[np.ndarray, "items"], votes: Num[np.ndarray, "items"], *, prior: float | int = 0.5
) -> Float[np.ndarray, "items"]:
    """Probability that the first answer is preferred, from counts alone: the label where raters are not modelled.

        p = (w + a) / (n + 2a)

    The mean of a Beta(a, a) prior after n votes, a = ``prior`` (0.5 is Jeffreys', 1 is Laplace's); 0.5 without votes.
    A tie is half a win. Raises ValueError unless 0 ≤ w ≤ n and a > 0.
    """
    if prior <= 0:
        raise ValueError(f"prior is {prior}; it must be above 0, or one vote would be certainty")
    if (wins < 0).any() or (wins > votes).any():
        raise ValueError("wins must lie between 0 and the number of votes")
    return np.asarray((wins + prior) / (votes + 2 * prior), dtype=float)


def vote_margin(p: Float[np.ndarray, "items"], *, largest: float | int) -> Float[np.ndarray, "items"]:
    """Margin for a reward model from a label's probability, in nats of log-odds.

        m = clip(log p − log(1 − p), −largest, largest)

    Raises ValueError for a probability outside 0..1 or ``largest`` not above 0.
    """
    _check_probabilities(p)
    if largest <= 0:
        raise ValueError(f"largest is {largest}; a margin needs room above 0")
    with np.errstate(divide="ignore"):  # certainty is an infinite margin before it is clipped
        return np.asarray(np.clip(np.log(p) - np.log1p(-p), -largest, largest))


def needs_another_vote(p: Float[np.ndarray, "items"], *, certainty: float) -> Bool[np.ndarray, "items"]:
    """Adaptive overlap: whether an item's label is less sure than asked for.

        max(p, 1 − p) < certainty

    Raises ValueError for a probability outside 0..1 or a certainty outside 0.5..1.
    """
    _check_probabilities(p)
    if not 0.5 <= certainty <= 1:
        raise ValueError(f"certainty is {certainty}; it must lie between 0.5 and 1")
    return np.asarray(np.maximum(p, 1 - p) < certainty)


def noise_from_agreement(agreement: float | int) -> float:
    """Rate ε of flipped labels that would explain how often two raters agree: label smoothing, robust DPO.

        a = (1 − ε)² + ε²   ⇒   ε = (1 − √(2a − 1)) / 2

    Assumes that every pair has one true label and that raters err independently and equally often; where tastes truly
    differ it is an upper bound of the error. Raises Undefined below a = 0.5, which no ε gives, and ValueError above 1.
    """
    if not agreement <= 1:
        raise ValueError(f"agreement is {agreement}; it is a fraction of 1")
    if agreement < 0.5:
        raise Undefined("below_chance", share=f"{agreement:.1%}")
    return (1 - math.sqrt(2 * agreement - 1)) / 2


def binomial_test(successes: int, n: int, *, p: float = 0.5) -> float:
    """Exact two-sided p-value of a count: is the left answer chosen more or less often than by chance?

        Σ_k P(k) over all k with P(k) ≤ P(successes),   P(k) = C(n, k) p^k (1 − p)^(n−k)

    Probabilities equal to a part in 10⁷ count as equal. They are taken relative to the likeliest count, so that n in
    the millions neither under- nor overflows. Raises ValueError unless 0 ≤ successes ≤ n and 0 < p < 1.
    """
    if not 0 <= successes <= n or not 0 < p < 1:
        raise ValueError(f"{successes} successes of {n} at p = {p}; need 0 ≤ successes ≤ n and 0 < p < 1")
    k = np.arange(n)
    ratios = np.log(n - k) - np.log(k + 1) + (math.log(p) - math.log1p(-p))  # log P(k+1) − log P(k)
    mode = min(int((n + 1) * p), n)
    below = -np.cumsum(ratios[:mode][::-1])[::-1]
    logs = np.concatenate([below, [0.0], np.cumsum(ratios[mode:])])  # [n + 1], 0 at the mode
    weights = np.exp(logs)
    return min(1.0, float(weights[logs <= logs[successes] + 1e-7].sum() / weights.sum()))


def _check_probabilities(p: Float[np.ndarray, "items"]) -> None:
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability lies outside 0..1")


def _check_judgments(item: Int[np.ndarray, "n"], rater: Int[np.ndarray, "n"], *others: Any) -> None:
    if len(item) == 0:
        raise ValueError("no judgments to learn from")
    if {len(rater), *map(len, others)} != {len(item)}:
        raise ValueError("the arrays name different numbers of judgments")
    if min(item.min(), rater.min()) < 0:
        raise ValueError("an item or rater index is negative")


EM_STEPS = 200
"""After so many steps of EM binary_dawid_skene goes on by BFGS."""


class BinaryDawidSkene(NamedTuple):
    """What binary_dawid_skene learns. p_one: posterior probability of label 1 per item, the prevalence where nobody
    judged. sensitivity, specificity: per rater, P(says 1 | is 1) and P(says 0 | is 0). prevalence: share of label 1."""

    p_one: Float[np.ndarray, "items"]
    sensitivity: Float[np.ndarray, "raters"]
    specificity: Float[np.ndarray, "raters"]
    prevalence: float


def binary_dawid_skene(
    item: Int[np.ndarray, "n"], rater: Int[np.ndarray, "n"], label: Num[np.ndarray, "n"] | Bool[np.ndarray, "n"]
) -> BinaryDawidSkene:
    """Labels of yes-or-no judgments (safety flags, thumbs) from raters who miss and overflag at rates of their own.

        log-odds of z_i = log π/(1−π) + Σ_r [label 1: log α_r/(1−β_r); label 0: log (1−α_r)/β_r]
        α_r, β_r = sensitivity, specificity: the expected counts given p(z), with a Beta(4, 2) prior (CONFUSION_PRIOR)

    Dawid & Skene 1979, eq. 2.3-2.5, for two classes, by EM from the smoothed vote. Differs from the paper: priors
    (Beta(2, 2) on the prevalence π), so that one or two votes per item and a rater of ten judgments do not end in
    certainty; with one vote per item the rates stay near 3/4 and p near the prior's. Where votes say little about the
    rates EM creeps, so after EM_STEPS the same maximum is searched by BFGS, which needs room for the square of the
    number of raters. Items and raters are 0 to the highest index. Raises ValueError without judgments, for unequal
    lengths, a negative index and a label other than 0 and 1, and RuntimeError if the search does not converge.
    """
    _check_judgments(item, rater, label)
    if not np.isin(label, (0, 1)).all():
        raise ValueError("a label is neither 0 nor 1")
    one, raters = label.astype(float), int(rater.max()) + 1
    right, wrong = (np.repeat([prior - 1, 1.0], [2 * raters, 1]) for prior in CONFUSION_PRIOR)

    def expected(p: Float[np.ndarray, "items"]) -> tuple[Any, Any]:
        """How often each of (sensitivities, specificities, prevalence) held, and of how many, the prior's included."""
        yes, no = p[item], 1 - p[item]
        held = np.concatenate([np.bincount(rater, yes * one), np.bincount(rater, no * (1 - one)), [p.sum()]])
        times = np.concatenate([np.bincount(rater, yes), np.bincount(rater, no), [len(p)]])
        return held + right, times + right + wrong

    def posterior(logits: Float[np.ndarray, "parameters"]) -> tuple[Float[np.ndarray, "items"], float]:
        """p, and the log posterior of the logits of all rates."""
        holds, fails = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
        if_one = np.where(one == 1, holds[rater], fails[rater])
        if_zero = np.where(one == 1, fails[raters + rater], holds[raters + rater])
        is_one, is_zero = np.bincount(item, if_one) + holds[-1], np.bincount(item, if_zero) + fails[-1]
        return sigmoid(is_one - is_zero), float(np.logaddexp(is_one, is_zero).sum() + right @ holds + wrong @ fails)

    def objective(logits: Float[np.ndarray, "parameters"]) -> tuple[float, Float[np.ndarray, "parameters"]]:
        p, value = posterior(logits)
        held, times = expected(p)
        return -value, times * sigmoid(logits) - held

    p = smoothed_vote(np.bincount(item, weights=one), np.bincount(item), prior=1)
    for _ in range(EM_STEPS):
        held, times = expected(p)
        logits = np.log(held) - np.log(times - held)
        before, p = p, posterior(logits)[0]
        if np.abs(p - before).max() < 1e-9:
            break
    else:
        logits = _minimise(objective, logits, np.diag(held * (1 - held / times)))
        p = posterior(logits)[0]
    rates = sigmoid(logits)
    return BinaryDawidSkene(p, rates[:raters], rates[raters:-1], float(rates[-1]))


class OneCoin(NamedTuple):
    """What dawid_skene_sides learns.

    p_first: posterior probability that the canonical first answer is the better one, 0.5 where nobody judged.
    skill: s_r. accuracy: probability that the rater names the better answer of a pair like these, side bias apart.
    side_bias: b_r, log-odds of choosing left between equal answers. shrinkage: how much of what is known about a
    rater's skill is the pool's and not from own judgments, 0 to 1; at 1 the skill is the pool's. pool: the skill that
    raters are shrunk towards. pool_shrinkage: likewise, how much of the pool is its prior POOL_SKILL; 1 with one vote
    per item, which never says whether raters agree.
    """

    p_first: Float[np.ndarray, "items"]
    skill: Float[np.ndarray, "raters"]
    accuracy: Float[np.ndarray, "raters"]
    side_bias: Float[np.ndarray, "raters"]
    shrinkage: Float[np.ndarray, "raters"]
    pool: float
    pool_shrinkage: float


def dawid_skene_sides(
    item: Int[np.ndarray, "n"],
    rater: Int[np.ndarray, "n"],
    first_on_left: Bool[np.ndarray, "n"],
    chose_first: Num[np.ndarray, "n"],
) -> OneCoin:
    """Labels of pairwise judgments from raters of unequal skill who lean to one side of the screen.

        logit P(choose left) = s_r d_i side + b_r,   side = +1 if the canonical first answer is on the left, else −1
        d_i ~ N(0, 1),   s_r ~ N(pool, 0.75²),   pool ~ N(2, 1),   b_r / √(1 + π s_r² / 8) ~ N(0, 0.3²)
        p_first = P(d_i > 0 | all judgments)

    One-coin Dawid & Skene 1979 with a side bias: left and right mean nothing once the order is randomised, so a full
    confusion is not identified. d_i, the item's latent preference, is integrated out by quadrature; pool, s and b
    maximise the marginal posterior (the marginal likelihood of Bock & Aitkin 1981, searched by BFGS). Maximising over
    every d_i as well would stay biased with two votes per item, however many items (Neyman & Scott 1948). Two classes
    instead of d_i would take all items for equally hard: votes that agree on an easy item would count as independent
    evidence, and p be overconfident. The prior of b is on the rater's overall habit of choosing left, nearly b /
    √(1 + π s² / 8), because otherwise a habit would pass for a lack of skill where raters share no items.

    chose_first is 1, 0 or 0.5; a tie is half a vote for each side (Bradley-Terry's convention). The canonical order
    must say nothing about quality (by hash, not by model), for d_i is as likely above 0 as below. With few votes skills
    fall back to the pool, and the pool to its prior: read ``shrinkage``. A skill below 0 is a rater who answers the
    wrong way round. Items and raters are 0 to the highest index. Needs room for the square of the number of raters.
    Raises ValueError without judgments, for unequal lengths, a negative index and a choice other than 0, 0.5 and 1, and
    RuntimeError if the search does not converge.
    """
    _check_judgments(item, rater, first_on_left, chose_first)
    if not np.isin(chose_first, (0, 0.5, 1)).all():
        raise ValueError("chose_first must be 1 (the first answer), 0 (the second) or 0.5 (a tie)")
    items, raters = int(item.max()) + 1, int(rater.max()) + 1
    kind = (rater * 2 + first_on_left) * 3 + (chose_first * 2).astype(int)

    def objective(theta: Float[np.ndarray, "parameters"]) -> tuple[float, Float[np.ndarray, "parameters"]]:
        return _one_coin_objective(theta, item, kind, items)

    theta = _minimise(objective, np.zeros(1 + 2 * raters), _one_coin_curvature(np.bincount(rater)))
    pool, skill, bias = _one_coin_parameters(theta)
    posterior = _preference_posterior(skill, bias, item, kind, items)[0]
    shrinkage, pool_shrinkage = _one_coin_shrinkage(skill, bias, posterior, item, kind)
    accuracy = 2 * _WEIGHTS[_NODES > 0] @ sigmoid(np.multiply.outer(_NODES[_NODES > 0], skill))
    p_first = posterior[_NODES > 0].sum(axis=0)
    return OneCoin(p_first, skill, accuracy, bias, shrinkage, pool, pool_shrinkage)


# Nodes and weights for d ~ N(0, 1): Gauss-Legendre on each half, since p_first cuts the integral at 0.
_X, _W = np.polynomial.legendre.leggauss(16)
_NODES = np.concatenate([2.5 * (_X - 1), 2.5 * (_X + 1)])
_WEIGHTS = np.tile(_W, 2) * np.exp(-(_NODES**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()
# Every judgment is one of 6 kinds per rater: second or first answer on the left, and the vote.
_SIDE = np.array([-1.0, 1.0])
_VOTE = np.array([0.0, 0.5, 1.0])


def _one_coin_parameters(
    theta: Float[np.ndarray, "parameters"],
) -> tuple[float, Float[np.ndarray, "raters"], Float[np.ndarray, "raters"]]:
    """Pool, skills and biases from (pool, skills, habits) in units of their priors' standard deviations."""
    raters = len(theta) // 2
    pool = POOL_SKILL + POOL_SPREAD * float(theta[0])
    skill = pool + SKILL_SPREAD * theta[1 : 1 + raters]
    return pool, skill, HABIT_SPREAD * theta[1 + raters :] * _widening(skill)


def _widening(skill: Any) -> Any:
    """E_d σ(s d + b) ≈ σ(b / widening): how much a habit shrinks where differences of merit add to it."""
    return np.sqrt(1 + np.pi / 8 * skill**2)


def _widening_slope(skill: Any) -> Any:
    """Derivative of log widening."""
    return np.pi / 8 * skill / (1 + np.pi / 8 * skill**2)


def _choice_logits(
    skill: Float[np.ndarray, "raters"], bias: Float[np.ndarray, "raters"]
) -> Float[np.ndarray, "nodes raters 2 1"]:
    """logit P(choose first): s d + b when it is on the left and s d − b when it is on the right."""
    return np.asarray(np.multiply.outer(_NODES, skill)[..., None] + np.multiply.outer(bias, _SIDE))[..., None]


def _preference_posterior(
    skill: Float[np.ndarray, "raters"],
    bias: Float[np.ndarray, "raters"],
    item: Int[np.ndarray, "n"],
    kind: Int[np.ndarray, "n"],
    items: int,
) -> tuple[Float[np.ndarray, "nodes items"], float]:
    """Posterior of each item's preference over the nodes, and the log-likelihood of all judgments."""
    z = _choice_logits(skill, bias)
    by_kind = (_VOTE * z - np.logaddexp(0, z)).reshape(len(_NODES), -1)  # [nodes, kinds]
    joint = _sum_by(by_kind[:, kind], item, items) + np.log(_WEIGHTS)[:, None]
    top = joint.max(axis=0)
    density = np.exp(joint - top)
    total = density.sum(axis=0)
    return density / total, float((top + np.log(total)).sum())


def _one_coin_objective(
    theta: Float[np.ndarray, "parameters"], item: Int[np.ndarray, "n"], kind: Int[np.ndarray, "n"], items: int
) -> tuple[float, Float[np.ndarray, "parameters"]]:
    """Minus the log posterior of theta, preferences integrated out, and its gradient."""
    _, skill, bias = _one_coin_parameters(theta)
    posterior, loglik = _preference_posterior(skill, bias, item, kind, items)
    error = _VOTE - sigmoid(_choice_logits(skill, bias))  # [nodes, raters, 2, 3]
    slope = error * _sum_by(posterior[:, item], kind, error[0].size).reshape(error.shape)
    by_bias = np.einsum("qrsv,s->r", slope, _SIDE)
    by_skill = np.einsum("qrsv,q->r", slope, _NODES) + by_bias * bias * _widening_slope(skill)
    by_habit = HABIT_SPREAD * by_bias * _widening(skill)
    gradient = np.concatenate([[POOL_SPREAD * by_skill.sum()], SKILL_SPREAD * by_skill, by_habit])
    return float(theta @ theta) / 2 - loglik, theta - gradient


def _one_coin_curvature(judged: Int[np.ndarray, "raters"]) -> Float[np.ndarray, "parameters parameters"]:
    """Roughly the objective's second derivatives, from how much each rater judged: it saves the search most steps."""
    to_skill = np.vstack([np.full(len(judged), POOL_SPREAD), SKILL_SPREAD * np.eye(len(judged))])
    curvature = np.diag(np.concatenate([np.ones(1 + len(judged)), 1 + 0.4 * HABIT_SPREAD**2 * judged]))
    curvature[: 1 + len(judged), : 1 + len(judged)] += to_skill * (0.05 * judged) @ to_skill.T
    return curvature


def _one_coin_shrinkage(
    skill: Float[np.ndarray, "raters"],
    bias: Float[np.ndarray, "raters"],
    posterior: Float[np.ndarray, "nodes items"],
    item: Int[np.ndarray, "n"],
    kind: Int[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "raters"], float]:
    """Prior precision over posterior precision, of each skill and of the pool, all other parameters held.

    The judgments' information by Louis 1982: E[−∂²] − Var[∂] over the posterior of d. For a rater, two judgments of
    one item count as if of two.
    """
    p = sigmoid(_choice_logits(skill, bias))
    by_skill = (_NODES[:, None, None] + np.multiply.outer(bias * _widening_slope(skill), _SIDE))[..., None]  # ∂z/∂s
    bend = np.multiply.outer(bias * np.pi / 8 / _widening(skill) ** 4, _SIDE)[..., None]  # ∂²z/∂s²
    curvature = (p * (1 - p) * by_skill**2 - (_VOTE - p) * bend).reshape(len(_NODES), -1)[:, kind]
    slope = ((_VOTE - p) * by_skill).reshape(len(_NODES), -1)[:, kind]  # [nodes, n]
    here = posterior[:, item]
    own = (here * (curvature - slope**2)).sum(axis=0) + (here * slope).sum(axis=0) ** 2
    known = np.maximum(np.bincount(kind // 6, own, minlength=len(skill)), 0)
    joint = _sum_by(slope, item, posterior.shape[1])
    spread = (posterior * joint**2).sum() - ((posterior * joint).sum(axis=0) ** 2).sum()
    of_pool = max(float((here * curvature).sum() - spread), 0.0)
    return 1 / (1 + SKILL_SPREAD**2 * known), 1 / (1 + POOL_SPREAD**2 * of_pool)


def _sum_by(
    rows: Float[np.ndarray, "nodes n"], group: Int[np.ndarray, "n"], size: int
) -> Float[np.ndarray, "nodes groups"]:
    return np.stack([np.bincount(group, row, minlength=size) for row in rows])


def _minimise(
    function: Callable[[Float[np.ndarray, "k"]], tuple[float, Float[np.ndarray, "k"]]],
    start: Float[np.ndarray, "k"],
    curvature: Float[np.ndarray, "k k"],
) -> Float[np.ndarray, "k"]:
    """BFGS from a guess at the curvature, with step halving: Nocedal & Wright 2006, eq. 6.17."""
    x, (value, gradient), inverse = start, function(start), np.linalg.inv(curvature)
    for _ in range(1000):
        if np.abs(gradient).max() <= 1e-6:
            return x
        step = -inverse @ gradient
        # Near the minimum a value cannot tell two points apart; rounding must not stop the search.
        slack = 1e-12 * (1 + abs(value))
        while (trial := function(x + step))[0] > value + 1e-4 * gradient @ step + slack:
            step = step / 2
        change = trial[1] - gradient
        x, (value, gradient) = x + step, trial
        if (along := step @ change) > 0:
            turned = inverse @ change
            inverse -= (np.outer(turned, step) + np.outer(step, turned)) / along
            inverse += (1 + change @ turned / along) / along * np.outer(step, step)
    raise RuntimeError("the search for raters' skills did not converge in 1,000 steps")
