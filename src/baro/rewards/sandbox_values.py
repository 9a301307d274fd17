"""What crosses between a program and its tests: the values of Python's literals, as JSON in frames of at most 1 MiB.

    frame = length (4 bytes, big-endian) | JSON
    None, bool, int, float, str -> themselves        list -> array        everything else -> {tag: ...}

Nothing is evaluated, and no class of one side exists on the other: what is no literal arrives as an `Opaque`.
It runs inside the sandbox and imports the standard library alone.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

MOST_BYTES = 1 << 20
MOST_ITEMS = 10_000  # of an iterator, which arrives as far as this
DEEPEST = 100


class Unusable(BaseException):
    """What came across is no value that a test can look at. A test that catches it does not pass by that."""

    first: Unusable | None = None

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        Unusable.first = Unusable.first or self


def send(fd: int, message: Any) -> None:
    """Unusable for a message of more than 1 MiB."""
    body = json.dumps(message).encode()
    if len(body) > MOST_BYTES:
        raise Unusable(f"a value of {len(body)} bytes; at most {MOST_BYTES} cross")
    frame = struct.pack(">I", len(body)) + body
    while frame:
        frame = frame[os.write(fd, frame) :]


def receive(fd: int) -> Any:
    """EOFError where the other side has ended, Unusable for what is no frame."""
    (length,) = struct.unpack(">I", _exactly(fd, 4))
    if length > MOST_BYTES:
        raise Unusable(f"a message of {length} bytes; at most {MOST_BYTES} cross")
    try:
        return json.loads(_exactly(fd, length))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"a message that is no JSON ({type(error).__name__})") from None


def _exactly(fd: int, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = os.read(fd, min(count - len(found), 65536))
        if not part:
            raise EOFError
        found += part
    return found


class Opaque:
    """Something that is no literal: it has a truth value, as its program said, and nothing else can be done with it."""

    def __init__(self, kind: str, true: bool) -> None:
        self.__kind, self.__true = kind, true

    def __bool__(self) -> bool:
        return self.__true

    def __repr__(self) -> str:
        return f"<{self.__kind} of the program>"

    def __refuse(self, *_: Any) -> NoReturn:
        raise Unusable(f"a {self.__kind}, which is no Python literal, so that the tests cannot look into it")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __iter__ = __len__ = __getitem__ = __refuse
    __call__ = __contains__ = __getattr__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __refuse
    __float__ = __int__ = __index__ = __str__ = __format__ = __abs__ = __neg__ = __round__ = __next__ = __refuse


def packed(value: Any, deep: int = 0) -> Any:
    """As JSON holds it. Subclasses go as the type that they extend; a value that is no literal as its type's name."""
    if deep > DEEPEST:
        raise Unusable(f"a value nested more than {DEEPEST} deep")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [packed(one, deep + 1) for one in list(value)]
    for tag, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {tag: [packed(one, deep + 1) for one in iter(value)]}
    if isinstance(value, dict):
        return {"dict": [[packed(key, deep + 1), packed(one, deep + 1)] for key, one in dict(value).items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes" if isinstance(value, bytes) else "bytearray": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [float(value.real), float(value.imag)]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, int | float | str):
        plain: Any = next(kind for kind in (int, float, str) if isinstance(value, kind))
        return plain.__new__(plain, value)
    if value is Ellipsis:
        return {"ellipsis": None}
    if isinstance(value, Iterator):
        first = list(itertools.islice(value, MOST_ITEMS + 1))
        items = [packed(one, deep + 1) for one in first[:MOST_ITEMS]]
        return {"iterator": items, "more": len(first) > MOST_ITEMS}
    return {"opaque": type(value).__name__[:80], "true": bool(value)}


_SEQUENCES: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def unpacked(message: Any, deep: int = 0) -> Any:
    """The value again; Unusable for anything that `packed` does not make."""
    if deep > 2 * DEEPEST:
        raise Unusable("a value nested too deep")
    if isinstance(message, list):
        return [unpacked(one, deep + 1) for one in message]
    if not isinstance(message, dict):
        return message
    try:
        return _tagged(message, deep + 1)
    except Exception as error:  # a StopIteration would end a loop of the tests as if it were done
        raise Unusable(f"a message that holds no value ({type(error).__name__})") from None


def _tagged(message: dict[str, Any], deep: int) -> Any:
    tag, body = next(iter(message.items()))
    if tag in _SEQUENCES:
        return _SEQUENCES[tag](unpacked(one, deep) for one in list(body))
    if tag == "dict":
        return {unpacked(key, deep): unpacked(value, deep) for key, value in body}
    if tag in ("bytes", "bytearray"):
        return (bytes if tag == "bytes" else bytearray).fromhex(body)
    if tag == "complex":
        return complex(float(body[0]), float(body[1]))
    if tag == "range":
        return range(*(int(one) for one in body))
    if tag == "iterator":
        return _items([unpacked(one, deep) for one in list(body)], bool(message["more"]))
    if tag == "ellipsis":
        return ...
    if tag == "opaque":
        return Opaque(str(body)[:80], message["true"] is True)
    raise ValueError(tag)


def _items(first: list[Any], more: bool) -> Iterator[Any]:
    yield from first
    if more:
        raise Unusable(f"an iterator of more than {MOST_ITEMS} items")


def opaque_kinds(message: Any) -> Iterator[str]:
    """The types, in a packed message, of what is no literal."""
    if isinstance(message, dict) and "opaque" in message:
        yield message["opaque"]
    for inner in message.values() if isinstance(message, dict) else message if isinstance(message, list) else ():
        yield from opaque_kinds(inner)
