"""safetensors files written one tensor at a time and hashed on the way: no copy of a model is made for its file.

8 bytes   the header's length, little-endian
header    JSON: {"name": {"dtype", "shape", "data_offsets": [first, last]}, ...}, spaces up to a multiple of 8
data      the tensors' bytes, row-major, little-endian, without gaps
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def in_file_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The widest types first, else as given: then every tensor begins at a multiple of its type's width."""
    return dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], whole: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Write a file; ``whole`` gives each tensor in its turn, on the CPU. Returns its size and SHA-256.

    Raises TypeError for a type that safetensors has no name for, and OSError as files do.
    """
    header, end = {}, 0
    for name, tensor in in_file_order(tensors).items():
        if tensor.dtype not in NAMES:
            raise TypeError(f"{name} is of type {tensor.dtype}, which no safetensors file holds")
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    described = json.dumps(header, allow_nan=False).encode()
    described += b" " * (-len(described) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        pieces = (len(described).to_bytes(8, "little"), described)
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        for tensor in in_file_order(tensors).values():
            content = _bytes(whole(tensor))
            digest.update(content)
            file.write(content)
            del content  # before the next one is made
    return {"bytes": 8 + len(described) + end, "sha256": digest.hexdigest()}


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's memory, or a row-major copy's where it lies otherwise."""
    whole = tensor.detach().resolve_neg().contiguous()
    flat = whole.as_strided((whole.numel(),), (1,))  # of one number, any stride counts as contiguous
    return flat.view(torch.uint8).numpy().data if len(flat) else memoryview(b"")
