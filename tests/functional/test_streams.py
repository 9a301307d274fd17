"""Random streams: what two things draw is never the same, and nothing draws from anywhere else."""

import ast
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from baro.functional.streams import Domain, permutation, stream, stream_key

SOURCE = Path(__file__).parents[2] / "src" / "baro"
DOMAINS = get_args(Domain)
PARTS = [(0,), (0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (0, "main", 0), (0, "ptx", 0)]


def test_the_numbers_are_these():
    assert stream_key("epoch", 0, "main", 0) == 10115589324213433963
    assert stream_key("sample", 3, 1, 2) == 11667427123653499137
    assert permutation(6, "epoch", 5, "main", 0).tolist() == [5, 1, 4, 3, 0, 2]


def test_no_two_domains_or_places_share_a_stream():
    drawn = {(d, p): stream(d, *p).random(4) for d, p in product(DOMAINS, PARTS)}
    for (one, a), (other, b) in combinations(drawn.items(), 2):
        assert not np.isin(a, b).any(), (one, other)
    again = stream("epoch", 0).random(4)
    assert (again == drawn["epoch", (0,)]).all()


@cache
def every_call() -> list[tuple[str, str, ast.Call]]:
    """Of each call in the source: the file below src/baro, the last part of the function's name, the call."""
    return [
        (path.relative_to(SOURCE).as_posix(), ast.unparse(node.func).split(".")[-1], node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def calls(*names: str) -> list[tuple[str, ast.Call]]:
    """Where functions of these names are called: the file below src/baro, and the call."""
    return [(path, node) for path, name, node in every_call() if name in names]


def test_every_domain_is_drawn_from_in_one_place():
    """Two call sites of one domain would share numbers: the second use needs a name of its own."""
    named = [
        node.value
        for path, call in calls("stream_key", "stream", "permutation")
        if path != "functional/streams.py"
        for node in call.args
        if isinstance(node, ast.Constant) and node.value in DOMAINS
    ]
    assert sorted(named) == sorted(DOMAINS)


# What else makes random numbers, and why it is not a stream of a run.
OTHERS = {
    "functional/streams.py": "the streams",
    "rollout/engine.py": "a stream for each sample of a key that the caller names",
    "functional/statistics.py": "the resamples of a bootstrap",
    "demo/world.py": "the demo's data, with a purpose of its own beside the seed",
    "demo/raters.py": "the same",
    "trainer.py": "torch's own generator, from the domain 'step'",
    "models/heads.py": "a new head's weights",
    "models/load.py": "a new model's weights",
    "models/lora.py": "new adapters' weights",
}


GENERATORS = ["Philox", "PCG64", "default_rng", "RandomState", "manual_seed", "Random", "SystemRandom", "shuffle"]


@pytest.mark.parametrize("name", GENERATORS)
def test_nothing_draws_from_anywhere_else(name):
    core = {path for path, _ in calls(name) if not path.startswith("feedback/")}
    assert core <= OTHERS.keys(), f"random numbers in {sorted(core - OTHERS.keys())}; take a stream by name"
