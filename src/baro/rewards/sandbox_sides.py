"""The two sides of a check, each in a process of its own: the program answers calls, the tests make them and decide.

It runs inside the sandbox, behind the walls, and imports the standard library alone. What each side is given comes in
a file in memory, so that the server that both are forked from never holds a program, a test or a nonce.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import gc
import json
import os
import sys
import textwrap
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from baro.rewards.sandbox_values import Unusable, opaque_kinds, packed, receive, send, unpacked

LONGEST_REASON = 300


def given(fd: int) -> dict[str, Any]:
    """What the parent wrote for this side."""
    with os.fdopen(fd, "rb") as file:
        found = json.loads(file.read())
    assert isinstance(found, dict)
    return found


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_REASON] if str(error) else type(error).__name__


def module(name: str) -> types.ModuleType:
    """An empty module that code runs in, known by its name, as classes and pickles of it want."""
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made


# -- the program ------------------------------------------------------------------------------------------------------


def compiled(sources: Sequence[str]) -> types.CodeType:
    """The first of the readings that compiles, the last of all dedented; SyntaxError of the first where none does."""
    first = None
    for source in [*sources, textwrap.dedent(sources[-1])]:
        try:
            return compile(source, "<program>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            first = first or error
    assert first is not None
    raise first


def answer_calls(source: int, calls: int, answers: int) -> None:
    """The program's side: run it, say so, then answer one call after another until the tests end."""
    readings = given(source)["sources"]
    solution = module("solution")
    try:
        exec(compiled(readings), solution.__dict__)
    except BaseException as error:
        send(answers, {"failed": described(error)})
        return
    send(answers, {"ready": True})
    while True:
        try:
            call = receive(calls)
        except EOFError:
            return
        send(answers, answer(solution.__dict__, call))


