"""From conversations to tokens and back. The only place that loads a tokenizer; the text is made in ``rendering``."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from baro.data.prefix import bos_in_front, without_prefix_space
from baro.data.rendering import Kind, Rendered, Rendering
from baro.errors import ConfigError
from baro.hub import is_hub_id, snapshot
from baro.records import Conversation

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


class Encoded(NamedTuple):
    """One completion as tokens.

    prompt_ids: exactly what the sampler is fed. completion_ids: what follows, up to the last end-of-turn token. scored:
    which completion tokens carry loss. last: index of the last end-of-turn token, else of the last token; -1 for none.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    scored: list[bool]
    last: int


class Template:
    """A tokenizer and the text around the turns.

    bos: the token that every sequence begins with, None where the tokenizer does not put one there itself (GPT-2 has a
    BOS that its model never saw in front). end_of_turn: what ends an assistant turn. end_ids: what ends generation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, kind: Kind = "auto") -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"{tokenizer.name_or_path}: the tokenizer has no tokenizer.json; save it as a fast tokenizer"
            )
        self.tokenizer = tokenizer
        self.rendering = Rendering(tokenizer, kind)
        self.text, self.kind = self.rendering.text, self.rendering.kind
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        added = tokenizer.added_tokens_decoder
        self._added = frozenset(added)
        self._special = frozenset(i for i, token in added.items() if token.special)
        self.bos = bos_in_front(tokenizer)
        self.eos: int | None = tokenizer.eos_token_id
        self._anchor = self._backend.encode(":", add_special_tokens=False).ids
        closing = self._backend.encode(self.rendering.closing, add_special_tokens=False).ids
        self.end_of_turn = next((i for i in closing if i in self._added), None)
        self._closing = None if self.kind == "open" else self.eos  # what ends an answer that its template does not end
        self.end_ids = frozenset(i for i in (self._closing, self.end_of_turn) if i is not None)

    @classmethod
    def load(cls, folder: str | Path, kind: Kind = "auto") -> Template:
        """The tokenizer of a model folder or hub id. auto: its own chat template, ``plain`` if it has none."""
        path = snapshot(str(folder)) if is_hub_id(folder) else Path(folder)
        if not path.is_dir():
            raise ConfigError(f"{folder}: no such model folder")
        if not any(path.iterdir()):
            raise ConfigError(
                f"{folder}: the model folder is empty; it needs config.json, *.safetensors and a tokenizer"
            )
        if not any((path / name).exists() for name in _TOKENIZER_FILES):
            raise ConfigError(
                f"{folder}: no tokenizer in the folder; put tokenizer.json and tokenizer_config.json there"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the libraries raise whatever a damaged file makes them raise
            raise ConfigError(f"{folder}: the tokenizer cannot be loaded ({error}); save it again") from error
        return cls(tokenizer, kind)

    # ------------------------------------------------------------------------------------------------- tokens out

    def encode(self, prompt: Conversation, completion: Conversation) -> Encoded:
        """Tokens and scored marks of one completion; an empty prompt means raw text."""
        if prompt:
            return self.tokenize([self.rendering.answered(prompt, completion)])[0]
        pieces = self.encode_text("".join(turn.content for turn in completion), sys.maxsize)
        return pieces[0] if pieces else Encoded(self._with_bos([]), [], [], -1)

    def encode_prompt(self, prompt: Conversation) -> list[int]:
        """What the sampler is fed: the prompt, and the words that open the assistant's turn."""
        return self.tokenize_prompts([self.rendering.prompt(prompt)])[0]

    def encode_text(self, text: str, max_length: int) -> list[Encoded]:
        """``encode_texts`` of one text."""
        return self.encode_texts([text], max_length)[0]

    def encode_texts(self, texts: Sequence[str], max_length: int) -> list[list[Encoded]]:
        """Raw text and its EOS, cut into consecutive pieces of at most ``max_length`` tokens, BOS included.

        Without BOS nothing predicts a piece's first token, so that it is not scored; a piece without any scored token
        is left out.
        """
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [self._pieces(one.ids, max_length) for one in encoded]

    def _pieces(self, ids: list[int], max_length: int) -> list[Encoded]:
        if ids and self._closing is not None and ids[-1] not in self.end_ids:
            ids.append(self._closing)
        if ids and ids[0] == self.bos:
            ids = ids[1:]
        prompt_ids = [] if self.bos is None else [self.bos]
        room = max(max_length - len(prompt_ids), 1)
        pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
        encoded = [_finished(prompt_ids, piece, [True] * len(piece), self.end_ids) for piece in pieces]
        return [one for one in encoded if any(one.scored)]

    def tokenize_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of many rendered prompts."""
        return [self._with_bos(one.ids) for one in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def tokenize(self, rendered: Sequence[Rendered]) -> list[Encoded]:
        """Tokens of many; equal texts (a pair's prompt) are tokenised once."""
        prompts = self._encodings(one.prompt for one in rendered)
        wholes = self._encodings(one.whole for one in rendered)
        return [self._encoded(one, prompts[one.prompt].ids, wholes[one.whole]) for one in rendered]

    @cached_property
    def _bare(self) -> Tokenizer:
        return without_prefix_space(self._backend)

    def _encodings(self, texts: Iterable[str]) -> dict[str, Any]:
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, self._backend.encode_batch(unique, add_special_tokens=False), strict=True))

    def _encoded(self, rendered: Rendered, prompt_ids: list[int], whole: Any) -> Encoded:
        if whole.ids[: len(prompt_ids)] == prompt_ids:
            tail, skipped, shift = whole, len(prompt_ids), 0
        else:  # a token reaches over the boundary; no sampler could have drawn it
            tail = self._bare.encode(rendered.whole[len(rendered.prompt) :], add_special_tokens=False)
            skipped, shift = 0, len(rendered.prompt)
        ids = tail.ids[skipped:]
        if rendered.spans == ((len(rendered.prompt), len(rendered.whole)),):
            scored = [True] * len(ids)
        else:
            scored = _marks([start + shift for start, _ in tail.offsets[skipped:]], rendered.spans)
        ids, scored = self._ended(ids, _until_end(ids, scored, self.end_of_turn), bool(rendered.spans))
        return _finished(self._with_bos(prompt_ids), ids, scored, self.end_ids)

    def _ended(self, ids: list[int], scored: list[bool], answered: bool) -> tuple[list[int], list[bool]]:
        """Cut what the template writes after the last end-of-turn token; add EOS where it writes no end at all."""
        length = next((i for i in range(len(scored), 0, -1) if scored[i - 1]), 0)
        ids, scored = ids[:length], scored[:length]
        if answered and self.end_of_turn is None and self._closing is not None:
            return [*ids, self._closing], [*scored, True]
        return ids, scored

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    # ------------------------------------------------------------------------------------------------- text out

    def decode(self, ids: Sequence[int]) -> str:
        """A completion's text without end and special tokens; half a character at the end becomes U+FFFD."""
        kept = [i for i in ids if i not in self.end_ids and i not in self._special]
        anchor = self._backend.decode(self._anchor, skip_special_tokens=True)
        text = self._backend.decode([*self._anchor, *kept], skip_special_tokens=True)
        return text.removeprefix(anchor).removeprefix(self.rendering.lead)

    def visible(self, ids: Sequence[int]) -> str:
        """Any tokens as text, special ones written out: for people. A space at the beginning is not lost."""
        anchor = self._backend.decode(self._anchor, skip_special_tokens=False)
        return self._backend.decode([*self._anchor, *ids], skip_special_tokens=False).removeprefix(anchor)

    def describe(self) -> str:
        """One line for the user."""
        ids = {self.bos, *self.end_ids}
        names = {i: str(self.tokenizer.convert_ids_to_tokens(i)) for i in ids if i is not None}
        bos = names.get(self.bos, "none")
        ends = ", ".join(names[i] for i in sorted(self.end_ids)) or "none, so that answers never end by themselves"
        words = {
            "plain": "plain (User: … Assistant: …)",
            "none": "none (raw continuation)",
            "open": "open (raw continuation that nothing ends)",
        }
        kind = words.get(self.kind, "the tokenizer's own")
        return f"template: {kind}; begins with {bos}; ends with {ends}; fingerprint {self.fingerprint}"

    # ------------------------------------------------------------------------------------------------- identity

    @property
    def special(self) -> dict[str, int | None]:
        """Ids for a model's config. pad is never EOS: a tokenizer without one lends its unknown token, or id 0."""
        candidates = (self.tokenizer.pad_token_id, getattr(self.tokenizer, "unk_token_id", None), 0)
        pad = next((i for i in candidates if i is not None and i not in self.end_ids), None)
        return {"bos": self.bos, "eos": self.eos, "pad": pad}

    @property
    def vocabulary(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """Equal if and only if the same text becomes the same tokens: template, tokenizer and special ids."""
        backend = json.loads(self._backend.to_str())
        identity = [self.text, backend, self.bos, sorted(self.end_ids)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """The tokenizer with this template as its chat template: a plain Hugging Face folder renders the same."""
        before = self.tokenizer.chat_template
        self.tokenizer.chat_template = self.text
        self.tokenizer.save_pretrained(folder)
        self.tokenizer.chat_template = before


def _marks(starts: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens begin inside an assistant's turn."""
    return [any(low <= start < high for low, high in spans) for start in starts]


def _until_end(ids: list[int], scored: list[bool], end_of_turn: int | None) -> list[bool]:
    """In each run of scored tokens, no mark after its last end-of-turn token: nobody samples what follows it."""
    if end_of_turn not in ids[:-1]:  # nothing follows one
        return scored
    marks: list[bool] = []
    for mark, run in groupby(zip(ids, scored, strict=True), key=lambda pair: pair[1]):
        tokens = [token for token, _ in run]
        end = max((i for i, token in enumerate(tokens) if token == end_of_turn), default=len(tokens) - 1)
        marks += [mark and i <= end for i in range(len(tokens))]
    return marks


def _finished(prompt_ids: list[int], ids: list[int], scored: list[bool], ends: frozenset[int]) -> Encoded:
    if not prompt_ids and scored:
        scored = [False, *scored[1:]]  # nothing predicts the very first token
    return Encoded(prompt_ids, ids, scored, last_end(ids, ends))


def last_end(ids: Sequence[int], ends: frozenset[int]) -> int:
    """Where a last-token reward head reads: the last end-of-turn token, else the last token; -1 for no token."""
    return next((i for i in reversed(range(len(ids))) if ids[i] in ends), len(ids) - 1)
