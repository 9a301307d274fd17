"""Names, secrets, hashes and the clock of the feedback store."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from typing import Any

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def now_ms() -> int:
    """UTC, in milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A ULID of 26 letters: 48 bits of time, 16 that count within a millisecond, 64 random bits.

    Every id of a process sorts after those that it made before, even when its clock is set back.
    """
    number = _ticks.next() << 64 | int.from_bytes(os.urandom(8))
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def looks_like_id(text: str) -> bool:
    """Whether a name could be taken for an id: no name may, so that what finds one of both never finds the other."""
    return len(text) == 26 and text.isascii() and set(text.upper()) <= set(_CROCKFORD)


class _Ticks:
    """Numbers that ascend: milliseconds, with a counter that runs over into the next one."""

    def __init__(self) -> None:
        self._last, self._turn = 0, threading.Lock()

    def next(self) -> int:
        with self._turn:
            self._last = max(self._last + 1, now_ms() << 16)
            return self._last


_ticks = _Ticks()


def new_secret() -> str:
    """256 random bits, for an invite, a session or a lease; only its SHA-256 is stored."""
    return secrets.token_urlsafe(32)


def sha256(text: str) -> str:
    """In hex, of the UTF-8 bytes; half surrogate pairs, which JSON can carry, are hashed as they are."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def content_sha256(value: Any) -> str:
    """Of a JSON value, the same however its keys were ordered."""
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def same_secret(given: str, stored_sha256: str) -> bool:
    """Whether a secret is the one that was handed out, in constant time."""
    return hmac.compare_digest(sha256(given), stored_sha256)


def keyed_hash(secret: str, *parts: object) -> bytes:
    """32 bytes that only who knows the secret can compute: drawn orders are reproducible and cannot be guessed."""
    return hmac.digest(secret.encode(), "\x1f".join(map(str, parts)).encode(), "sha256")


def uniform(secret: str, *parts: object) -> float:
    """A number in [0, 1) that is a function of the parts."""
    return int.from_bytes(keyed_hash(secret, *parts)[:8]) / 2**64