def answer(names: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """``value``, or ``raised`` with the built-in exceptions that the program's extends, or why there is neither."""
    if call["name"] not in names:
        return {"failed": f"the program defines no {call['name']!r}"}
    try:
        value = names[call["name"]](*unpacked(call["args"]), **unpacked(call["kwargs"]))
        return {"value": packed(value)}
    except Exception as error:
        kinds = [one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins"]
        return {"raised": kinds, "text": str(error)[:LONGEST_REASON]}
    except BaseException as error:
        return {"failed": f"the program ended with {described(error)}"}


def run_script(source: int) -> NoReturn:
    """A whole program with its standard input and output, as ``python program.py`` would run it."""
    readings = given(source)["sources"]
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    status = 0
    try:
        exec(compiled(readings), module("__main__").__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(ValueError, OSError):  # the program may have closed it, and said all before
        sys.stdout.flush()
    os._exit(status & 255)


# -- the tests --------------------------------------------------------------------------------------------------------


class Refused(BaseException):
    """The tests cannot be run here, whatever the program: no score, but an error."""


class Ended(Unusable):
    """The program's process is no more."""

    def __init__(self) -> None:
        super().__init__("the program's process has ended")


class Program:
    """The program as its tests see it: functions that ask the other process."""

    def __init__(self, calls: int, answers: int) -> None:
        self.calls, self.answers, self.count = calls, answers, 0

    def begin(self) -> None:
        hello = self._receive()
        if "ready" not in hello:
            raise Unusable(f"the program raised {str(hello.get('failed'))[:LONGEST_REASON]}")

    def function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        message = {"name": name, "args": packed(list(args)), "kwargs": packed(dict(kwargs))}
        for kind in opaque_kinds([message["args"], message["kwargs"]]):
            if kind == "Opaque":
                raise Unusable("the tests pass on what the program returned and what is no Python literal")
            raise Refused(f"the tests pass a {kind} to {name}; only Python literals can be passed")
        self.count += 1
        try:
            send(self.calls, message)
        except BrokenPipeError:
            raise Ended from None
        reply = self._receive()
        if "raised" in reply:
            raise raised(reply)
        if "value" not in reply:
            raise Unusable(str(reply.get("failed", "an answer without a value"))[:LONGEST_REASON])
        return unpacked(reply["value"])

    def _receive(self) -> dict[str, Any]:
        try:
            reply = receive(self.answers)
        except EOFError:
            raise Ended from None
        if not isinstance(reply, dict):
            raise Unusable("a message that is no answer")
        return reply


SILENT = (StopIteration, StopAsyncIteration)  # they would end a loop of the tests as if it were done


def raised(reply: Mapping[str, Any]) -> Exception:
    """The built-in exception that the program's is or extends, marked as the program's."""
    kinds = [getattr(builtins, str(name), None) for name in list(reply["raised"])[:20]]
    known = [one for one in kinds if isinstance(one, type) and issubclass(one, Exception)]
    kind = next(iter(known), RuntimeError)
    if issubclass(kind, SILENT):
        kind = RuntimeError
    try:
        error = kind(str(reply.get("text"))[:LONGEST_REASON])
    except TypeError:  # UnicodeDecodeError and its like want more
        error = next(one for one in (ValueError, RuntimeError) if issubclass(kind, one) or one is RuntimeError)()
    error.of_the_program = True  # type: ignore[attr-defined]
    return error


def decide(modules: Mapping[str, types.ModuleType], source: int, verdict: int, calls: int, answers: int) -> None:
    """The tests' side: run them against the program, and write the verdict behind the nonce."""
    asked = given(source)
    program = Program(calls, answers)
    found: dict[str, Any]
    try:
        run_tests(asked, program, modules)
        if Unusable.first is not None:
            raise Unusable.first
        called = "one call" if program.count == 1 else f"{program.count} calls"
        found = {"passed": True, "reason": f"{called} as the tests want"}
    except Refused as error:
        found = {"error": str(error)[:LONGEST_REASON]}
    except Unusable as error:
        reason = str(error) if str(error).startswith("the ") else f"the tests got {error}"
        found = {"passed": False, "reason": reason, "ended": isinstance(error, Ended)}
    except BaseException as error:
        found = judged(error, called=program.count > 0)
    os.write(verdict, (asked["nonce"] + json.dumps(found, allow_nan=False)).encode())


def judged(error: BaseException, *, called: bool) -> dict[str, Any]:
    """A failed test; an error where the tests need what they do not define, or fail before they call the program."""
    if getattr(error, "of_the_program", False):
        return {"passed": False, "reason": f"the program raised {described(error)}"}
    if isinstance(error, NameError | ImportError | SyntaxError):
        return {"error": f"the tests cannot run: {described(error)}"}
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return {"error": f"the tests end by {type(error).__name__}"}
    if not called:
        return {"error": f"the tests fail before they call the program: {described(error)}"}
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == "<tests>"]
    where = f"line {frames[-1].lineno} of the tests: " if frames else ""
    return {"passed": False, "reason": where + described(error)}


def run_tests(asked: Mapping[str, Any], program: Program, modules: Mapping[str, types.ModuleType]) -> None:
    """Helpers (from the prompt) and set-up first, then the tests with the program's functions under their names."""
    tests = module("tests")
    names = tests.__dict__
    names |= dict(modules)
    if asked["helpers"]:
        quietly(asked["helpers"], names)
    tree = ast.parse(asked["tests"], "<tests>")
    code = compile(tree, "<tests>", "exec")
    entry = asked["entry_point"]
    program.begin()
    for name in [entry] if entry else [*asked["functions"], *missing(tree, names)]:
        names[name] = program.function(name)
    exec(code, names)
    if entry and callable(names.get("check")):
        names[entry] = program.function(entry)
        names["check"](names[entry])
    if not program.count:
        raise Refused("the tests never call the program")


def quietly(helpers: str, names: dict[str, Any]) -> None:
    """Run a prompt that is code, for the functions it defines; one that fails has none, and tests then miss them."""
    with contextlib.suppress(Exception):
        exec(compile(helpers, "<prompt>", "exec"), names)


def missing(tree: ast.AST, names: Mapping[str, Any]) -> list[str]:
    """The names that tests use and nobody but the program can define; never one of Python's own."""
    loaded: dict[str, None] = {}
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                loaded[node.id] = None
            else:
                bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return [name for name in loaded if name not in bound and name not in names and not hasattr(builtins, name)]


def begin_side() -> None:
    """Collect garbage again; what the server made stays frozen, so that its pages stay shared."""
    gc.enable()
