"""Compares answers with math-verify, inside the sandbox: it evaluates what it reads, and its time has no end.

It is imported there alone, by the server before any fork, and called in a process that has a deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

library = import_module("math_verify")
sympy = import_module("sympy")
undefined = import_module("sympy.core.function").AppliedUndef
for _name in ("math_verify", "latex2sympy2_extended"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # of these alone: what the whole process says is not ours


def check(value: dict[str, str]) -> dict[str, Any]:
    """``right``, ``reason`` and what was ``read`` of an ``answer``, a text, by the ``gold`` one.

    ``error`` where gold cannot be read.
    """
    written = value["gold"]
    gold = read(written if "\\boxed" in written or "$" in written else f"\\boxed{{{written}}}")
    if not any(not isinstance(one, str) for one in gold):
        return {"error": f"math-verify reads nothing in the row's answer {written[:60]!r}"}
    answer = read(value["answer"])
    if not answer:
        return {"right": False, "reason": "there is no answer that math-verify reads"}
    said, form = str(answer[-1])[:60], form_of(answer[0])
    for one in answer:
        false = next(false_equations(one), None)
        if false is not None:
            reason = f"{said}: {str(false.lhs)[:40]} is not {str(false.rhs)[:40]}"
            return {"right": False, "reason": reason, "read": said}
    right = library.verify(gold, answer, timeout_seconds=None, raise_on_error=True)
    reason = f"{said} is right" if right else f"{said}, right is {written[:60]}"
    return {"right": right, "reason": reason, "read": form}


def read(text: str) -> list[Any]:
    """What math-verify finds in a text: expressions, and the text that it took."""
    found = library.parse(text, parsing_timeout=None)
    return list(found)


def form_of(found: Any) -> str:
    """One form for equal numbers, however written, and for what an equation gives; others as SymPy has them."""
    given = found.rhs if isinstance(found, sympy.Equality) else found
    return str(sympy.Rational(str(given)) if isinstance(given, sympy.Float) else given)[:200]


def false_equations(found: Any) -> Iterator[Any]:
    """Equations between numbers that do not hold: math-verify takes ``17 = 18`` for 18, as it does ``x = 18``."""
    if isinstance(found, sympy.Basic):
        for one in found.atoms(sympy.Equality) | ({found} if isinstance(found, sympy.Equality) else set()):
            if not one.free_symbols and not one.atoms(undefined) and differ(one.lhs, one.rhs):
                yield one


def differ(one: Any, other: Any) -> bool:
    """Whether two numbers differ by more than rounding."""
    distance = sympy.N(sympy.Abs(one - other))
    return bool(distance.is_number and distance.is_comparable and distance > 1e-9 * (1 + sympy.N(sympy.Abs(other))))


for usual in (
    "18",
    "1{,}000.5",
    "-\\frac{1}{2}",
    "x^2+2x",
    "\\{1,2\\}",
    "(0,1]",
    "x=\\sqrt{2}",
    "2\\cdot 9=18",
    "50\\%",
):
    check(
        {"gold": usual, "answer": f"It is $\\boxed{{{usual}}}$."}
    )  # what is compiled at its first use, before any fork
check({"gold": "18", "answer": "It is 18."})
