"""Naive oracles for baro.functional: NumPy and loops, one value at a time, written apart from the product."""

import numpy as np


def softmax(logits):
    exponentials = [np.exp(z - max(logits)) for z in logits]
    return np.array([e / sum(exponentials) for e in exponentials])


def head_logits(hidden, weight, bias=None, temperature=1.0, soft_cap=None, logit_scale=1.0):
    logits = np.zeros((len(hidden), len(weight)))
    for n, h in enumerate(hidden):
        for v, w in enumerate(weight):
            z = logit_scale * (sum(a * b for a, b in zip(h, w, strict=True)) + (0.0 if bias is None else bias[v]))
            logits[n, v] = (z if soft_cap is None else soft_cap * np.tanh(z / soft_cap)) / temperature
    return logits


def token_logprobs(hidden, weight, targets, **head):
    return np.array([np.log(softmax(z)[y]) for z, y in zip(head_logits(hidden, weight, **head), targets, strict=True)])


def token_entropy(hidden, weight, **head):
    return np.array([-sum(p * np.log(p) for p in softmax(z)) for z in head_logits(hidden, weight, **head)])


def gae_one(rewards, values, gamma, gae_lambda):
    """One sequence, by the definition: a discounted sum of the TD errors that follow."""
    T = len(rewards)
    delta = [rewards[t] + gamma * (values[t + 1] if t + 1 < T else 0.0) - values[t] for t in range(T)]
    return np.array([sum((gamma * gae_lambda) ** (s - t) * delta[s] for s in range(t, T)) for t in range(T)])


def pairs_of_rankings(rank, group_of):
    """{(better, worse): weight}."""
    found = {}
    for group in set(group_of):
        members = [c for c in range(len(rank)) if group_of[c] == group]
        pairs = [(a, b) for a in members for b in members if rank[a] < rank[b]]
        found.update({pair: 1 / len(pairs) for pair in pairs})
    return found


def policy_loss(logprob, old_logprob, advantage, clip_range):
    ratio = np.exp(logprob - old_logprob)
    return -min(ratio * advantage, min(max(ratio, 1 - clip_range), 1 + clip_range) * advantage)


def sampler_weights(old, sampler, completion_of, statistic, mode, low, high):
    """Token by token: (weights, beyond)."""
    ratios = [np.exp(o) / np.exp(s) for o, s in zip(old, sampler, strict=True)]
    weights, beyond = [], []
    for n, ratio in enumerate(ratios):
        own = [ratios[m] for m in range(len(ratios)) if completion_of[m] == completion_of[n]]
        found = {"token": ratio, "product": np.prod(own), "geometric_mean": np.prod(own) ** (1 / len(own))}[statistic]
        beyond.append(not low <= found <= high)
        weights.append((0.0 if mode == "mask" else min(max(found, low), high)) if beyond[-1] else found)
    return weights, beyond


def ece(probabilities, outcomes, bins):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [i for i, p in enumerate(probabilities) if low < p <= high or (b == 0 and p == 0)]
        if inside:
            gap = np.mean([outcomes[i] for i in inside]) - np.mean([probabilities[i] for i in inside])
            total += len(inside) / len(probabilities) * abs(gap)
    return total


def logistic_intercept(verdicts, x, ridge):
    """Intercept of a penalised logistic regression, by a search on ever finer grids."""
    a = b = 0.0
    width = 16.0
    while width > 1e-7:
        grid = np.linspace(-width, width, 9)
        z = (a + grid)[:, None, None] + (b + grid)[None, :, None] * x
        loss = (np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - verdicts * z).sum(-1)
        loss += ridge / 2 * ((a + grid)[:, None] ** 2 + (b + grid)[None, :] ** 2)
        i, j = np.unravel_index(np.argmin(loss), loss.shape)
        a, b, width = a + grid[i], b + grid[j], width * (0.5 if 0 < i < 8 and 0 < j < 8 else 1.0)
    return a
