"""Tensors in files: equal weights give equal files, and what cannot be the weights of a network is found."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fusionlib.utils.errors import one_line
from fusionlib.utils.files import not_a_file

LONGEST = 870_000_000  # bytes of a file of weights; the largest of a compared method, with its CLIP, has 860 million
PART = 1 << 22  # numbers that are looked at together, since that takes memory of its own
NUMBERS = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
           torch.int8, torch.uint8, torch.bool}  # fmt: skip


def serialise(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file, the same for equal tensors and metadata.

    safetensors writes the metadata in an order that differs from process to process, so they are sorted here.
    """
    data = save(tensors, metadata)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text + data[start:]


def require_readable(path: Path) -> None:
    """ValueError for a file of weights that is too long or, of torch, would take long or much memory to read."""
    if found := not_a_file(path, LONGEST):
        raise ValueError(f"it is {found}")
    if path.suffix != ".safetensors":
        from fusionlib.utils.pickles import require_plain  # the package's own weights do without

        require_plain(path)


def require_weights(tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors of a file of `size` bytes that no network has written.

    Raises:
        ValueError: one is sparse, quantised, of a type that no network is trained in, without values or not finite; or
            together they are larger than the file, as a single number is that a file states to be a huge tensor.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.dtype not in NUMBERS:
            raise ValueError(f"{short(name)} is no plain tensor of numbers")
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    for name, tensor in tensors.items():
        parts = tensor.reshape(-1).split(PART) if tensor.dtype.is_floating_point else ()
        if not all(part.isfinite().all() for part in parts):
            raise ValueError(f"{short(name)} is not finite everywhere")


def short(text) -> str:
    """A name that a file states, for a sentence: one line of at most 120 characters."""
    return one_line(str(text)[:120])
